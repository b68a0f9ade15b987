# %% [markdown]
"""What do LayerNorm and GELU do to a gradient?  One removes two directions from it, the other weighs each element.

You will see both derived, with their Jacobians by formula, by backward and by complex step; the book's formulas, an
operation for each step, beside the fused kernels that replace them; and what fusing saves.  Takes about 3 s;
--fast: 2 s.
"""

# %%
import tracemalloc
from math import erf, pi
from time import perf_counter

from _deep_dive import DeepDive

# isort: split
import numpy as np

from nanograd_gpt import Tensor
from nanograd_gpt.nn import functional as F
from nanograd_gpt.viz.palette import BLUE, GREEN, ORANGE, PURPLE
from nanograd_gpt.viz.plots import new_figure, style

dive = DeepDive(__doc__)
rng = np.random.default_rng(123)
C, EPS = 8, 1e-5


# %% [markdown]
# **The book's formulas** (sections 4.2 and 4.3), in operations of the engine.


# %%
def book_layer_norm(x, scale, shift):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / (variance + EPS).sqrt() * scale + shift


def book_gelu(x):
    return 0.5 * x * (1 + (np.sqrt(2 / pi) * (x + 0.044715 * x**3)).tanh())


def jacobian(function, at):
    """Derivatives of each output (rows) by each input (columns), by one backward per output."""
    rows = []
    for unit in np.eye(at.size):
        x = Tensor(at, requires_grad=True)
        function(x).backward(unit)
        rows.append(x.grad)
    return np.array(rows)


def by_complex_step(function, at, h=1e-20):
    columns = [function(Tensor(at + 1j * h * unit)).data.imag / h for unit in np.eye(at.size)]
    return np.stack(columns, axis=1)


# %% [markdown]
# **LayerNorm.** With the mean m and s = sqrt(variance + eps), y = (x - m) / s.  A change of one x moves its own y by
# 1/s, all of them through the mean by -1/(C s), and all through s, whose derivative by x_j is y_j / C:
#
#     dy_i/dx_j = (1/s) ([i = j] - 1/C - y_i y_j / C)
#
# So a gradient loses its component along (1, ..., 1), for LayerNorm ignores a shift of all x, and nearly all of the one
# along y, for it ignores a scaling but for eps.  What is left is divided by s.

# %%
x = 3 * rng.standard_normal(C) + 1
ones, zeros = np.ones(C), np.zeros(C)
s = np.sqrt(x.var() + EPS)
y = (x - x.mean()) / s
formula = (np.eye(C) - 1 / C - np.outer(y, y) / C) / s
fused = jacobian(lambda x: F.layer_norm(x, ones, zeros, EPS), x)
composed = jacobian(lambda x: book_layer_norm(x, ones, zeros), x)
exact = by_complex_step(lambda x: F.layer_norm(x, ones, zeros, EPS), x)
errors = [np.abs(j - formula).max() for j in (fused, composed, exact)]
print("LayerNorm's Jacobian, largest differences to the formula:")
print(f"  fused {errors[0]:.0e}, the book's {errors[1]:.0e}, complex step {errors[2]:.0e}")
dive.claim("all agree with the formula to 1e-14", max(errors) < 1e-14)
singular = np.linalg.svd(fused, compute_uv=False)
print(f"its singular values: {', '.join(f'{value:.3g}' for value in singular)}; 1/s = {1 / s:.3g}")
dive.claim(f"{C - 2} of {C} directions are divided by s", np.abs(singular[:-2] * s - 1).max() < 1e-12)
dive.claim("the one along y is left with eps / s^3", abs(singular[-2] / (EPS / s**3) - 1) < 1e-6)
dive.claim("the one along (1, ..., 1) with nothing", singular[-1] < 1e-15)

# %% [markdown]
# **GELU** is x times the probability that a normal number is below x.  The book and GPT-2 take a formula with tanh in
# place of the error function.  Its Jacobian is diagonal: the derivative at each x, which exceeds 1 beyond x = 0.75.

# %%
at = np.linspace(-4, 4, 801)
tensor = Tensor(at, requires_grad=True)
gelu = F.gelu(tensor)
gelu.sum().backward()
slope = tensor.grad
normal = np.array([(1 + erf(value / np.sqrt(2))) / 2 for value in at])
t = np.tanh(np.sqrt(2 / pi) * (at + 0.044715 * at**3))
by_hand = (1 + t) / 2 + at * (1 - t * t) / 2 * np.sqrt(2 / pi) * (1 + 3 * 0.044715 * at**2)
apart, lowest, steepest = np.abs(gelu.data - at * normal).max(), gelu.data.argmin(), slope.argmax()
print(
    f"\nGELU: at most {apart:.1e} from the exact one; lowest {gelu.data[lowest]:.3f} at {at[lowest]:.2f}; "
    f"steepest {slope[steepest]:.3f} at {at[steepest]:.2f}"
)
points = at[::100]
diagonal = jacobian(F.gelu, points)
agrees = np.abs(diagonal - by_complex_step(F.gelu, points)).max() < 1e-14
dive.claim("its derivative is the formula's", np.abs(slope - by_hand).max() < 1e-14)
dive.claim(
    "its Jacobian is diagonal, and complex step agrees", agrees and not (diagonal - np.diag(np.diag(diagonal))).any()
)
dive.claim("the formula with tanh is within 5e-4 of the exact one", apart < 5e-4)
dive.claim(
    "it is steepest near sqrt(2), with 1.13",
    abs(at[steepest] - np.sqrt(2)) < 0.03 and round(slope[steepest], 2) == 1.13,
)

# %% [markdown]
# **Fused.** The engine could run the book's formulas as they are.  Each operation would be a node, with an array that
# it keeps for backward, and a pass over memory.  The fused kernels do it in one node and keep what their formula needs.

# %%
N, WIDE = (256, 256) if dive.fast else (1024, 768)
data, dy = (rng.standard_normal((N, WIDE)).astype(np.float32) for _ in range(2))
scale, shift = np.ones(WIDE, dtype=np.float32), np.zeros(WIDE, dtype=np.float32)


def measured(function):
    """Result and gradient, the number of nodes, the bytes kept beside x and y, in units of x, and milliseconds."""
    milliseconds = []
    for _ in range(5):
        x = Tensor(data, requires_grad=True)
        start = perf_counter()
        function(x).backward(dy)
        milliseconds.append(1e3 * (perf_counter() - start))
    tracemalloc.start()
    y = function(Tensor(data, requires_grad=True))
    kept = tracemalloc.get_traced_memory()[0] / data.nbytes - 1  # without y
    tracemalloc.stop()
    nodes, new = set(), {y.node}
    while new:
        nodes |= new
        new = {parent for node in new for parent in node.parents if parent is not None and parent.parents} - nodes
    return y.data, x.grad, len(nodes), kept, np.median(milliseconds)


print(f"\n{N} x {WIDE} numbers in float32:   nodes   kept beside x and y    ms forward and backward")
for name, book, fused in (
    ("LayerNorm", lambda x: book_layer_norm(x, scale, shift), lambda x: F.layer_norm(x, scale, shift, EPS)),
    ("GELU", book_gelu, F.gelu),
):
    results = measured(book), measured(fused)
    for which, (_, _, nodes, kept, ms) in zip(("the book's", "fused"), results, strict=True):
        print(f"  {name:9} {which:16}      {nodes:5}   {kept:22.2f}   {ms:.1f}")
    (y, dx, many, much, _), (fused_y, fused_dx, one, little, _) = results
    same = max(np.abs(y - fused_y).max() / np.abs(y).max(), np.abs(dx - fused_dx).max() / np.abs(dx).max())
    dive.claim(f"{name}: the same to {same:.0e}", same < 2e-6)
    dive.claim(f"{name}: one node for {many}", one == 1 < many)
    dive.claim(f"{name}: {little:.2f} arrays are kept, and not {much:.2f}", little < 0.5 * much)

# %%
with style():
    figure = new_figure(6.2)
    upper, lower = figure.subplots(2, height_ratios=(3, 2))
    i, j = np.indices((C, C))
    for sign, colour, label in ((1, BLUE, "positive"), (-1, ORANGE, "negative")):
        shown = sign * formula > 0
        size = 330 * np.abs(formula[shown]) / np.abs(formula).max()
        upper.scatter(j[shown], i[shown], size, color=colour, marker="s", linewidth=0, label=f"dy/dx, {label}")
    upper.set(
        xlabel="Input x, number",
        ylabel="LayerNorm's output y, number",
        xlim=(-0.6, C - 0.4),
        ylim=(C - 0.4, -0.6),
        aspect="equal",
    )
    upper.set(xticks=range(C), yticks=range(C))
    lower.plot(at, gelu.data, color=GREEN, label="GELU")
    lower.plot(at, slope, "--", color=PURPLE, label="its derivative")
    lower.set(xlabel="x", ylabel="GELU of x")
dive.save(
    figure,
    "07_layernorm_and_gelu",
    "LayerNorm's outputs depend on every input,\nGELU's on their own, by up to 1.13",
)

# %% [markdown]
# **Try this:**
#
# - Set EPS = 1: LayerNorm does not ignore a scaling then, and the direction along y keeps eps / s^3 = 0.07.
# - Replace 0.044715 by 0 in `book_gelu`: the fused kernel's GELU then differs from it, by 3e-2 of the largest.

# %%
dive.end(f"{C} x {C} derivatives of LayerNorm, {at.size} of GELU")
