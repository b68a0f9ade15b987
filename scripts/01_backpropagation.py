# %% [markdown]
"""What is backpropagation?  One backward pass gives the derivative of a result with respect to every value in it.

You will see a small expression computed forward, its derivatives computed backward, the same two ways by hand, and
the graph of both: drawn with every value and every gradient, and step by step in an HTML file.  Takes about 1 s;
--fast: 1 s.
"""

# %%
from functools import partial

from _deep_dive import DeepDive
from _steps_page import steps_page

from nanograd_gpt.files import write_whole
from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.viz.graph import WIDTH, draw_graph, gradients
from nanograd_gpt.viz.graph_layout import NARROWEST

dive = DeepDive(__doc__)

# %%
# The example in micrograd's README (Karpathy 2020), with the numbers it prints.
A, B = -4.0, 2.0
G, DG_DA, DG_DB = 24.7041, 138.8338, 645.5773


def expression(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """Intermediate values and the result g'; `c += ...` creates a new value, called c' here."""
    v = {"a": a, "b": b}
    c = v["c"] = a + b
    d = v["d"] = a * b + b**3
    c += c + 1
    v["c'"] = c
    c += 1 + c + (-a)
    v["c''"] = c
    d += d * 2 + F.maximum(b + a, 0.0)  # max(x, 0) is the ReLU
    v["d'"] = d
    d += 3 * d + F.maximum(b - a, 0.0)
    v["d''"] = d
    e = v["e"] = c - d
    f = v["f"] = e**2
    g = v["g"] = f / 2.0
    g += 10.0 / f
    v["g'"] = g
    return v


# %% [markdown]
# **Forward.** Every operation computes its value and adds a node to the graph, linked to the nodes of its inputs.

# %%
values = expression(Tensor(A, requires_grad=True), Tensor(B, requires_grad=True))
a, b, e, f, g = (values[name] for name in ("a", "b", "e", "f", "g'"))
print(f"forward:  g(a = {A}, b = {B}) = {g.item():.4f}")
dive.claim(f"g = {G}", abs(g.item() - G) < 5e-5)

# %% [markdown]
# **Backward.** Start from dg/dg = 1, visit the nodes from the newest to the oldest, and multiply the gradient that
# arrives at each by its local derivative.  A value used twice accumulates both contributions.

# %%
by_node = gradients(g)  # on a copy of the graph: backward() keeps only those of the leaves a and b
slope = {name: by_node[value.node].item() for name, value in values.items()}
print("\nbackward, from the result to the inputs:")
for name in reversed(values):
    print(f"  {name:4} = {values[name].item():9.4f}    dg'/d{name:4} = {slope[name]:9.4f}")

# %% [markdown]
# The chain rule by hand, for the last two operations.

# %%
x = f.item()
df = 1 / 2 - 10 / x**2  # g' = f/2 + 10/f: two paths from f to g', so two terms
de = df * 2 * e.item()  # f = e^2: the gradient of f times the local derivative 2e
print(f"\nby hand:  dg'/df = 1/2 - 10/f^2 = {df:.4f};  dg'/de = dg'/df 2e = {de:.4f}")
dive.claim("the engine's dg'/df agrees with the one by hand", abs(slope["f"] / df - 1) < 1e-14)
dive.claim("the engine's dg'/de agrees with the one by hand", abs(slope["e"] / de - 1) < 1e-14)

g.backward()
da, db = a.grad.item(), b.grad.item()
print(f"\nbackward():  dg/da = {da:.4f}, dg/db = {db:.4f}")
dive.claim(f"dg/da = {DG_DA}", abs(da - DG_DA) < 5e-5)
dive.claim(f"dg/db = {DG_DB}", abs(db - DG_DB) < 5e-5)

# %% [markdown]
# Four digits could agree by chance.  Move a by a tiny *imaginary* step ih: since g(a + ih) = g + ih g' - ..., the
# imaginary part over h is the derivative.  Nothing is subtracted, so all 16 digits are accurate.

# %%
h = 1e-20
along_a = expression(Tensor(A + 1j * h), Tensor(B + 0j))["g'"].item().imag / h
along_b = expression(Tensor(A + 0j), Tensor(B + 1j * h))["g'"].item().imag / h
errors = abs(along_a / da - 1), abs(along_b / db - 1)
print(f"complex step:  dg/da = {along_a:.13f}, dg/db = {along_b:.13f}")
print(f"               relative errors {errors[0]:.0e} and {errors[1]:.0e}")
dive.claim("backward and complex step agree to 1e-14", max(errors) < 1e-14)

# %% [markdown]
# The same graph, drawn, for a page and for a phone: each box has a formula, its value and its gradient.

# %%
print()
for name, width in (("01_backpropagation.svg", WIDTH), ("01_backpropagation_narrow.svg", NARROWEST)):
    start = (Tensor(value, requires_grad=True) for value in (A, B))
    graph = draw_graph(partial(expression, *start), width=width)
    print(f"wrote {graph.save(dive.out / name)}")
graph  # noqa: B018  # a notebook shows a cell's last expression

# %% [markdown]
# And all of it step by step, in one HTML file for a browser: forward one operation at a time, then backward, with what
# each one passes on to its operands.

# %%
page, nodes = steps_page(
    f"Backpropagation through g(a = {A:g}, b = {B:g})",
    lambda: expression(Tensor(A, requires_grad=True), Tensor(B, requires_grad=True)),
)
write_whole(dive.out / "01_backpropagation.html", page.encode())
print(f"wrote {dive.out / '01_backpropagation.html'}, {len(nodes)} nodes")
sums = [
    sum(p for n in nodes for j, p in zip(n["operands"], n["passed"], strict=True) if j == i) for i in range(len(nodes))
]
whole = max(abs(total - node["gradient"]) for total, node in zip(sums[:-1], nodes, strict=False))
dive.claim("each node's gradient is the sum of what is passed on to it", whole < 1e-12 * max(map(abs, sums)))

# %% [markdown]
# **Try this:**
#
# - Set A = 2, the value of B.  Then b - a is 0, the kink of its ReLU: backward shares the gradient of a tie,
#   the complex step sees one side only, and they differ by some percent.
# - In `expression`, replace `f / 2.0` by `f`: dg'/df becomes 1 - 10/f^2, and every gradient before it grows by the same
#   factor, 2.0084.
#
# The claims with numbers for A = -4 and B = 2 fail then, as they should.

# %%
dive.end(f"g = {g.item():.4f}, dg/da = {da:.4f}, dg/db = {db:.4f}")
