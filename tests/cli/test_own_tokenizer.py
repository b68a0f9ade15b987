"""Weights with their own tokenizer: every command uses it, whatever the size of its vocabulary."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli.commands import COURSE, TEXT, fails, nanograd, works

from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator
from nanograd_gpt.tokenizer.encoding import Tokenizer, encode, end_of_text, token_bytes
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer, save_tokenizer, train_tokenizer
from nanograd_gpt.training.config import from_toml
from nanograd_gpt.training.sources import pretrained_tokenizer
from nanograd_gpt.weights.save import save_pretrained

GOLDENS = Path(__file__).parents[1] / "goldens"
PROMPT = "the old miller"


@pytest.fixture(scope="session")
def gpt2_sized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with as many ids as GPT-2, but other merges; `<|endoftext|>` is the last id of both."""
    ranks = train_tokenizer(TEXT, 60)._mergeable_ranks
    parts = {"pat_str": get_tokenizer("gpt2")._pat_str, "mergeable_ranks": ranks}
    tokenizer = Tokenizer("other", eot_token=50256, special_tokens={"<|endoftext|>": 50256}, **parts)
    model = GPTModel(GPTConfig(50257, 16, 8, 2, 1, 0.0, qkv_bias=True), rng=Generator(5))
    return save_pretrained(tmp_path_factory.mktemp("weights") / "other", model, tokenizer)


@pytest.fixture(scope="session")
def bare(gpt2_sized: Path) -> Path:
    """These weights without their tokenizer."""
    bare = Path(shutil.copytree(gpt2_sized, gpt2_sized.with_name("bare")))
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        (bare / name).unlink()
    return bare


def commands(weights: Path, data: Path) -> dict[str, list[object]]:
    return {
        "generate": ["generate", "--model", weights, "--prompt", PROMPT, "--max-new-tokens", 8],
        "evaluate": ["evaluate", "--model", weights, "--data", data],
        "explain-next": ["explain-next", "--model", weights, "--prompt", PROMPT],
    }


def printed(command: list[object]) -> str:
    result = nanograd(*command)
    assert result.code == 0, result
    return result.out


@pytest.mark.parametrize("name", ["generate", "evaluate", "explain-next"])
def test_a_command_uses_the_tokenizer_beside_the_weights(name: str, gpt2_sized: Path, bare: Path, data: Path) -> None:
    own = printed(commands(gpt2_sized, data)[name])
    file = printed(commands(gpt2_sized / "model.safetensors", data)[name])
    without = printed(commands(bare, data)[name])
    named = printed([*commands(bare, data)[name], "--tokenizer", gpt2_sized])
    assert own == file == named != without
    assert printed([*commands(gpt2_sized, data)[name], "--tokenizer", "gpt2"]) == without


def test_the_tokens_evaluated_are_its_own(gpt2_sized: Path, data: Path) -> None:
    n = len(encode(data.read_text(encoding="utf-8"), get_tokenizer(gpt2_sized)))
    assert f": {n - 1} tokens predicted" in printed(commands(gpt2_sized, data)["evaluate"])


def test_what_is_taken_for_padding_is_told(gpt2_sized: Path, bare: Path, data: Path) -> None:
    result = nanograd(*commands(bare, data)["generate"], "--tokenizer", GOLDENS / "tokenizer_json")
    assert result.code == 0
    assert "has 349 tokens, the model 50,257: the other ids are padding and never generated" in result.err
    assert result.err.startswith("note: ")
    assert result.err.count("\n") == 1


def test_a_training_from_weights_has_their_tokenizer(gpt2_sized: Path, data: Path, tmp_path: Path) -> None:
    out = works("train", "--out", tmp_path / "run", "--data", data, "--weights", gpt2_sized, *COURSE, "--max-steps", 1)
    assert "vocabulary 317 padded to 50,257" in out
    assert token_bytes(get_tokenizer(tmp_path / "run" / "tokenizer.json")) == token_bytes(get_tokenizer(gpt2_sized))
    assert from_toml(tmp_path / "run" / "config.toml")["tokenizer"] == str(gpt2_sized / "tokenizer.json")
    works("generate", "--model", tmp_path / "run", "--temperature", 3.0, "--prompt", "the")
    works("train", "--resume", tmp_path / "run", "--max-steps", 2)


@pytest.mark.parametrize("kind", ["tokenizer_json", "tokenizer_vocab"])
def test_a_training_takes_their_files_by_name(kind: str, data: Path, tmp_path: Path) -> None:
    sizes = ["--n-layers", 1, "--emb-dim", 8, "--n-heads", 2, "--context-length", 8]
    command = ["train", "--out", tmp_path / "run", "--data", data, *sizes, *COURSE, "--max-steps", 1]
    assert "vocabulary 349;" in works(*command, "--tokenizer", GOLDENS / kind)
    tokenizer = get_tokenizer(tmp_path / "run" / "tokenizer.json")
    assert (token_bytes(tokenizer), end_of_text(tokenizer)) == (
        token_bytes(get_tokenizer(GOLDENS / kind)),
        end_of_text(get_tokenizer(GOLDENS / kind)),
    )
    works("evaluate", "--model", tmp_path / "run")
    works("explain-next", "--model", tmp_path / "run", "--prompt", PROMPT)
    works("generate", "--model", tmp_path / "run", "--beams", 2, "--prompt", "the")


@pytest.mark.parametrize("target", ["out.safetensors", "out"])
def test_a_tokenizer_goes_where_its_model_goes(target: str, trained: Path, tmp_path: Path) -> None:
    own = get_tokenizer(trained / "tokenizer.json")
    works("convert", trained, tmp_path / target)
    assert token_bytes(pretrained_tokenizer(tmp_path / target)) == token_bytes(own)
    expected = works("generate", "--model", trained, "--prompt", PROMPT)
    assert works("generate", "--model", tmp_path / target, "--prompt", PROMPT) == expected
    works("convert", tmp_path / target, tmp_path / "further")
    assert works("generate", "--model", tmp_path / "further", "--prompt", PROMPT) == expected
    assert f"{tmp_path / 'further' / 'tokenizer.json'}, 307 tokens" in works("info", tmp_path / "further")


def test_a_tokenizer_may_be_given_to_convert(trained: Path, model_file: Path, tmp_path: Path) -> None:
    works("convert", model_file, tmp_path / "without")
    assert not (tmp_path / "without" / "tokenizer.json").exists()
    works("convert", model_file, tmp_path / "with", "--tokenizer", trained)
    assert json.loads((tmp_path / "with" / "config.json").read_text())["eos_token_id"] == 306


def test_weights_of_gpt2s_vocabulary_without_a_tokenizer_are_written_with_gpt2s(bare: Path, tmp_path: Path) -> None:
    out = works("convert", bare, tmp_path / "out")
    assert out.splitlines()[0] == f"{tmp_path / 'out' / 'tokenizer.json'}: the model's tokenizer, 50,257 tokens"
    assert token_bytes(get_tokenizer(tmp_path / "out")) == token_bytes(get_tokenizer("gpt2"))
    works("convert", bare, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.tokenizer.json").exists()


def test_convert_writes_over_no_tokenizer(trained: Path, tmp_path: Path) -> None:
    save_tokenizer(train_tokenizer("", 0), tmp_path / "out.tokenizer.json")
    message = fails("convert", trained, tmp_path / "out.safetensors")
    assert message == f"convert: {tmp_path / 'out.tokenizer.json'} exists already; give a new name"
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("name", ["generate", "evaluate", "explain-next", "train", "convert"])
def test_a_tokenizer_that_cannot_be_used_is_told_of_in_one_line(
    name: str, gpt2_sized: Path, data: Path, tmp_path: Path
) -> None:
    weights = Path(shutil.copytree(gpt2_sized, tmp_path / "weights"))
    document = json.loads((weights / "tokenizer.json").read_text(encoding="utf-8"))
    document["normalizer"] = {"type": "NFKC"}
    (weights / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    command = {
        **commands(weights, data),
        "train": ["train", "--weights", weights, "--data", data, "--out", tmp_path / "run"],
        "convert": ["convert", weights, tmp_path / "target"],
    }[name]
    assert "unsupported normalizer NFKC; only none is supported" in fails(*command)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "target").exists()


def test_a_tokenizer_larger_than_the_weights_is_refused(tmp_path: Path, data: Path) -> None:
    weights = Path(shutil.copytree(GOLDENS / "gpt2_tied", tmp_path / "weights"))
    shutil.copy(GOLDENS / "tokenizer_json" / "tokenizer.json", weights)
    message = fails("evaluate", "--model", weights, "--data", data)
    assert message.endswith("has 349 tokens, the model 29; give the right one with --tokenizer")


# --- dropout


def test_a_training_does_not_choose_among_three_dropout_rates(gpt2_sized: Path, data: Path, tmp_path: Path) -> None:
    weights = Path(shutil.copytree(gpt2_sized, tmp_path / "weights"))
    config = json.loads((weights / "config.json").read_text(encoding="utf-8"))
    (weights / "config.json").write_text(json.dumps({**config, "attn_pdrop": 0.25}), encoding="utf-8")
    command = ["train", "--out", tmp_path / "run", "--data", data, "--weights", weights, *COURSE, "--max-steps", 1]
    message = fails(*command)
    assert message.startswith("drop_rate: config.json has resid_pdrop 0.0, embd_pdrop 0.0, attn_pdrop 0.25, and ")
    assert message.endswith("; choose it with --drop-rate")
    assert not (tmp_path / "run").exists()
    works(*command, "--drop-rate", 0.25)
    assert from_toml(tmp_path / "run" / "config.toml")["drop_rate"] == 0.25
    for name in ("generate", "evaluate", "explain-next"):
        assert printed(commands(weights, data)[name]) == printed(commands(gpt2_sized, data)[name]).replace(
            str(gpt2_sized), str(weights)
        )
    assert "attn_pdrop 0.25" in works("info", weights)
    assert np.isfinite(config["resid_pdrop"])
