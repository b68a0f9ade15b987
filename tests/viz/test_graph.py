"""The gradients of all nodes of a graph, and its drawing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nanograd_gpt import tensor
from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.grad_mode import no_grad
from nanograd_gpt.nn import functional as F
from nanograd_gpt.nn.layers import Linear
from nanograd_gpt.nn.module import Module, Sequential
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.viz.graph import WIDTH, draw_graph, gradients
from nanograd_gpt.viz.graph_layout import NARROWEST

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
            gradients(y)


def drawn(compute: object, **options: object) -> str:
    return draw_graph(compute, **options).svg


def boxes(svg: str) -> list[list[str]]:
    """The lines of text of every box, without connectors."""
    found = []
    for element in ET.fromstring(svg):
        if element.tag == f"{SVG}rect":
            found.append([])
            connector = element.get("class") == "connector"
        elif element.tag == f"{SVG}text" and element.get("class") != "legend" and not connector:
            found[-1].append(element.text)
    return [lines for lines in found if lines]


@pytest.fixture
def model() -> GPTModel:
    sizes = {"vocab_size": 20, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 2, "drop_rate": 0.0}
    return GPTModel(sizes, rng=Generator(1))


IDS = np.arange(8)[None]


class TestPicture:
    def test_every_node_has_formula_value_and_gradient(self):
        a, b = Tensor(-4.0, requires_grad=True), Tensor(2.0, requires_grad=True)
        c = Tensor(3.0)

        def compute() -> dict[str, Tensor]:
            d = a * b
            return {"a": a, "b": b, "c": c, "d": d, "result": (d + c) ** 2 / 4 + 10.0 / b + b**-3}

        assert sorted(boxes(drawn(compute))) == [
            ["10 / b", "5.0000", "grad 1.0000"],
            ["a", "-4.0000", "grad -5.0000"],
            ["b", "2.0000", "grad 7.3125"],
            ["b ** -3", "0.1250", "grad 1.0000"],
            ["d + c", "-5.0000", "grad -2.5000"],
            ["d = a * b", "-8.0000", "grad -2.5000"],
            ["result = · + ·", "11.3750", "grad 1.0000"],
            ["· ** 2", "25.0000", "grad 0.2500"],
            ["· + ·", "11.2500", "grad 1.0000"],
            ["· / 4", "6.2500", "grad 1.0000"],
        ]

    def test_numbers_too_small_and_arrays(self):
        tiny, many = Tensor(1e-9, requires_grad=True), Tensor([[1.0, 2.0, 6.0]], requires_grad=True)
        weights = np.array([[0.0, 1.0, 2.0]])
        found = boxes(drawn(lambda: {"tiny": tiny, "many": many, "sum": (many * weights).sum() * tiny}))
        assert ["tiny", "1.000e-09", "grad 14.0000"] in found
        assert ["many", "(1, 3)", "mean 3", "1 … 6", "grad mean 1e-09", "0 … 2e-09"] in found
        assert ["many * (1, 3)", "(1, 3)", "mean 4.67", "0 … 12", "grad mean 1e-09", "1e-09 … 1e-09"] in found
        assert ["sum(·)", "14.0000", "grad 1.000e-09"] in found

    def test_names_are_text(self):
        a = Tensor(1.0, requires_grad=True)
        assert "<b>&'" in texts(drawn(lambda: {"<b>&'": a, "c": a * 2.0}))

    def test_a_leaf_alone_and_a_name_from_elsewhere(self):
        a, other = Tensor(1.0, requires_grad=True), Tensor(2.0, requires_grad=True)
        assert boxes(drawn(lambda: {"other": other, "number": Tensor(3.0), "a": a})) == [["a", "1.0000", "grad 1.0000"]]

    def test_the_same_graph_gives_the_same_text(self):
        def compute() -> Tensor:
            a, b, c = (Tensor(float(i), requires_grad=True) for i in (1, 2, 3))
            return (a * b + b * c + c * a) / (a + b + c)

        assert drawn(compute) == drawn(compute)

    def test_a_line_for_each_use(self):
        x = Tensor(3.0, requires_grad=True)
        assert drawn(lambda: x * x).count('class="tip"') == 2

    @pytest.mark.parametrize("make", ["gpt", "modules", "chain", "narrow"])
    def test_boxes_keep_apart_and_stay_inside_and_rows_wrap(self, make, model):
        x = Tensor(1.0, requires_grad=True)

        def chain() -> Tensor:
            y = x
            for _ in range(30):
                y = y * 1.1 + x
            return y

        width = 390 if make == "narrow" else 1080
        options = {"model": model, "opened": ["trf_blocks.0.ff"]} if make == "modules" else {}
        compute = chain if make in ("chain", "narrow") else lambda: model.loss(IDS, IDS)
        root = ET.fromstring(drawn(compute, width=width, **options))
        places = ("x", "y", "width", "height")
        rectangles = [[float(r.get(n)) for n in places] for r in root.iter(f"{SVG}rect") if r.get("class") != "paper"]
        assert len(rectangles) > 12
        assert float(root.get("width")) <= width
        for i, (x1, y1, w1, h1) in enumerate(rectangles):
            assert x1 >= 0
            assert y1 >= 0
            assert x1 + w1 <= float(root.get("width"))
            assert y1 + h1 <= float(root.get("height"))
            for x2, y2, w2, h2 in rectangles[:i]:
                assert x1 + w1 <= x2 or x2 + w2 <= x1 or y1 + h1 <= y2 + 0.11 or y2 + h2 <= y1 + 0.11

    def test_an_edge_into_the_next_row_has_a_connector_at_both_ends(self):
        x = Tensor(1.0, requires_grad=True)

        def compute() -> dict[str, Tensor]:
            y = x
            for _ in range(12):
                y = y.exp().log()
            return {"x": x, "y": y * x}

        elements = list(ET.fromstring(drawn(compute, width=600)))
        connectors = [i for i, element in enumerate(elements) if element.get("class") == "connector"]
        labels = [elements[i + 1].text for i in connectors]
        assert len(labels) > 8
        assert labels.count("x") == len(labels) / 2
        assert all(labels.count(label) == 2 for label in set(labels) - {"x"})

    def test_lines_run_from_left_to_right(self):
        a, b = Tensor(1.0, requires_grad=True), Tensor(2.0, requires_grad=True)
        svg = drawn(lambda: ((a + b) * a).exp() * b)
        curves = re.findall(r'd="M([\d.]+) [-\d.]+C.* ([\d.]+) [-\d.]+"/><path class="tip"', svg)
        assert curves
        assert all(float(start) < float(end) for start, end in curves)

    def test_it_needs_nothing_from_outside_and_knows_dark_screens(self):
        svg = drawn(lambda: Tensor(1.0, requires_grad=True) * 2.0)
        assert "prefers-color-scheme: dark" in svg
        assert re.findall(r"https?://[^\"]*", svg) == ["http://www.w3.org/2000/svg"]

    def test_text_is_12_pixels_or_more(self):
        svg = drawn(lambda: Tensor(1.0, requires_grad=True) * 2.0)
        assert min(int(size) for size in re.findall(r"(\d+)px", svg)) == 12
        root = ET.fromstring(svg)
        assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"  # not scaled

    @pytest.mark.parametrize("opened", [[], ["trf_blocks.0"]], ids=["closed", "opened"])
    def test_a_gpt_fits_a_page_and_a_phone_with_text_of_11_pixels(self, opened, model):
        for column, width in ((838, WIDTH), (358, NARROWEST)):
            svg = ET.fromstring(drawn(lambda: model.loss(IDS, IDS), model=model, opened=opened, width=width))
            drawn_width = float(svg.get("width"))
            assert 12 * column / drawn_width >= 11
            for text in svg.iter(f"{SVG}text"):
                if text.get("class") == "legend":
                    assert 18 + 6.9 * len("".join(text.itertext())) <= drawn_width

    def test_a_notebook_shows_it_and_save_writes_it(self, tmp_path):
        graph = draw_graph(lambda: Tensor(1.0, requires_grad=True) * 2.0)
        assert graph._repr_svg_() == graph.svg
        assert graph.save(tmp_path / "new" / "graph.svg").read_text(encoding="utf-8") == graph.svg
        with pytest.raises(InputError, match=r"graph: .*graph.png' does not end with .svg"):
            graph.save(tmp_path / "graph.png")


class TestModules:
    def titles(self, svg: str) -> list[str]:
        return [lines[0] for lines in boxes(svg)]

    def test_a_model_is_one_box_for_each_module(self, model):
        svg = drawn(lambda: model.loss(IDS, IDS), model=model, width=5000)
        names = ["tok_emb", "pos_emb", "· + ·", "trf_blocks.0", "trf_blocks.1", "final_norm", "reshape(·)", "out_head"]
        assert sorted(self.titles(svg)) == sorted(names)
        block = next(lines for lines in boxes(svg) if lines[0] == "trf_blocks.1")
        assert block[1:4] == ["TransformerBlock", f"{model.trf_blocks[1].n_parameters} parameters", "(1, 8, 8)"]
        assert svg.count('class="tip"') == 7  # a chain: no edge from inside a box
        head = next(lines for lines in boxes(svg) if lines[0] == "out_head")
        assert head[3:] == ["linear_cross_entropy", f"{model.loss(IDS, IDS).item():.4f}", "grad 1.0000"]

    def test_a_box_has_the_values_and_gradients_of_the_modules_result(self, model):
        svg = drawn(lambda: model.loss(IDS, IDS), model=model)
        hidden = model.trf_blocks[0](model.tok_emb(IDS) + model.pos_emb(np.arange(8)))
        rest = Tensor(hidden.data, requires_grad=True)
        x = model.final_norm(model.trf_blocks[1](rest)).reshape(-1, 8)
        F.linear_cross_entropy(x, model.out_head.weight, IDS[0]).backward()
        expected = [(f"mean {a.mean():.3g}", f"{a.min():.3g} … {a.max():.3g}") for a in (rest.data, rest.grad)]
        block = next(lines for lines in boxes(svg) if lines[0] == "trf_blocks.0")
        assert block[4:] == [*expected[0], f"grad {expected[1][0]}", expected[1][1]]

    def test_an_opened_module_shows_its_parts_and_parameters(self, model):
        svg = drawn(lambda: model.loss(IDS, IDS), model=model, opened=["trf_blocks.0", "trf_blocks.0.att"])
        within = [title for title in self.titles(svg) if title.startswith("trf_blocks.0")]
        projections = [f"trf_blocks.0.att.W_{name}.weight" for name in ("query", "key", "value")]
        assert sorted(within) == sorted(
            [*(f"trf_blocks.0.{name}" for name in ("norm1", "norm2", "ff", "att.out_proj")), *projections]
        )
        assert "trf_blocks.1" in self.titles(svg)
        assert "packed_linear" in "".join(self.titles(svg))

    def test_one_module_can_be_opened_by_its_name_alone(self, model):
        one, several = (
            drawn(lambda: model.loss(IDS, IDS), model=model, opened=o) for o in ("final_norm", ["final_norm"])
        )
        assert one == several
        assert "final_norm.scale" in self.titles(one)

    def test_without_model_every_operation_is_drawn(self, model):
        titles = self.titles(drawn(lambda: model.loss(IDS, IDS)))
        assert titles.count("leaf") == len(model.parameters())
        assert titles.count("causal_attention(·)") == 2

    def test_a_tied_head_is_a_box_apart_from_the_embedding(self):
        sizes = {"vocab_size": 20, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 1, "drop_rate": 0.0}
        model = GPTModel({**sizes, "tied_head": True}, rng=Generator(1))
        titles = self.titles(drawn(lambda: model.loss(IDS, IDS), model=model))
        assert titles.count("tok_emb") == titles.count("out_head") == 1

    def test_a_module_called_twice_is_two_boxes(self):
        layer = Linear(2, 2, rng=Generator(1))
        model = Sequential(layer)
        titles = self.titles(drawn(lambda: layer(layer(Tensor(np.ones((1, 2))))).sum(), model=model))
        assert titles == ["0", "0", "sum(·)"]

    def test_calls_of_another_thread_are_not_recorded(self, model):
        with ThreadPoolExecutor(1) as pool:

            def compute() -> Tensor:
                assert np.isfinite(pool.submit(model.loss, IDS, IDS).result().item())
                return model.loss(IDS, IDS)

            assert drawn(compute, model=model) == drawn(lambda: model.loss(IDS, IDS), model=model)

    def test_what_was_patched_for_recording_is_restored_after_an_error(self):
        before = tensor.record, Module.__call__
        with pytest.raises(ZeroDivisionError):
            draw_graph(lambda: 1 / 0)
        assert (tensor.record, Module.__call__) == before

    def test_an_unknown_module_is_named(self, model):
        with pytest.raises(InputError, match=r"'trf_blocks.O' is not a module of this GPTModel; did you mean 'trf_bl"):
            draw_graph(lambda: model.loss(IDS, IDS), model, opened=["trf_blocks.O"])
        with pytest.raises(InputError, match="opened: 'ff' needs a model with modules"):
            draw_graph(lambda: model.loss(IDS, IDS), opened=["ff"])

    def test_a_tensor_a_vector_and_a_result_from_before_are_errors(self):
        x = leaf(3)
        with pytest.raises(InputError, match=r"expected a function .* lambda: model.loss\(ids, targets\)"):
            draw_graph(x.sum())
        for nothing in (None, {}, {"x": 1.0}):
            with pytest.raises(InputError, match=r"result is (NoneType|float); return a Tensor, or a dictionary"):
                draw_graph(lambda nothing=nothing: nothing)
        with pytest.raises(InputError, match=r"the result has shape \(3,\), not one element"):
            draw_graph(lambda: x * 2.0)
        y = x.sum()
        with pytest.raises(InputError, match="Leaf was computed before draw_graph was called"):
            draw_graph(lambda: y)
