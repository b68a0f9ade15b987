"""A run's settings: TOML round trip, and refused values."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from training.small import one_line

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.config import GPT_CONFIG_124M, PRESETS, GPTConfig
from nanograd_gpt.training.config import book, from_toml, preset

TINY = preset("tiny")
NAN, INF = math.nan, math.inf


# --- there and back


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("base", ["tiny", "gpt2-1558m"])
def test_every_preset_comes_back_from_toml_whatever_it_is_laid_over(tmp_path: Path, name: str, base: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(preset(name).to_toml(), encoding="utf-8")
    assert preset(base).replace(from_toml(path)) == preset(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": 'She said "no",\n\tand \\ left. Grüße 世界 🙂'},
        {"prompt": "\u2028\x85\x1b[1m"},
        {"prompt": "\x7f"},
        {"prompt": ""},
        {"data": "C:\\texts\\a b.txt"},
        {"lr": 1e-5, "weight_decay": 1e20, "min_lr": 5e-324, "drop_rate": 1 / 3},
        {"qkv_bias": True, "seed": 2**64 - 1},
    ],
    ids=["quotes", "controls", "delete", "empty", "backslashes", "floats", "bool"],
)
def test_any_value_comes_back_from_toml(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = TINY.replace(changes)
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert TINY.replace(from_toml(path)) == config


def test_toml_has_a_group_for_the_model_one_for_the_data_and_one_for_the_training() -> None:
    lines = TINY.to_toml().splitlines()
    assert [line for line in lines if line.startswith("[")] == ["[model]", "[data]", "[training]"]
    assert lines.index("emb_dim = 160") < lines.index('data = "story"') < lines.index("lr = 0.002")


@pytest.mark.parametrize(
    "toml", ["lr = 0.5", "[training]\nlr = 0.5", "[any]\nlr = 0.5", "[model]\nlr = 0.5\nemb_dim = 160"]
)
def test_a_setting_is_found_in_whatever_group_it_stands(tmp_path: Path, toml: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(toml, encoding="utf-8")
    assert TINY.replace(from_toml(path)) == TINY.replace({"lr": 0.5})


def test_no_two_groups_share_a_name() -> None:
    names = [f.name for group in TINY.groups().values() for f in fields(group)]
    assert len(names) == len(set(names))


def test_a_change_leaves_the_rest_and_the_original_as_they_are() -> None:
    changed = TINY.replace({"emb_dim": 320, "batch_size": 3})
    expected = asdict(TINY)
    assert asdict(changed) != expected
    expected["model"]["emb_dim"], expected["data"]["batch_size"] = 320, 3
    assert asdict(changed) == expected
    assert preset("tiny") == TINY


def test_whole_numbers_do_for_fractions() -> None:
    lr = TINY.replace({"lr": 1}).training.lr
    assert (lr, type(lr)) == (1.0, float)


@pytest.mark.parametrize(("stride", "expected"), [(0, 64), (1, 1), (100, 100)])
def test_a_stride_of_0_is_the_context_length(stride: int, expected: int) -> None:
    assert TINY.replace({"stride": stride}).stride == expected


def test_the_books_training_is_the_books() -> None:
    config = book()
    assert config.model == GPTConfig.of(GPT_CONFIG_124M)
    assert (config.data.data, config.training.random) == ("the-verdict", "torch")
    t = config.training
    assert (config.data.tokenizer, config.data.batch_size, config.stride) == ("gpt2", 2, 256)
    assert (t.epochs, t.lr, t.weight_decay, t.eval_freq, t.eval_iter) == (10, 4e-4, 0.1, 5, 5)
    assert (t.schedule, t.max_norm, t.accumulate, t.prompt, t.seed) == ("flat", 0, 1, "Every effort moves you", 123)


# --- refusals


@pytest.mark.parametrize(
    ("word", "guess"),
    [
        ("emb_dmi", "did you mean 'emb_dim'?"),
        ("epoch", "did you mean 'epochs'?"),
        ("qqq", "the config.toml of a run lists all"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_likely_one_or_where_all_are(word: str, guess: str) -> None:
    with pytest.raises(InputError) as error:
        TINY.replace({word: 1})
    assert f"setting: {word!r} is unknown; {guess}" in one_line(error)


@pytest.mark.parametrize(
    ("word", "guess"), [("tniy", "did you mean 'tiny'"), ("qqq", "choose one of tiny, tales, gpt2-124m")]
)
def test_an_unknown_preset_is_refused_with_the_likely_one_or_all(word: str, guess: str) -> None:
    with pytest.raises(InputError, match=f"preset: '{word}' is unknown; {guess}") as error:
        preset(word)
    one_line(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 1.5),
        ("epochs", 2.0),
        ("epochs", "2"),
        ("epochs", True),
        ("emb_dim", None),
        ("lr", "0.1"),
        ("lr", True),
        ("lr", [0.1]),
        pytest.param("lr", 10**400, id="lr-too large"),
        ("drop_rate", False),
        ("qkv_bias", 1),
        ("qkv_bias", "true"),
        ("data", 3),
        ("prompt", ["a"]),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}: ") as error:
        TINY.replace({name: value})
    assert len(one_line(error)) < 1000


AT_LEAST_1 = ["epochs", "accumulate", "eval_freq", "eval_iter", "sample_every", "batch_size"]
AT_LEAST_1 += ["vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"]
AT_LEAST_0 = ["max_steps", "warmup_steps", "decay_steps", "checkpoint_every", "seed", "n_merges", "stride"]
FINITE = ["weight_decay", "max_norm", "initial_lr", "min_lr", "lr"]


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in AT_LEAST_1 for value in (0, -1)]
    + [(name, -1) for name in AT_LEAST_0]
    + [(name, value) for name in FINITE for value in (-1e-9, NAN, INF, -INF)]
    + [("lr", 0.0)]
    + [("drop_rate", value) for value in (-0.1, 1.0, 1.5, NAN, INF)]
    + [("train_ratio", value) for value in (0.0, 1.0, -1.0, 2.0, NAN)]
    + [("test_ratio", value) for value in (-0.1, 0.1, 0.5, NAN)]
    + [("schedule", "linear"), ("schedule", ""), ("decay", "none"), ("decay", "vectors"), ("random", "numpy")],
)
def test_a_value_out_of_bounds_is_refused_with_its_name(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}: ") as error:
        TINY.replace({name: value})
    assert str(value) in one_line(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, 1) for name in AT_LEAST_1 if name not in ("emb_dim",)]
    + [(name, 0) for name in AT_LEAST_0]
    + [(name, 0.0) for name in FINITE if name != "lr"]
    + [("lr", 5e-324), ("drop_rate", 0.0), ("drop_rate", 0.999), ("train_ratio", 0.001), ("test_ratio", 0.09)],
)
def test_a_value_on_its_bound_is_allowed(name: str, value: Any) -> None:
    config = TINY.replace({name: value})
    assert value in [getattr(group, name, None) for group in config.groups().values()]


@pytest.mark.parametrize("schedule", ["cosine", "appendix-d"])
def test_a_decay_shorter_than_its_warm_up_is_refused(schedule: str) -> None:
    with pytest.raises(InputError, match="decay_steps: 39 is less than warmup_steps = 40") as error:
        TINY.replace({"schedule": schedule, "warmup_steps": 40, "decay_steps": 39})
    one_line(error)
    TINY.replace({"schedule": schedule, "warmup_steps": 40, "decay_steps": 40})


@pytest.mark.parametrize(("name", "value"), [("decay_steps", 100), ("initial_lr", 1e-5)])
def test_a_setting_that_a_flat_schedule_does_not_use_is_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name}: {value} has no effect with the schedule 'flat'") as error:
        TINY.replace({"schedule": "flat", name: value})
    one_line(error)


def test_an_emb_dim_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(InputError, match="n_heads: 3 does not divide emb_dim = 160; choose 2 or 4, or") as error:
        TINY.replace({"n_heads": 3})
    one_line(error)


@pytest.mark.parametrize(
    "content", [b"lr =", b"lr = 1\nlr = 2", b"\xff", b"not toml", b'prompt = "\x7f"', b"[a\n"], ids=repr
)
def test_a_file_that_is_not_toml_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read \(it is not (TOML|UTF-8)") as error:
        from_toml(path)
    assert str(path) in one_line(error)


@pytest.mark.parametrize("what", ["missing", "a directory"])
def test_a_config_that_cannot_be_read_is_refused_with_its_name(tmp_path: Path, what: str) -> None:
    path = tmp_path / "missing.toml" if what == "missing" else tmp_path
    with pytest.raises(InputError, match="cannot be read") as error:
        from_toml(path)
    assert str(path) in one_line(error)
