"""A page that walks through a scalar computation: forward one operation at a time, then backward."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import numpy as np

from nanograd_gpt.autograd import Function, Node
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.viz.graph import FORMULAS, gradients
from nanograd_gpt.viz.graph_record import recorded

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>TITLE</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root { color-scheme: light dark; --paper: #ffffff; --ink: #24292f; --soft: #59636e; --line: #d8dee4; --now: #fff1c2;
  --operand: #eaf3fa; --slope: #b34700; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6e9ec; --soft: #9aa4af; --line: #30363d;
  --now: #4a3b05; --operand: #1c2b38; --slope: #f0a13c; } }
body { margin: 0 auto; padding: 1rem .75rem 3rem; max-width: 44rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.3rem; margin: 0 0 .5rem; }
p { margin: .5rem 0; }
form { position: sticky; top: 0; padding: .5rem 0; background: var(--paper); border-bottom: 1px solid var(--line); }
.buttons { display: flex; gap: .5rem; align-items: center; }
button { font: inherit; padding: .3rem .8rem; }
input { flex: 1; min-width: 4rem; }
output { display: block; min-height: 4.5rem; padding-top: .4rem; }
table { width: 100%; border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .3rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--soft); }
td:last-child { color: var(--slope); }
tr.now td { background: var(--now); }
tr.operand td { background: var(--operand); }
</style></head><body>
<h1>TITLE</h1>
<p>Each row is a value and the operation that computes it.  Forward fills in values, from the inputs to the result;
backward fills in gradients, from the result to the inputs.</p>
<form hidden><div class="buttons"><button type="button" id="previous">Back</button>
<input type="range" id="step" min="0" value="0" aria-label="Step"><button type="button" id="next">Next</button></div>
<output for="step" aria-live="polite"></output></form>
<table><thead><tr><th scope="col">Operation</th><th scope="col">Value</th><th scope="col">Gradient</th></tr></thead>
<tbody>
ROWS
</tbody></table>
<script>
const nodes = NODES, n = nodes.length;
const rows = [...document.querySelectorAll("tbody tr")], slider = document.getElementById("step");
const shown = x => x.toFixed(4);
function show() {
  const step = Number(slider.value), back = 2 * n - step, gradient = Array(n).fill(null), lines = [];
  let now = null, touched = [];
  if (step > 0 && step <= n) {
    now = step - 1;
    touched = nodes[now].operands;
    lines.push(`Forward, ${step} of ${n}: ${nodes[now].formula} gives ${shown(nodes[now].value)}.`);
  }
  if (step > n) {
    gradient[n - 1] = 1;
    for (let i = n - 1; i >= back; i--) {
      nodes[i].operands.forEach((j, k) => { gradient[j] = (gradient[j] ?? 0) + nodes[i].passed[k]; });
    }
    now = back;
    touched = nodes[now].operands;
    lines.push(`Backward, ${step - n} of ${n}: ${nodes[now].name} has the gradient ${shown(gradient[now])}.`);
    touched.forEach((j, k) => lines.push(`It passes ${shown(nodes[now].passed[k])} on to ${nodes[j].name}.`));
    if (!touched.length) lines.push("It is an input: its gradient is complete.");
  }
  if (step === 0) lines.push(`Step 0 of ${2 * n}: press Next, or move the slider.`);
  document.querySelector("output").textContent = lines.join(" ");
  rows.forEach((row, i) => {
    row.className = i === now ? "now" : touched.includes(i) ? "operand" : "";
    row.cells[1].textContent = i < step ? shown(nodes[i].value) : "";
    row.cells[2].textContent = gradient[i] === null ? "" : shown(gradient[i]);
  });
}
slider.max = 2 * n;
slider.addEventListener("input", show);
for (const [name, by] of [["previous", -1], ["next", 1]])
  document.getElementById(name).addEventListener("click", () => { slider.value = Number(slider.value) + by; show(); });
document.querySelector("form").hidden = false;
show();
</script>
</body></html>
"""


def steps_page(title: str, compute: Callable[[], Mapping[str, Tensor]]) -> tuple[str, list[dict[str, Any]]]:
    """A self-contained page of a scalar computation, and its nodes in the order of the computation.

    compute     returns named Tensors, of which the last is the result; unnamed ones are called t1, t2 ...

    Each node has a name, formula, value, gradient, its operands' indices, and what it passes on to each.
    """
    with recorded() as recording:
        tensors = compute()
    slopes = gradients([*tensors.values()][-1])
    names = {tensor.node: name for name, tensor in tensors.items()}
    unnamed = [node for node in slopes if node not in names]
    names |= {node: f"t{i}" for i, node in enumerate(unnamed, start=1)}
    index = {node: i for i, node in enumerate(slopes)}
    nodes = [
        {
            "name": names[node],
            "formula": _formula(node, names, recording.inputs.get(node, ())),
            "value": float(recording.values[node]),
            "gradient": float(slope),
            "operands": [index[parent] for parent in node.parents if parent is not None],
            "passed": _passed(node, slope),
        }
        for node, slope in slopes.items()
    ]
    rows = [
        f"<tr><td>{escape(node['formula'])}</td><td>{node['value']:.4f}</td><td>{node['gradient']:.4f}</td></tr>"
        for node in nodes
    ]
    script = json.dumps(nodes).replace("<", "\\u003c")  # a name cannot end the script
    page = PAGE.replace("TITLE", escape(title)).replace("ROWS", "\n".join(rows)).replace("NODES", script)
    return page, nodes


def _formula(node: Node, names: Mapping[Node | None, str], inputs: Any) -> str:
    if not isinstance(node, Function):
        return names[node]
    operands = [
        f"{float(np.asarray(array)):g}" if parent is None else names[parent]
        for parent, array in zip(node.parents, inputs, strict=True)
    ]
    kind = type(node).__name__
    return f"{names[node]} = " + FORMULAS.get(kind, f"{kind.lower()}({', '.join(['{}'] * len(operands))})").format(
        *operands
    )


def _passed(node: Node, slope: Any) -> list[float]:
    """The gradients that a node passes on to its operands, by its backward rule."""
    if not isinstance(node, Function):
        return []
    passed = zip(node.parents, node.backward(np.asarray(slope)), strict=True)
    return [float(np.asarray(gradient)) for parent, gradient in passed if parent is not None]
