"""GPTModel against stored results of the document's model in PyTorch (see goldens/make_goldens.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from oracle.closeness import assert_all_close, assert_close

from nanograd_gpt.generation.generate import generate_text
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn import functional as F
from nanograd_gpt.optim import AdamW

GOLDENS = Path(__file__).parents[1] / "goldens"
CONFIG = ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers", "qkv_bias")
PRECISIONS = {np.float64: 1e-12, np.float32: 1e-5}

Golden = dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module", params=["plain", "qkv_bias", "one_head"])
def golden(request: pytest.FixtureRequest) -> Golden:
    with np.load(GOLDENS / f"{request.param}.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(params=PRECISIONS, ids=lambda dtype: dtype.__name__)
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


def under(golden: Golden, folder: str) -> Golden:
    return {name.removeprefix(folder): a for name, a in golden.items() if name.startswith(folder)}


def model_of(golden: Golden, dtype: Any) -> GPTModel:
    sizes = dict(zip(CONFIG, golden["config"].tolist(), strict=True))
    model = GPTModel(sizes | {"qkv_bias": bool(sizes["qkv_bias"]), "drop_rate": 0.0}).to(dtype=dtype)
    model.load_state_dict(under(golden, "weights/"))
    return model


def gradients_of(model: GPTModel) -> Golden:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_logits_equal_pytorchs(golden: Golden, dtype: Any) -> None:
    logits = model_of(golden, dtype)(golden["ids"][0])
    assert logits.dtype == dtype
    assert_close(logits.data, golden["logits"], PRECISIONS[dtype], "logits")


def test_loss_and_all_gradients_equal_pytorchs(golden: Golden, dtype: Any) -> None:
    model = model_of(golden, dtype)
    loss = model.loss(golden["ids"][0], golden["targets"][0])
    loss.backward()
    assert_close(loss.data, golden["loss"], PRECISIONS[dtype], "loss")
    assert_all_close(gradients_of(model), under(golden, "gradients/"), PRECISIONS[dtype])


def test_gradients_through_the_logits_equal_pytorchs(golden: Golden, dtype: Any) -> None:
    model = model_of(golden, dtype)
    F.cross_entropy(model(golden["ids"][0]).flatten(0, 1), golden["targets"][0].ravel()).backward()
    assert_all_close(gradients_of(model), under(golden, "gradients/"), PRECISIONS[dtype])


def trained(golden: Golden, dtype: Any) -> tuple[list[float], GPTModel]:
    model = model_of(golden, dtype)
    lr, beta1, beta2, eps, weight_decay = golden["adamw"].tolist()
    optimizer = AdamW(model.parameters(), lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)
    losses = []
    for step in range(len(golden["losses"])):
        batch = step % len(golden["ids"])
        optimizer.zero_grad()
        loss = model.loss(golden["ids"][batch], golden["targets"][batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model


def test_losses_and_weights_of_a_training_equal_pytorchs(golden: Golden) -> None:
    losses, model = trained(golden, np.float64)
    assert_close(losses, golden["losses"], 1e-10, "losses")
    assert_all_close(model.state_dict(), under(golden, "final/"), 1e-10)


def test_losses_of_a_training_in_float32_stay_with_pytorchs_in_float64(golden: Golden) -> None:
    losses, _ = trained(golden, np.float32)
    assert_close(losses, golden["losses"], 1e-5, "losses")


def test_greedy_continuation_past_the_context_equals_pytorchs(golden: Golden) -> None:
    model = model_of(golden, np.float64)
    expected = golden["continuation"]
    context_length = model.config.context_length
    n_new = 30
    prompt = expected[:, :-n_new]
    assert prompt.size
    assert expected.shape[1] > 2 * context_length
    np.testing.assert_array_equal(generate_text(model, prompt, n_new, context_length), expected)
