"""The page that walks through a computation: its numbers are the engine's, and it needs nothing else."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from _steps_page import steps_page

from nanograd_gpt.tensor import Tensor


@pytest.fixture
def page_and_nodes() -> tuple[str, list[dict[str, Any]]]:
    def compute() -> dict[str, Tensor]:
        a, b = Tensor(3.0, requires_grad=True), Tensor(-2.0, requires_grad=True)
        return {"a": a, "b<": b, "y": a * b + a * 5}

    return steps_page("y & its steps", compute)


def test_each_node_has_its_formula_value_gradient_and_what_it_passes_on(page_and_nodes: Any) -> None:
    a, b, product, more, y = sorted(page_and_nodes[1], key=lambda node: (node["name"], node["formula"]))
    assert (a["formula"], a["value"], a["gradient"], a["passed"]) == ("a", 3.0, 3.0, [])
    assert (b["formula"], b["value"], b["gradient"], b["passed"]) == ("b<", -2.0, 3.0, [])
    assert (product["formula"], product["value"], product["passed"]) == ("t1 = a * b<", -6.0, [-2.0, 3.0])
    assert (more["formula"], more["value"], more["passed"]) == ("t2 = a * 5", 15.0, [5.0])
    assert (y["formula"], y["value"], y["gradient"], y["passed"]) == ("y = t1 + t2", 9.0, 1.0, [1.0, 1.0])


def test_operands_come_before_their_uses_and_the_result_is_last(page_and_nodes: Any) -> None:
    nodes = page_and_nodes[1]
    assert nodes[-1]["name"] == "y"
    assert all(j < i for i, node in enumerate(nodes) for j in node["operands"])


def test_a_value_used_twice_gets_the_sum_of_what_is_passed_on(page_and_nodes: Any) -> None:
    nodes = page_and_nodes[1]
    for i, node in enumerate(nodes[:-1]):
        pairs = [pair for n in nodes for pair in zip(n["operands"], n["passed"], strict=True)]
        assert sum(passed for j, passed in pairs if j == i) == node["gradient"]


def test_the_page_holds_the_nodes_escapes_text_and_names_no_other_file(page_and_nodes: Any) -> None:
    page, nodes = page_and_nodes
    found = re.search(r"const nodes = (\[.*\]), n = nodes", page)
    assert found is not None
    assert json.loads(found[1]) == nodes
    assert "<title>y &amp; its steps</title>" in page
    assert "<td>t1 = a * b&lt;</td><td>-6.0000</td><td>1.0000</td>" in page  # without scripts, the end is shown
    assert re.findall(r"https?:|src=|href=|@import|url\(", page) == []
