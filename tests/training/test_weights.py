"""Training from a model's weights: transfer, required sizes, and the library's interface."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.small import BYTES, CONFIG, TEXT, one_line, small_loader, small_model

from nanograd_gpt.errors import InputError
from nanograd_gpt.optim import AdamW
from nanograd_gpt.training.config import RunConfig, fine_tuning, preset
from nanograd_gpt.training.loop import train_model_simple
from nanograd_gpt.training.loss import calc_loss_loader
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.weights import check_sizes, transfer_weights, weights_hash
from nanograd_gpt.weights.load import load_weights
from nanograd_gpt.weights.save import save_pretrained

LENGTH = CONFIG.context_length


def state_of(model: Any) -> dict[str, Any]:
    return {name: array.copy() for name, array in model.state_dict().items()}


@pytest.mark.parametrize("sizes", [{}, {"tied_head": True}, {"qkv_bias": True, "n_layers": 2}], ids=str)
@pytest.mark.parametrize("length", [LENGTH, LENGTH - 3, 1])
def test_every_weight_is_copied_and_the_first_positions_of_a_shorter_context(
    length: int, sizes: dict[str, Any]
) -> None:
    source = small_model(1, **sizes)
    target = small_model(2, **sizes, context_length=length, drop_rate=0.4)
    before = state_of(source)
    transfer_weights(source, target)
    expected = before | {"pos_emb.weight": before["pos_emb.weight"][:length]}
    assert target.state_dict().keys() == expected.keys()
    for name, array in target.state_dict().items():
        np.testing.assert_array_equal(array, expected[name])
        assert not np.shares_memory(array, source.state_dict()[name])
    ids = np.arange(length)[None]
    np.testing.assert_array_equal(target.eval()(ids).data, source.eval()(ids).data)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"context_length": LENGTH + 1}, "context_length: 9 is longer than the weights'; choose 1 .. 8"),
        ({"emb_dim": 16}, "emb_dim: 16 differs from the weights', which is 8; leave it out"),
        ({"n_heads": 1}, "n_heads: 1 differs from the weights', which is 2; leave it out"),
        ({"n_layers": 2}, "n_layers: 2 differs from the weights', which is 1"),
        ({"vocab_size": 300}, "vocab_size: 300 differs from the weights'"),
        ({"qkv_bias": True}, "qkv_bias: True differs from the weights', which is False"),
        ({"tied_head": True}, "tied_head: True differs from the weights', which is False"),
    ],
    ids=str,
)
def test_other_sizes_are_refused(given: dict[str, Any], says: str) -> None:
    source, target = small_model(1), small_model(2, **given)
    before = state_of(target)
    for refused in (lambda: check_sizes(CONFIG, given), lambda: transfer_weights(source, target)):
        with pytest.raises(InputError) as error:
            refused()
        assert one_line(error).startswith(says)
    for name, array in target.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_dropout_a_shorter_context_and_what_is_no_size_are_free() -> None:
    check_sizes(CONFIG, {"drop_rate": 0.9, "context_length": 1, "emb_dim": CONFIG.emb_dim, "lr": 3, "data": "story"})


def test_the_hash_is_of_every_weight_and_its_name() -> None:
    assert weights_hash(small_model(1)) == weights_hash(small_model(1, drop_rate=0.5))
    for name, array in state_of(small_model(1)).items():
        model = small_model(1)
        model.state_dict()[name][(0,) * array.ndim] += 1
        assert weights_hash(model) != weights_hash(small_model(1))
    parts = (part for name, array in state_of(small_model(1)).items() for part in (name.encode(), array.tobytes()))
    assert weights_hash(small_model(1)) == sha256(b"".join(parts)).hexdigest()


def test_a_run_begins_from_the_weights_whatever_its_seed(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    sizes = {**CONFIG.to_dict(), "drop_rate": 0.3}
    config = preset("tiny").replace({**sizes, "n_merges": 0, "data": str(tmp_path / "text.txt"), "weights": "given"})
    source = small_model(1)
    for seed in (1, 2):
        run = Run(config.replace({"seed": seed}), "cpu")
        run.init_from(source)
        for name, array in source.state_dict().items():
            np.testing.assert_array_equal(run.model.state_dict()[name], array)
        assert run.weights_sha256 == weights_hash(source)
        assert run.model.config.drop_rate == 0.3


def test_fine_tuning_is_a_training_like_any_other_with_smaller_steps() -> None:
    config = fine_tuning()
    assert isinstance(config, RunConfig)
    assert config.training == replace(preset("gpt2-124m").training, lr=5e-5, epochs=2)
    assert config.data.tokenizer == "gpt2"


# --- the library's own way


@pytest.mark.parametrize("tied_head", [False, True])
def test_loaded_weights_go_on_training_in_the_books_loop(
    tmp_path: Path, tied_head: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_pretrained(tmp_path / "theirs", small_model(1, tied_head=tied_head))
    model = load_weights(path)
    train_loader, val_loader = small_loader(TEXT[:600]), small_loader(TEXT[600:], shuffle=False)
    before = calc_loss_loader(val_loader, model, "cpu")
    model.train()
    optimizer = AdamW(model.parameters(), lr=1e-2)
    losses, val_losses, _ = train_model_simple(
        model,
        train_loader,
        val_loader,
        optimizer,
        "cpu",
        num_epochs=4,
        eval_freq=5,
        eval_iter=100,
        start_context="the sun",
        tokenizer=BYTES,
    )
    assert val_losses[-1] < before - 0.5
    assert losses[-1] < losses[0]
    assert (model.out_head.weight is model.tok_emb.weight) is tied_head
    assert capsys.readouterr().out.count("the sun") >= 4
    assert calc_loss_loader(val_loader, load_weights(path), "cpu") == before
