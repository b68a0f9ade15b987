"""Checkpoints: bit-exact round trip; a damaged one is refused and changes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from training.small import CONFIG, one_line, small_loader, small_model

from nanograd_gpt.errors import InputError, RunError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import Generator
from nanograd_gpt.training import checkpoint
from nanograd_gpt.training.checkpoint import load_checkpoint, load_model, read_state, save_checkpoint, save_model

FILES = ["MANIFEST.json", "model.safetensors", "optimizer.safetensors", "state.json"]

Pair = tuple[GPTModel, AdamW]


def trained(steps: int = 2, seed: int = 1, lr: float = 4e-4, **sizes: Any) -> Pair:
    model = small_model(seed, **{"drop_rate": 0.3, "qkv_bias": True, **sizes})
    optimizer = AdamW(model.parameters(), lr=lr, betas=(0.8, 0.99), eps=1e-7, weight_decay=0.2)
    for inputs, targets in [*small_loader()][:steps]:
        optimizer.zero_grad()
        model.loss(inputs, targets).backward()
        optimizer.step()
    return model, optimizer


def contents(model: GPTModel, optimizer: AdamW) -> dict[str, Any]:
    """All bytes of model and optimizer."""
    state = optimizer.state_dict()
    arrays = [*model.state_dict().values(), *state.pop("exp_avg"), *state.pop("exp_avg_sq")]
    return {"arrays": [a.tobytes() for a in arrays], **state, "stream": model.rng.state()}


def flipped(path: Path, byte: int, bit: int = 4) -> None:
    raw = bytearray(path.read_bytes())
    raw[byte] ^= 1 << bit
    path.write_bytes(raw)


def sealed(path: Path) -> None:
    """Rewrite the manifest of a modified checkpoint to match."""
    hashes = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in FILES[1:]}
    (path / "MANIFEST.json").write_text(json.dumps(hashes), encoding="utf-8")


def changed_state(path: Path, **facts: Any) -> None:
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    (path / "state.json").write_text(json.dumps({**state, **facts}), encoding="utf-8")
    sealed(path)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "step_2", *trained(), {"note": ["any", {"JSON": 1.5}]})


# --- there and back


def test_a_checkpoint_is_four_files_and_nothing_else_is_left(saved: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == FILES
    assert [file.name for file in saved.parent.iterdir()] == ["step_2"]


def test_model_and_optimizer_come_back_to_the_last_bit(saved: Path) -> None:
    model, optimizer = trained(0, seed=9)
    state = load_checkpoint(saved, model, optimizer)
    assert contents(model, optimizer) == contents(*trained())
    assert state["note"] == ["any", {"JSON": 1.5}]
    assert GPTModel(state["config"]).config == model.config


def test_both_go_on_as_if_nothing_had_happened(saved: Path) -> None:
    expected, got = trained(), trained(0, seed=9)
    load_checkpoint(saved, *got)
    for model, optimizer in (expected, got):
        for inputs, targets in small_loader(seed=5):
            optimizer.zero_grad()
            model.loss(inputs, targets).backward()
            optimizer.step()
    assert contents(*got) == contents(*expected)


def test_a_restored_optimizer_has_the_saved_learning_rate_and_settings(saved: Path) -> None:
    model = small_model(qkv_bias=True, drop_rate=0.3)
    optimizer = AdamW(model.parameters(), lr=5e-4, weight_decay=0.1)
    load_checkpoint(saved, model, optimizer)
    assert (optimizer.lr, optimizer.betas, optimizer.eps, optimizer.weight_decay) == (4e-4, (0.8, 0.99), 1e-7, 0.2)


@pytest.mark.parametrize("with_optimizer", [True, False])
def test_the_model_is_in_training_mode_with_its_optimizer_and_in_evaluation_mode_alone(
    saved: Path, with_optimizer: bool
) -> None:
    model, optimizer = trained(0)
    load_checkpoint(saved, model.train(not with_optimizer), optimizer if with_optimizer else None)
    assert {module.training for module in model.modules()} == {with_optimizer}


def test_the_model_alone_comes_back_without_its_stream(saved: Path) -> None:
    model = small_model(9, qkv_bias=True, drop_rate=0.3)
    before = model.rng.state()
    load_checkpoint(saved, model)
    assert model.rng.state() == before
    expected, _ = trained()
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, expected.state_dict()[name])


def test_an_untouched_parameter_keeps_its_own_count_of_steps(tmp_path: Path) -> None:
    model, optimizer = trained(0)
    optimizer.steps = [*range(len(optimizer.steps))]
    path = save_checkpoint(tmp_path / "step", model, optimizer)
    other, its_optimizer = trained(0, seed=9)
    load_checkpoint(path, other, its_optimizer)
    assert its_optimizer.steps == optimizer.steps


def test_an_optimizer_of_another_models_parameters_is_refused(tmp_path: Path) -> None:
    (model, _), (_, optimizer) = trained(0), trained(0)
    with pytest.raises(InputError, match="the optimizer has parameters that are not the model's") as error:
        save_checkpoint(tmp_path / "step", model, optimizer)
    one_line(error)
    assert not any(tmp_path.iterdir())


# --- writing it whole or not at all


def test_an_older_checkpoint_of_the_same_name_is_replaced(saved: Path) -> None:
    (saved / "something else").touch()
    later = trained(3)
    assert save_checkpoint(saved, *later) == saved
    got = trained(0)
    load_checkpoint(saved, *got)
    assert contents(*got) == contents(*later)
    assert sorted(file.name for file in saved.iterdir()) == FILES


@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_a_failed_save_leaves_the_older_checkpoint_and_the_next_one_leaves_nothing_partial(
    saved: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    calls = []

    def failing(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            calls.append(args)
            if len(calls) == fails_at + 1:
                raise OSError(28, "No space left on device")
            return original(*args)

        return call

    with monkeypatch.context() as patch:
        for name in ("write_safetensors", "sha256_of"):
            patch.setattr(checkpoint, name, failing(getattr(checkpoint, name)))
        with pytest.raises((OSError, RunError), match=r"No space left|the disk is full"):
            save_checkpoint(saved, *trained(3))
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
    save_checkpoint(saved, *trained(3))
    assert [file.name for file in saved.parent.iterdir()] == ["step_2"]


# --- what cannot be used changes nothing


def removed(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).unlink()


def cut(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:-7])


def empty(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).write_bytes(b"")


def bit(name: str, byte: int) -> Callable[[Path], None]:
    return lambda path: flipped(path / name, byte)


def replaced_by_a_list(path: Path) -> None:
    (path / "MANIFEST.json").write_text("[]", encoding="utf-8")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": shutil.rmtree,
    **{f"{name} missing": removed(name) for name in FILES},
    **{f"{name} cut": cut(name) for name in FILES},
    **{f"{name} empty": empty(name) for name in FILES},
    **{f"{name} flipped at {at}": bit(name, at) for name in FILES for at in (0, 9, 40, -40, -1)},
    "manifest a list": replaced_by_a_list,
    "schema of the future": lambda path: changed_state(path, schema=2),
    "no schema": lambda path: changed_state(path, schema=None),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("with_optimizer", [True, False])
def test_a_damaged_checkpoint_is_named_in_one_line_and_changes_nothing(
    saved: Path, damage: Callable[[Path], None], with_optimizer: bool
) -> None:
    damage(saved)
    model, optimizer = trained(1, seed=9)
    before = contents(model, optimizer)
    with pytest.raises(InputError, match=r"^checkpoint: ") as error:
        load_checkpoint(saved, model, optimizer if with_optimizer else None)
    assert str(saved) in one_line(error)
    assert contents(model, optimizer) == before
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("name", FILES[1:])
@pytest.mark.parametrize("damage", [cut, empty, lambda name: bit(name, -1)], ids=["cut", "empty", "flipped"])
def test_the_damaged_file_is_named(saved: Path, name: str, damage: Callable[[str], Callable[[Path], None]]) -> None:
    damage(name)(saved)
    with pytest.raises(InputError) as error:
        read_state(saved)
    assert f"{saved / name} is damaged" in one_line(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [("vocab_size", 300), ("context_length", 9), ("emb_dim", 12), ("n_heads", 4), ("n_layers", 2), ("drop_rate", 0.0)],
)
def test_a_checkpoint_of_another_configuration_says_where_it_differs(saved: Path, name: str, value: float) -> None:
    model, optimizer = trained(0, **{name: value})
    before = contents(model, optimizer)
    with pytest.raises(InputError, match="is of another configuration") as error:
        load_checkpoint(saved, model, optimizer)
    theirs = {**CONFIG.to_dict(), "drop_rate": 0.3}[name]
    assert f"{name} {theirs} (here {value})" in one_line(error)
    assert str(saved) in one_line(error)
    assert contents(model, optimizer) == before


class OtherStream(Generator):
    """Another stream class, which refuses a Generator's state."""

    def set_state(self, state: dict[str, Any]) -> None:
        raise InputError(f"random state: kind {state['kind']!r} is not mine")


def of_another_stream(path: Path, model: GPTModel) -> None:
    model.rng = OtherStream()


def without_a_weight(path: Path, model: GPTModel) -> None:
    arrays = load_file(path / "model.safetensors")
    del arrays["out_head.weight"]
    save_file(arrays, path / "model.safetensors")
    sealed(path)


def without_a_moment(path: Path, model: GPTModel) -> None:
    arrays = load_file(path / "optimizer.safetensors")
    del arrays["exp_avg_sq.out_head.weight"]
    save_file(arrays, path / "optimizer.safetensors")
    sealed(path)


@pytest.mark.parametrize("misfit", [of_another_stream, without_a_weight, without_a_moment])
def test_a_whole_checkpoint_of_which_one_part_does_not_fit_changes_nothing(
    saved: Path, misfit: Callable[[Path, GPTModel], None]
) -> None:
    model, optimizer = trained(1, seed=9)
    misfit(saved, model)
    before = contents(model, optimizer)
    with pytest.raises(InputError) as error:
        load_checkpoint(saved, model, optimizer)
    one_line(error)
    assert contents(model, optimizer) == before


def test_a_whole_checkpoints_state_can_be_read_alone(saved: Path) -> None:
    state = read_state(saved)
    assert state["schema"] == 1
    assert {*state["optimizer"]["steps"].values()} == {2}
    assert [*state["optimizer"]["steps"]] == [name for name, _ in trained(0)[0].named_parameters()]


# --- the model alone, in one file


def test_a_model_file_holds_weights_and_configuration(tmp_path: Path) -> None:
    model, _ = trained()
    path = save_model(tmp_path / "model.safetensors", model)
    loaded = load_model(path)
    assert loaded.config == model.config
    assert {name: a.tobytes() for name, a in loaded.state_dict().items()} == {
        name: a.tobytes() for name, a in model.state_dict().items()
    }
    assert not any(module.training for module in loaded.modules())
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("book", [False, True])
def test_only_the_books_form_has_masks_and_both_load(tmp_path: Path, book: bool) -> None:
    model = small_model(n_layers=2)
    path = save_model(tmp_path / "model.safetensors", model, book=book)
    arrays = load_file(path)
    masks = {name: a for name, a in arrays.items() if name.endswith(".att.mask")}
    assert [*masks] == ([f"trf_blocks.{i}.att.mask" for i in range(2)] if book else [])
    for mask in masks.values():
        assert mask.dtype == np.float32
        np.testing.assert_array_equal(mask, np.triu(np.ones((8, 8)), k=1))
    assert arrays.keys() - masks.keys() == model.state_dict().keys()
    np.testing.assert_array_equal(load_model(path).out_head.weight.data, model.out_head.weight.data)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.bin", "model.pkl", "model.ckpt"])
def test_a_model_file_named_as_a_pickle_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        InputError, match=r"model\.\w+: weights are written as safetensors; name it .*model\.safetensors$"
    ) as error:
        save_model(tmp_path / name, small_model())
    one_line(error)
    assert [*tmp_path.iterdir()] == []


def test_a_model_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, small_model(1))
    save_model(path, small_model(2))
    np.testing.assert_array_equal(load_model(path).tok_emb.weight.data, small_model(2).tok_emb.weight.data)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def model_file(path: Path, config: Any) -> Path:
    save_file(small_model().state_dict(), path, None if config is None else {"config": config})
    return path


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        '{"vocab_size": 257',
        "[]",
        "3",
        '{"vocab_sise": 257}',
        '{"emb_dim": 7}',
        '{"emb_dim": "8"}',
        '{"drop_rate": "none"}',
        '{"vocab_size": 300, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 1}',
    ],
    ids=["none", "empty", "cut", "list", "number", "name", "size", "text", "rate", "other"],
)
def test_a_model_file_without_a_configuration_that_fits_is_refused(tmp_path: Path, config: str | None) -> None:
    path = model_file(tmp_path / "model.safetensors", config)
    with pytest.raises(InputError) as error:
        load_model(path)
    one_line(error)


@pytest.mark.parametrize("damage", [cut, empty, removed, lambda name: bit(name, 0), lambda name: bit(name, 8)])
def test_a_damaged_model_file_is_named_in_one_line(tmp_path: Path, damage: Callable[..., Any]) -> None:
    path = save_model(tmp_path / "model.safetensors", small_model())
    damage("model.safetensors")(tmp_path)
    with pytest.raises(InputError, match=r"^model: ") as error:
        load_model(path)
    assert str(path) in one_line(error)


def test_no_bit_flipped_in_a_model_files_configuration_raises_anything_but_an_input_error(tmp_path: Path) -> None:
    path = save_model(tmp_path / "model.safetensors", small_model(emb_dim=2, n_heads=1, vocab_size=3))
    raw = path.read_bytes()
    first, behind = raw.index(b'"config"'), raw.index(b"qkv_bias") + 20
    refused = 0
    for position in range(first, behind):
        flipped(path, position, bit=position % 8)
        try:
            load_model(path)
        except InputError:
            refused += 1
        path.write_bytes(raw)
    assert refused > 50
