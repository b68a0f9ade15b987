# %% [markdown]
"""How accurately can a gradient be checked?  A difference loses digits to rounding, an imaginary step none.

You will see the errors of forward, central and Richardson's differences fall and rise again as the step shrinks, and
the complex step's fall to the last digit and stay there.  Takes about 2 s; --fast: 2 s.
"""

# %%
from collections.abc import Callable

from _deep_dive import DeepDive

# isort: split
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from nanograd_gpt.gradcheck import central_difference, forward_difference, richardson
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.viz.palette import BLUE, GREEN, INK, ORANGE, PURPLE
from nanograd_gpt.viz.plots import new_figure, style

dive = DeepDive(__doc__)

# %%
rng = np.random.default_rng(123)
POINT = rng.standard_normal((4, 8))  # where the gradient is checked
SCALE, SHIFT = 1 + 0.1 * rng.standard_normal(8), 0.1 * rng.standard_normal(8)
WEIGHT, TARGETS = rng.standard_normal((10, 8)), np.array([1, 5, 0, 9])

STEPS = 10.0 ** -np.arange(0.5, 16.25, 0.25)  # four per decade
SMALLER = 10.0 ** -np.arange(0.5, 32.25, 0.25)  # for the complex step, which alone works there

# name: colour, order of the error in h, line style, and the range of steps where truncation error dominates
METHODS = {
    "complex step": (BLUE, 2, "-", (1e-6, 1e-1)),
    "forward": (ORANGE, 1, "-", (1e-5, 1e-2)),
    "central": (GREEN, 2, "--", (1e-4, 1e-1)),
    "Richardson": (PURPLE, 6, "-.", (2e-2, 2e-1)),
}
ROUNDING = 2.0**-53  # largest relative error of rounding a number to float64
BEST_CENTRAL = 1e-12, 1e-8
COMPLEX_LIMIT = 1e-14


def loss(x: Tensor) -> Tensor:
    """A miniature of the end of a GPT: GELU, LayerNorm, head, cross-entropy."""
    h = F.layer_norm(F.gelu(x), Tensor(SCALE), Tensor(SHIFT))  # (4, 8)
    return F.cross_entropy(F.linear(h, Tensor(WEIGHT)), TARGETS)


# %% [markdown]
# Backward gives the whole gradient at once.  To test it with a single number, take the directional derivative in
# the direction of the gradient, which is the gradient's norm.

# %%
x = Tensor(POINT, requires_grad=True)
loss(x).backward()
exact = float(np.linalg.norm(x.grad))
direction = x.grad / exact
print(f"loss {loss(x).item():.6f}, slope along its gradient {exact:.15f}")

# %% [markdown]
# (f(x + h) - f(x)) / h has a truncation error of about h f''/2: half the h, half the error.  But the two losses
# agree in more and more digits, which cancel in the subtraction: the rounding error grows like 1e-16 / h.
# So there is a best h, and a lower bound on the error.  Higher orders in h lower that bound; none removes it.

# %%
at = Tensor(POINT)


def difference(rule: Callable[..., np.ndarray]) -> np.ndarray:
    estimates = [float(rule(lambda: loss(at).data, at, direction, h)) for h in STEPS]
    return np.abs(np.array(estimates) / exact - 1)


# %% [markdown]
# The complex step takes the imaginary part of f(x + ih) over h.  Nothing is subtracted, so h can be arbitrarily
# small, and the truncation error, of order h^2, falls below rounding error.


# %%
def complex_step(h: float) -> float:
    return loss(Tensor(POINT + 1j * h * direction)).item().imag / h


curves = {"complex step": (SMALLER, np.array([abs(complex_step(h) / exact - 1) for h in SMALLER]))}
for name, rule in (("forward", forward_difference), ("central", central_difference), ("Richardson", richardson)):
    curves[name] = STEPS, difference(rule)
print("\nrelative error at step    " + "".join(f"{name:>14}" for name in curves))
for k in (1, 2, 4, 6, 8, 12, 16, 32):
    at_k = 4 * k - 2
    cells = [f"{errors[at_k]:.0e}" if at_k < len(errors) else "" for _, errors in curves.values()]
    print(f"{f'1e-{k}':>22}    " + "".join(f"{cell:>14}" for cell in cells))

# %%
print("\norder of the error where truncation dominates:")
for name, (steps, errors) in curves.items():
    _, order, _, (low, high) = METHODS[name]
    part = (steps > low) & (steps < high)
    fall = np.polyfit(np.log(steps[part]), np.log(errors[part]), 1)[0]
    dive.claim(f"{name}: as h^{fall:.2f}, expected {order}", abs(fall - order) < 0.1 * order)

print("\nsmallest errors:")
best = {
    name: np.median(sliding_window_view(e, 3), axis=1).min() for name, (_, e) in curves.items()
}  # median of 3 neighbours: ignores lucky hits
low, high = BEST_CENTRAL
within = low < best["central"] < high
dive.claim(f"central, at best {best['central']:.1e}, is between {low:.0e} and {high:.0e}", within)
dive.claim(f"forward, {best['forward']:.1e}, is worse", best["forward"] > best["central"])
dive.claim(f"Richardson, {best['Richardson']:.1e}, is better", best["Richardson"] < best["central"])
worst = curves["complex step"][1][SMALLER <= 1e-8].max()
dive.claim(f"complex step, at any h <= 1e-8, is below {COMPLEX_LIMIT:.0e}: {worst:.1e}", worst < COMPLEX_LIMIT)

# %%
with style():
    figure = new_figure(3.6)
    axes = figure.subplots()
    for name, (steps, errors) in curves.items():
        colour, order, line, _ = METHODS[name]
        label = f"{name}: error as h" + {1: "", 2: "²", 6: "⁶"}[order]
        axes.loglog(steps, np.maximum(errors, ROUNDING), line, color=colour, label=label)  # 0 has no logarithm
    axes.loglog(STEPS, ROUNDING / STEPS, ":", color=INK, linewidth=1.2, label="rounding of the loss, divided by h")
    axes.axhline(ROUNDING, color=INK, linestyle=(0, (1, 3)), linewidth=1.2, label="rounding of the result, 1.1e-16")
    axes.set(xlabel="Step h", ylabel="Relative error of the derivative", ylim=(2e-17, 1e1))
    axes.set_xticks(10.0 ** np.arange(-32, 1, 8))
    for axis in (axes.xaxis, axes.yaxis):  # not as powers: their exponents are too small to read
        axis.set_major_formatter(lambda x, _: f"1e{np.log10(x):.0f}" if x != 1 else "1")
title = "A smaller step is better only down to\nrounding error, except for the complex step"
dive.save(figure, "02_gradient_microscope", title)

# %% [markdown]
# **Try this:**
#
# - Compute in float32: let POINT, SCALE, SHIFT and WEIGHT be .astype(np.float32).  No method gets far below 1e-7 then,
#   the rounding of such numbers, and most claims fail.
# - Give Richardson the order 4 in METHODS, and its claim fails: two corrections leave an error of h^6.

# %%
dive.end(f"central {best['central']:.0e} at best, complex step {worst:.0e} at worst")
