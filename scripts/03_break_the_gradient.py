# %% [markdown]
"""Who notices a wrong gradient?  The smaller a checker's own error, the smaller the mistakes that it can find.

You will see backward rules with mistakes of every size, from a wrong formula to a constant with ten digits, five
checkers that each find some of them, and the one right rule that the best checker accuses.  Takes about 2 s;
--fast: 2 s.
"""

# %%
from _deep_dive import DeepDive

# isort: split
import numpy as np

from nanograd_gpt import gradcheck
from nanograd_gpt.autograd import Function
from nanograd_gpt.tensor import Tensor, apply
from nanograd_gpt.viz.palette import BLUE, GREEN, INK, ORANGE, PURPLE
from nanograd_gpt.viz.plots import new_figure, style

dive = DeepDive(__doc__)
X = np.random.default_rng(123).standard_normal(6)

# %% [markdown]
# **Backward rules.** Each is an operation of the engine: what forward computes of x, and what backward makes of the
# gradient dy.  All but two have a mistake that somebody has made, or could make.

# %%
ROOT = np.sqrt(2 / np.pi)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(ROOT * (x + 0.044715 * x**3)))


def gelu_backward(root=ROOT, cubic=0.044715):
    def rule(dy, x):
        t = np.tanh(root * (x + cubic * x**3))
        return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * root * (1 + 3 * cubic * x * x))

    return rule


def layer_norm(x, eps=1e-5):
    centred = x - x.mean()
    return centred / np.sqrt((centred * centred).mean() + eps)


def layer_norm_backward(dy, x, eps=0.0):
    y, rstd = layer_norm(x), 1 / np.sqrt(x.var() + eps)
    return rstd * (dy - dy.mean() - y * (dy * y).mean())


def by_float32(dy, x):
    return dy * (1 - np.tanh(x.astype(np.float32)).astype(float) ** 2)


RULES = {  # forward, backward, and the checkers that should find it wrong
    "tanh, right": (np.tanh, lambda dy, x: dy * (1 - np.tanh(x) ** 2), ""),
    "tanh: 1 - x² for 1 - tanh²": (np.tanh, lambda dy, x: dy * (1 - x * x), "forward torch central Richardson complex"),
    "tanh / 10⁶: no gradient": (
        lambda x: 1e-6 * np.tanh(x),
        lambda dy, x: 0 * dy,
        "forward central Richardson complex",
    ),
    "GELU: 0.0447 for 0.044715": (gelu, gelu_backward(cubic=0.0447), "forward central Richardson complex"),
    "LayerNorm: without eps": (layer_norm, layer_norm_backward, "forward central Richardson complex"),
    "tanh: through float32": (np.tanh, by_float32, "central Richardson complex"),
    "GELU: √(2/π) to 8 digits": (gelu, gelu_backward(root=0.79788456), "Richardson complex"),
    "GELU: √(2/π) to 9 digits": (gelu, gelu_backward(root=0.797884561), "complex"),
    "|x|, right": (np.abs, lambda dy, x: dy * np.sign(x), "complex"),  # accused without cause: see below
}


def operation(forward, backward):
    """An operation of the engine from two functions of arrays."""

    class Operation(Function):
        def forward(self, x):
            self.saved = x
            return forward(x)

        def backward(self, dy):
            return (backward(dy, self.saved),)

    return Operation


# %% [markdown]
# **Five checkers.** Each compares backward's Jacobian with one made from values of forward.  Its tolerance must be
# above its own error, or it would accuse right rules.  PyTorch's gradcheck takes central differences too, but its
# defaults accept |a - n| <= 1e-5 + 1e-3 |n| for each element: any mistake below a thousandth, and any gradient below
# 1e-5.


# %%
def within(tolerance):
    return lambda a, n: np.linalg.norm(a - n) <= tolerance * np.linalg.norm(n)


CHECKERS = {  # how the numbers are made, their step, and what is accepted
    "forward": (gradcheck.forward_difference, {"step": 1e-8}, within(1e-6)),
    "torch": (gradcheck.central_difference, {"step": 1e-6}, lambda a, n: (abs(a - n) <= 1e-5 + 1e-3 * abs(n)).all()),
    "central": (gradcheck.central_difference, {"step": 6e-6}, within(1e-8)),
    "Richardson": (gradcheck.richardson, {"step": 1e-2}, within(1e-10)),
    "complex": (gradcheck.complex_step, {}, within(1e-12)),
}
UNITS = np.eye(len(X))


def jacobian(op):
    """The Jacobian by backward, a row for each output."""
    inputs = [Tensor(X, requires_grad=True) for _ in UNITS]
    for x, unit in zip(inputs, UNITS, strict=True):
        apply(op, x).backward(unit)
    return np.array([x.grad for x in inputs])


found, errors = {}, {}
print(f"{'backward rule':28} {'error':>7}   " + "  ".join(CHECKERS))
for name, (forward, backward, _) in RULES.items():
    op = operation(forward, backward)
    by_backward, found[name] = jacobian(op), []
    for checker, (derivative, step, accepts) in CHECKERS.items():
        at = Tensor(X + 0j if checker == "complex" else X)
        columns = [derivative(lambda op=op, at=at: apply(op, at).data, at, unit, **step) for unit in UNITS]
        if not accepts(by_backward, np.stack(columns, axis=1)):
            found[name].append(checker)
    exact = np.sign(X) * UNITS if name == "|x|, right" else np.stack(columns, axis=1)  # by the complex step, the last
    errors[name] = np.linalg.norm(by_backward - exact) / np.linalg.norm(exact)
    marks = "  ".join(f"{'FOUND' if checker in found[name] else '.':^{len(checker)}}" for checker in CHECKERS)
    print(f"{name:28} {errors[name]:7.0e}   {marks}")

# %%
for name, (_, _, expected) in RULES.items():
    dive.claim(f"{name}: found by {expected.replace(' ', ', ') or 'none'}", found[name] == expected.split())
wrong = [name for name in RULES if "right" not in name]
missed = sum("torch" not in found[name] for name in wrong)
dive.claim(f"torch's default tolerances miss {missed} of {len(wrong)} mistakes", missed == len(wrong) - 1)

# %% [markdown]
# **The last row** is a false alarm: the complex step needs a function that is analytic, and |x| of a complex number is
# not.  `check_gradients` takes the complex step, and central differences where it is asked to.

# %%
for name, method in ((wrong[-1], "complex step"), ("|x|, right", "central")):
    op, agrees = operation(*RULES[name][:2]), True
    try:
        worst = gradcheck.check_gradients(lambda x, op=op: apply(op, x), [X], method=method)
        print(f"{name}: {method} agrees to {worst:.0e}")
    except gradcheck.GradientError as error:
        agrees = False
        print(f"{name}: {error}")
    dive.claim(f"check_gradients {'accepts' if 'right' in name else 'refuses'} it", agrees == ("right" in name))

# %%
LINES = {
    "forward": (1e-6, ORANGE, ":"),
    "central": (1e-8, GREEN, "--"),
    "Richardson": (1e-10, PURPLE, "-."),
    "complex": (1e-12, BLUE, "-"),
}
with style():
    figure = new_figure(3.2)
    axes = figure.subplots()
    look = {"color": INK, "markersize": 7, "zorder": 3}
    for y, name in enumerate(wrong):
        axes.plot(errors[name], y, "o", markerfacecolor=INK if "torch" in found[name] else "none", **look)
    for name, (tolerance, colour, line) in LINES.items():
        axes.axvline(tolerance, color=colour, linestyle=line, label=f"{name}: finds what is right of {tolerance:.0e}")
    for colour, label in (("none", "a mistake that torch's defaults miss"), (INK, "a mistake that they find")):
        axes.plot([], [], "o", markerfacecolor=colour, label=label, **look)
    axes.set(xscale="log", xlabel="Relative error", xlim=(1e-13, 10))
    axes.set_yticks(range(len(wrong)), wrong)
    axes.invert_yaxis()
    axes.set_xticks([1e-12, 1e-6, 1], ["1e-12", "1e-6", "1"])
dive.save(figure, "03_break_the_gradient", "Each checker finds the mistakes\nthat are larger than its own error")

# %% [markdown]
# **Try this:**
#
# - In `layer_norm_backward`, set eps=1e-5: the rule is right then, and none finds it wrong.
# - Set the tolerance of Richardson to 1e-16: it finds "tanh, right" wrong, as its own error is larger.

# %%
dive.end(f"{len(wrong)} mistakes, five checkers")
