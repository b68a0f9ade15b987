"""`--model gpt2`: downloads the weights, here from a local server, unless a file of that name exists."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pooch
import pytest
from cli.commands import complaint, fails, finished, nanograd, process, works
from file_server import FileServer

from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.training.checkpoint import save_model
from nanograd_gpt.training.sources import load_pretrained
from nanograd_gpt.weights.cached_download import Remote
from nanograd_gpt.weights.hub import GPT2

CONFIG = GPTConfig(50257, 16, 4, 1, 1, 0.0, True, True)  # GPT-2's vocabulary with few parameters otherwise


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A model named gpt2 on the server, with an empty working directory and an empty cache."""
    content = save_model(tmp_path / "model.safetensors", GPTModel(CONFIG)).read_bytes()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = FileServer(content)
    monkeypatch.setitem(
        GPT2, "gpt2", Remote(server.url, hashlib.sha256(content).hexdigest(), len(content), len(content))
    )
    yield server
    server.close()


def test_every_command_that_takes_a_model_takes_the_name(server: FileServer, tmp_path: Path) -> None:
    prompt = "--prompt", "the sun rose", "--max-new-tokens", 3
    assert works("generate", "--model", "gpt2", *prompt).startswith("the sun rose")
    assert works("generate", "--weights", tmp_path / "cache" / "gpt2.safetensors", *prompt) == works(
        "generate", "--weights", "gpt2", *prompt
    )
    (tmp_path / "text.txt").write_text("the sun rose over a quiet river and an old miller opened his door " * 3)
    assert "perplexity" in works("evaluate", "--model", "gpt2", "--data", tmp_path / "text.txt")
    assert "tied_head        True" in works("info", "gpt2").splitlines()
    works("convert", "gpt2", tmp_path / "theirs")
    assert load_pretrained(tmp_path / "theirs", n_heads=1).config == CONFIG
    assert len(server.sent) == 1  # and cached from then on


def test_a_damaged_entry_of_the_cache_is_a_note_and_another_download(server: FileServer, tmp_path: Path) -> None:
    printed = works("info", "gpt2")
    cached = tmp_path / "cache" / "gpt2.safetensors"
    cached.write_bytes(cached.read_bytes()[:-1])
    result = nanograd("info", "gpt2")
    assert (result.code, result.out) == (0, printed)
    assert result.err.startswith(f"note: model: gpt2: {cached} was damaged and is deleted (its SHA-256 was ")
    assert result.err.endswith("it is downloaded again\n")
    assert result.err.count("\n") == 1
    assert works("info", "gpt2") == printed
    assert len(server.sent) == 2


def test_every_name_of_the_weights_is_a_source(server: FileServer, tmp_path: Path) -> None:
    printed = {works("info", name).split("\npython")[0] for name in ("gpt2", "gpt2-small", "gpt2-124m", "gpt2-124M")}
    assert len(printed) == 1
    (tmp_path / "text.txt").write_text("the sun rose over a quiet river and an old miller opened his door " * 9)
    start = "--init-from", "gpt2-124m", "--data", tmp_path / "text.txt", "--context-length", 8, "--dry-run"
    assert "weights     gpt2-124m" in works("train", *start).splitlines()
    assert len(server.sent) == 1


def test_a_preset_has_one_directory_under_every_name(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the sun rose over a quiet river and an old miller opened his door " * 9)
    for name in ("gpt2", "gpt2-small", "gpt2-124m"):
        sizes = "--preset", name, "--data", tmp_path / "text.txt", "--context-length", 8, "--dry-run"
        assert "directory   runs/gpt2-124m" in works("train", *sizes).splitlines()


def test_a_path_of_that_name_comes_first(server: FileServer, tmp_path: Path) -> None:
    save_model(Path("gpt2"), GPTModel(GPTConfig(300, 8, 4, 1, 1)))
    assert "vocab_size       300" in works("info", "gpt2").splitlines()
    assert server.asked == []


@pytest.mark.parametrize("command", [["generate", "--model"], ["info"], ["evaluate", "--model"]], ids=str)
def test_a_cut_off_download_is_one_line_and_no_model(server: FileServer, command: list[str]) -> None:
    server.cut_after = 1 << 16
    message = fails(*command, "gpt2", code=1)
    assert "model: gpt2: the download was cut off (65,536 of 807," in message
    assert "run this again to go on" in message


def test_what_is_neither_a_path_nor_a_name_is_told_the_names(server: FileServer) -> None:
    message = fails("generate", "--model", "gpt2-huge")
    assert message.startswith("--model: gpt2-huge does not exist")
    assert "gpt2, gpt2-medium, gpt2-large, gpt2-xl" in message


def test_without_a_network_the_line_says_how_to_do_without(tmp_path: Path) -> None:
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    env = {**offline, "XDG_CACHE_HOME": str(tmp_path / "cache"), "no_proxy": "", "NO_PROXY": ""}
    message = complaint(finished(process("generate", "--model", "gpt2", cwd=tmp_path, env=env)), code=1)
    assert "https://huggingface.co/openai-community/gpt2/resolve/" in message
    assert "--weights PATH" in message
