"""The measurements of an update by layer are those of plain formulas, and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from standin.either import simulator_or_gpu
from training.small import CONFIG, small_loader, small_model
from training.small_run import small_config, state

from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn.inference_mode import inference_mode
from nanograd_gpt.optim import AdamW
from nanograd_gpt.tape.recorder import record
from nanograd_gpt.training import layer_scales
from nanograd_gpt.training.layer_scales import layer_weights, with_layer_scales
from nanograd_gpt.training.loop import make_update, training_steps
from nanograd_gpt.training.run import Run


def rms(arrays: list[Any]) -> float:
    flat = np.concatenate([a.reshape(-1) for a in arrays]).astype(np.float64)
    return float(np.sqrt((flat * flat).mean()))


def measured(model: GPTModel, n_batches: int = 1) -> dict[str, Any]:
    """An update measured by hand, and by with_layer_scales."""
    optimizer = AdamW(model.parameters(), lr=0.01)
    update = make_update(model, optimizer, "cpu", None)
    loader = small_loader()
    batches = [*loader.batches(loader.draw_order())][:n_batches]
    residuals: dict[str, list[Any]] = {"embeddings": [], "block 0": []}
    for inputs, _ in batches:
        with inference_mode(model), record(values=["residual"]) as tape:
            model.hidden_states(inputs)
        residuals["embeddings"].append(tape["drop_emb.residual"].value)
        residuals["block 0"].append(tape["trf_blocks.0.residual"].value)
    layers = layer_weights(model)
    before = {layer: [p.data.copy() for p in weights] for layer, weights in layers.items()}
    _, scales = with_layer_scales(model, lambda: update(batches, 0.1))
    changes = {
        layer: [p.data - old for p, old in zip(weights, before[layer], strict=True)]
        for layer, weights in layers.items()
    }
    expected = {
        "update_ratio": {
            layer: rms(changes[layer]) / rms([p.data for p in weights]) for layer, weights in layers.items()
        },
        "gradient_rms": {layer: rms([p.grad for p in weights]) for layer, weights in layers.items()},
        "activation_rms": {layer: rms(arrays) for layer, arrays in residuals.items()},
    }
    return {"expected": expected, "found": scales.event()}


@pytest.mark.parametrize("n_batches", [1, 3])
def test_ratio_gradient_and_activation_are_what_plain_formulas_say(n_batches: int) -> None:
    both = measured(small_model(), n_batches)
    assert both["found"].keys() == both["expected"].keys()
    for name, expected in both["expected"].items():
        assert both["found"][name] == pytest.approx(expected, rel=1e-3), name
    assert [*both["found"]["update_ratio"]] == ["embeddings", "block 0", "head"]


def test_a_tied_head_is_no_layer_of_its_own() -> None:
    assert [*measured(small_model(tied_head=True))["found"]["update_ratio"]] == ["embeddings", "block 0"]


def test_norms_and_biases_are_left_out() -> None:
    weights = layer_weights(small_model())["block 0"]
    assert len(weights) == 6
    assert all(p.ndim == 2 for p in weights)


def test_large_matrices_are_judged_by_evenly_spaced_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    monkeypatch.setattr(layer_scales, "MOST_NUMBERS", 16)
    _, scales = with_layer_scales(model, lambda: None)
    C = CONFIG.emb_dim
    assert scales.sizes["head"] == len(range(0, CONFIG.vocab_size, CONFIG.vocab_size * C // 16)) * C
    head = model.out_head.weight.data[:: CONFIG.vocab_size * C // 16]
    assert float(scales.weights["head"]) == pytest.approx(float(np.sqrt((head * head).sum())))
    assert scales.event()["update_ratio"] == {"embeddings": 0, "block 0": 0, "head": 0}
    assert scales.event()["gradient_rms"] == {}, "no gradient was computed"


@pytest.mark.slow
@pytest.mark.parametrize("where", ["simulator", pytest.param("GPU", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("most", [1 << 16, 4096, 100])
def test_a_gpu_measures_what_the_cpu_does(where: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours in the optimizer's flat array too, of which only one is so large that its rows are sampled."""
    monkeypatch.setattr(layer_scales, "MOST_NUMBERS", most)
    loader = small_loader()
    batches = [*loader.batches(loader.draw_order())][:1]

    def event(device: Any) -> dict[str, Any]:
        model = small_model(vocab_size=256, context_length=1024).to(device)
        update = make_update(model, AdamW(model.parameters(), lr=0.01), device, None)
        return with_layer_scales(model, lambda: update(batches, 1.0))[1].event()

    with simulator_or_gpu(where):
        found = event("cuda")
    for name, by_layer in event("cpu").items():
        assert found[name] == pytest.approx(by_layer, rel=2e-3), name


def test_what_is_not_finite_is_not_measured() -> None:
    model = small_model()
    model.out_head.weight.data[0] = np.nan
    with np.errstate(all="ignore"):
        _, scales = with_layer_scales(model, lambda: None)
    assert scales.event()["update_ratio"] == {"embeddings": 0, "block 0": 0, "head": None}


@pytest.mark.parametrize("every", [1, 2, 3])
def test_updates_0_and_every_nth_after_it_are_measured(every: int) -> None:
    model = small_model()
    optimizer = AdamW(model.parameters())
    loaders = small_loader(), small_loader(shuffle=False)
    course = {"num_epochs": 1, "eval_freq": 100, "eval_iter": 1, "max_steps": 7}
    reports = [*training_steps(model, *loaders, optimizer, "cpu", watch_every=every, **course)]
    assert [r.global_step for r in reports if r.layers is not None] == [*range(0, 7, every)]


def test_measuring_leaves_the_bits_of_a_run_as_they_are(tmp_path: Path) -> None:
    ends = []
    for every in (0, 1, 3):
        run = Run(small_config(tmp_path).replace({"watch_every": every}), "cpu")
        losses = [(float(report.loss), report.evaluation) for report in run.steps()]
        ends.append((losses, state(run)))
    assert ends[0] == ends[1] == ends[2]
