"""Awkward inputs in this process: what has no meaning is refused in one line, and the rest work; see awkward/run.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from awkward.inputs import filled, inputs
from awkward.verdict import wrong
from cli.commands import fails, nanograd, train, works

from nanograd_gpt.cli.main import COMMANDS
from nanograd_gpt.errors import InputError
from nanograd_gpt.tokenizer.tokenizer import save_tokenizer
from nanograd_gpt.training.checkpoint import save_checkpoint, save_model
from nanograd_gpt.training.sources import load_pretrained, pretrained_tokenizer
from nanograd_gpt.weights.save import save_pretrained

EVERY = 4  # of all, which awkward/run.py runs in processes of their own


@pytest.fixture(scope="module")
def paths(trained: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("awkward")
    (place / "file").write_bytes(b"\x00\xff")
    (place / "empty").mkdir()
    long = str(place / ("a" * 300))
    names = {"run": trained, "data": data, "file": place / "file", "empty": place / "empty", "new": place / "new"}
    return {name: str(path) for name, path in names.items()} | {"long": long}


@pytest.mark.parametrize("argv", inputs()[::EVERY], ids=range(0, len(inputs()), EVERY))
def test_an_awkward_input_ends_in_one_line_or_works(
    argv: list[str],
    paths: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code, out, err = nanograd(*filled(argv, paths))
    except SystemExit as end:  # of --help
        code, out, err = int(end.code or 0), *capsys.readouterr()
    fault = wrong(code, out, err)
    assert fault is None, (fault, code, err, argv)
    assert not code or (code == 2 and not any(tmp_path.iterdir())) or code in (1, 3)


def test_the_table_has_hundreds_of_inputs_of_every_kind() -> None:
    chosen = inputs()[::EVERY]
    assert len(chosen) >= 200
    assert {argv[0] for argv in chosen if argv} >= {
        "train",
        "generate",
        "evaluate",
        "explain-next",
        "bench",
        "info",
        "plot",
    }


def test_a_word_of_thousands_of_characters_is_not_repeated_whole() -> None:
    for argv in (["train", "--seed", "9" * 5000], ["a" * 5000], ["info", "b" * 5000], ["train", "--out", "c" * 5000]):
        assert len(fails(*argv)) < 1000


def test_two_dashes_are_a_value_after_an_equals_sign(trained: Path) -> None:
    text = works("generate", trained, "--prompt=--", "--max-new-tokens", 1, "--stop=--")
    assert text.startswith("--")


@pytest.mark.parametrize("place", [".", "/"])
def test_what_is_new_needs_a_name_of_its_own(trained: Path, place: str, tmp_path: Path) -> None:
    model = load_pretrained(trained)
    tokenizer = pretrained_tokenizer(trained)
    for save in (
        lambda: save_model(place, model),
        lambda: save_checkpoint(place, model, None),
        lambda: save_pretrained(place, model),
        lambda: save_tokenizer(tokenizer, place),
    ):
        with pytest.raises(InputError, match="has no name of its own; give a new name"):
            save()


def test_a_file_that_cannot_be_written_is_named_whatever_the_reason(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("nanograd_gpt.cli.plot.write_figures", broken)
    assert fails("plot", trained, code=1) == f"{trained} could not be written (Input/output error)"


def test_a_run_is_estimated_where_no_temporary_file_can_be_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("nanograd_gpt.bench.expected.TemporaryFile", nowhere)
    assert "expected    " in works(*train(tmp_path / "run", data, "--dry-run"))


def test_commands_have_their_help_without_docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in COMMANDS.values():
        monkeypatch.setattr(module, "__doc__", None)  # as under python -OO
    assert "generate" in works()
