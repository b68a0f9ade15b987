"""The gradients of all nodes of a graph, and its drawing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.grad_mode import no_grad
from nanograd_gpt.nn import functional as F
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.viz.graph import draw_graph, gradients

SVG = "{http://www.w3.org/2000/svg}"


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def texts(svg: str) -> list[str]:
    return [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]


class TestGradients:
    def test_an_intermediate_gradient_is_that_of_a_leaf_in_its_place(self):
        def rest(h: Tensor, x: Tensor) -> Tensor:
            return F.cross_entropy(h * h + h, np.array([1, 0, 2])) + (h * x).sum()

        x, weight = leaf(3, 4), leaf(4, 4, seed=1)
        h = F.gelu(F.linear(x, weight))
        by_node = gradients(rest(h, x))
        instead = Tensor(h.data.copy(), requires_grad=True)
        rest(instead, x.detach()).backward()
        np.testing.assert_array_equal(by_node[h.node], instead.grad)

    def test_the_graph_and_its_leaves_stay_as_they_are(self):
        x, weight = leaf(3, 4), leaf(5, 4, seed=1)
        x.node.grad = np.ones((3, 4))
        loss = F.linear_cross_entropy(F.layer_norm(x, Tensor(np.ones(4)), Tensor(np.zeros(4))), weight, np.arange(3))
        by_node = gradients(loss)
        np.testing.assert_array_equal(x.grad, np.ones((3, 4)))
        assert weight.grad is None
        loss.backward()
        np.testing.assert_array_equal(weight.grad, by_node[weight.node])
        np.testing.assert_array_equal(x.grad, 1 + by_node[x.node])

    def test_a_tensor_used_twice_by_one_operation(self):
        x = Tensor(3.0, requires_grad=True)
        y = x * x
        by_node = gradients(y * y)
        assert by_node[y.node] == 18
        assert by_node[x.node] == 108
        assert all(isinstance(g, np.ndarray) for g in by_node.values())

    def test_a_weight_for_each_element_of_what_is_no_scalar(self):
        x = leaf(2, 3)
        weights = np.arange(6.0).reshape(2, 3)
        np.testing.assert_array_equal(gradients(x * 2.0, weights)[x.node], 2 * weights)

    def test_inputs_come_before_what_uses_them(self):
        x = Tensor(2.0, requires_grad=True)
        y = x.exp()
        z = y + x
        assert list(gradients(z)) == [x.node, y.node, z.node]

    def test_no_graph_and_a_freed_one_are_errors(self):
        with pytest.raises(RuntimeError, match="this Tensor has no graph"):
            gradients(Tensor(1.0) * 2.0)
        with no_grad(), pytest.raises(RuntimeError, match="no graph"):
            gradients(leaf() * 2.0)
        y = leaf() * 2.0
        y.backward()
        with pytest.raises(RuntimeError, match="Mul: backward has freed this graph"):
            draw_graph(y, {})


class TestPicture:
    def test_named_values_have_formula_value_and_gradient(self):
        a, b = Tensor(-4.0, requires_grad=True), Tensor(2.0, requires_grad=True)
        c = a * b
        seen = texts(draw_graph(c**2 / b, {"a": a, "b": b, "c": c}))
        for box in (["a", "-4.0000", "-16.0000"], ["b", "2.0000", "16.0000"], ["c = a \u00d7 b", "-8.0000", "-8.0000"]):
            i = seen.index(box[0])
            assert seen[i : i + 3] == box
        assert seen[seen.index("c ^ k") + 1] == "0.5000"
        assert seen[seen.index("· ÷ b") + 1] == "1.0000"

    def test_numbers_too_small_too_large_and_too_many(self):
        tiny, many = Tensor(1e-9, requires_grad=True), leaf(3, 4)
        seen = texts(draw_graph((many * tiny).sum() * 1e9, {"tiny": tiny, "many": many}))
        assert "1.000e-09" in seen
        assert f"norm {np.linalg.norm(many.data):.3g}" in seen

    def test_names_are_text(self):
        a = Tensor(1.0, requires_grad=True)
        assert "<b>&'" in texts(draw_graph(a * 2.0, {"<b>&'": a}))

    def test_a_leaf_alone_and_a_name_from_elsewhere(self):
        a, other = Tensor(1.0, requires_grad=True), Tensor(2.0, requires_grad=True)
        assert texts(draw_graph(a, {"a": a, "other": other, "number": Tensor(3.0)}))[:3] == ["a", "1.0000", "1.0000"]

    def test_the_same_graph_gives_the_same_text(self):
        def drawn() -> str:
            a, b, c = (Tensor(float(i), requires_grad=True) for i in (1, 2, 3))
            return draw_graph((a * b + b * c + c * a) / (a + b + c), {"a": a, "b": b, "c": c})

        assert drawn() == drawn()

    def test_a_line_for_each_use(self):
        x = Tensor(3.0, requires_grad=True)
        assert draw_graph(x * x, {}).count('class="tip"') == 2

    @pytest.mark.parametrize("make", ["gpt", "chain"])
    def test_boxes_keep_apart_and_stay_inside(self, make):
        if make == "gpt":
            sizes = {"vocab_size": 20, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 2, "drop_rate": 0.0}
            model = GPTModel(sizes, rng=Generator(1))
            names = {f"p{i}": p for i, p in enumerate(model.parameters())}
            top = model.loss(np.arange(8)[None], np.arange(8)[None])
        else:
            x = Tensor(1.0, requires_grad=True)
            top, names = x, {"x": x}
            for _ in range(30):
                top = top * 1.1 + x
        root = ET.fromstring(draw_graph(top, names))
        width, height = (float(root.get(side)) for side in ("width", "height"))
        places = ("x", "y", "width", "height")
        boxes = [[float(r.get(n)) for n in places] for r in root.iter(f"{SVG}rect") if r.get("class") != "paper"]
        assert len(boxes) > 30
        for i, (x1, y1, w1, h1) in enumerate(boxes):
            assert x1 >= 0
            assert y1 >= 0
            assert x1 + w1 <= width
            assert y1 + h1 <= height
            for x2, y2, w2, h2 in boxes[:i]:
                assert x1 + w1 <= x2 or x2 + w2 <= x1 or y1 + h1 <= y2 + 0.11 or y2 + h2 <= y1 + 0.11

    def test_lines_run_from_left_to_right(self):
        a, b = Tensor(1.0, requires_grad=True), Tensor(2.0, requires_grad=True)
        svg = draw_graph(((a + b) * a).exp() * b, {"a": a, "b": b})
        curves = re.findall(r'd="M([\d.]+) [-\d.]+C.* ([\d.]+) [-\d.]+"/><path class="tip"', svg)
        assert curves
        assert all(float(start) < float(end) for start, end in curves)

    def test_it_needs_nothing_from_outside_and_knows_dark_screens(self):
        svg = draw_graph(Tensor(1.0, requires_grad=True) * 2.0, {})
        assert "prefers-color-scheme: dark" in svg
        assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]
