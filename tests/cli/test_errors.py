"""Bad input: one line that begins with "error: ", exit code 2, and nothing written."""

from __future__ import annotations

import json
import re
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from cli.commands import SIZES, complaint, fails, finished, nanograd, process, train
from standin.cupy_standin import installed

from nanograd_gpt.cli.main import COMMANDS
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.training.checkpoint import save_model


def refused(tmp_path: Path, data: Path, *options: object) -> str:
    message = fails(*train(tmp_path / "run", data), *options)
    assert not (tmp_path / "run").exists()
    return message


# --- data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b" \n\n\t ", "has only white space"),
        (b"\x00\x01\x02", "is binary"),
        (b"\x89PNG\r\n\x1a\n\x00", "is not UTF-8"),
        ("Grüße".encode("latin-1"), "is not UTF-8"),
        (b"a", "too few for a batch"),
        (b"The sun rose over a quiet river.", "too few for a batch"),
    ],
    ids=["missing", "empty", "blank", "binary", "PNG", "latin-1", "one character", "one sentence"],
)
def test_unusable_data_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    said = refused(tmp_path, path)
    assert said.startswith("--data: ")
    assert message in said
    assert str(path) in said


def test_a_directory_as_data_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, tmp_path).startswith(
        f"--data: {tmp_path} cannot be read (it is a directory, not a regular file); give a UTF-8 text file"
    )


# --- settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--emb-dim", "15"], "--n-heads: 2 does not divide emb_dim = 15"),
        (["--n-heads", "3"], "--n-heads: 3 does not divide emb_dim = 16"),
        *(([f"--{name}", value], f"--{name}: {value} is not allowed")
          for name in ("emb-dim", "n-heads", "n-layers", "context-length", "batch-size", "epochs", "eval-freq",
                       "eval-iter", "accumulate", "vocab-size")
          for value in ("0", "-1")),
        *(([f"--{name}", "-1"], f"--{name}: -1 is not allowed")
          for name in ("max-steps", "stride", "n-merges", "seed", "warmup-steps", "checkpoint-every")),
        *((["--drop-rate", value], f"--drop-rate: {value} is not allowed") for value in ("1.0", "-0.1", "2.0", "nan")),
        *((["--lr", value], f"--lr: {value} is not allowed") for value in ("0.0", "-0.1", "nan", "inf")),
        *((["--weight-decay", value], f"--weight-decay: {value} is not allowed") for value in ("-0.1", "nan", "inf")),
        *((["--max-norm", value], f"--max-norm: {value} is not allowed") for value in ("-1.0", "nan", "inf")),
        (["--train-ratio", "1.0"], "--train-ratio: 1.0 is not allowed"),
        (["--test-ratio", "0.1"], "--test-ratio: 0.1 is not allowed"),
        (["--schedule", "cosin"], "--schedule: 'cosin' is unknown; did you mean 'cosine'?"),
        (["--random", "numpy"], "--random: 'numpy' is unknown"),
        (["--seed", str(2**64)], "--seed: 18446744073709551616 is "),
        (["--tokenizer", "missing.json"], "--tokenizer: cannot read 'missing.json'"),
        (["--device", "gpu"], "--device: 'gpu' is unknown; choose auto, cpu or cuda"),
        (["--threads", "0"], "--threads: '0' is not allowed; choose a whole number 1 .. 1024"),
        (["--threads", "all"], "--threads: 'all' is not allowed; choose a whole number 1 .. 1024"),
        (["--precision", "bf16"], "--precision: bf16 needs a GPU, and the device is the CPU; leave it out"),
        (["--precision", "bf61"], "--precision: 'bf61' is unknown; did you mean 'bf16'?"),
        (["--precision", "fp64"], "--precision: 'fp64' is unknown; choose one of fp32, tf32, bf16"),
        (["--preset", "tniy"], "--preset: 'tniy' is unknown; did you mean 'tiny'?"),
        (["--preset", "xxl"], "--preset: 'xxl' is unknown; choose one of tiny, tales, gpt2-124m"),
        (["--config", "missing.toml"], "--config: missing.toml cannot be read"),
        (["--book", "--preset", "tiny"], "--book: "),
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_out_of_bounds_is_refused_with_its_name_and_value(
    tmp_path: Path, data: Path, options: list[str], message: str
) -> None:
    assert refused(tmp_path, data, *options).startswith(message)


@pytest.mark.parametrize("option", ["--lr", "--epochs", "--emb-dim", "--drop-rate", "--seed"])
@pytest.mark.parametrize("value", ["many", "", "1e", "0x10", "1,5"])
def test_what_is_no_number_is_refused_with_the_option(tmp_path: Path, data: Path, option: str, value: str) -> None:
    assert re.match(rf"nanograd-gpt train: argument {option}: .*{value!r}", refused(tmp_path, data, option, value))


@pytest.mark.parametrize("option", ["--emb-dim", "--context-length", "--batch-size", "--n-merges", "--epochs"])
def test_a_size_beyond_all_machines_is_refused_or_fails_in_one_line(tmp_path: Path, data: Path, option: str) -> None:
    result = nanograd(*train(tmp_path / "run", data, option, 10**18, "--n-heads", 1, "--dry-run"))
    if result.code:
        complaint(result, code=2 if result.code == 2 else 1)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("lr = ", "--config: .*settings.toml cannot be read .it is not TOML"),
        ("learning_rates = 1", "setting in .*settings.toml: 'learning_rates' is unknown"),
        ("[model]\nemb_dims = 16", "setting in .*settings.toml: 'emb_dims' is unknown; did you mean 'emb_dim'?"),
        ('lr = "fast"', "lr in .*settings.toml: 'fast' is not allowed"),
        ("lr = nan", "lr in .*settings.toml: nan is not allowed"),
        ("[training]\nlr = -1.0", "lr in .*settings.toml: -1.0 is not allowed; choose a finite number > 0$"),
        ("epochs = 1.5", "epochs in .*settings.toml: 1.5 is not allowed"),
        ("[[model]]\nemb_dim = 16", "setting in .*settings.toml: 'model' is unknown"),
    ],
)
def test_a_config_file_is_held_to_the_same(tmp_path: Path, data: Path, toml: str, message: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(toml, encoding="utf-8")
    assert re.match(message, refused(tmp_path, data, "--config", path))


# --- commands and options


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "command: 'trian' is unknown; did you mean 'train'?"),
        (["fly"], "command: 'fly' is unknown; choose one of train, generate, evaluate, explain-next, "),
        (["train", "--emb-dims", "3"], "nanograd-gpt train: '--emb-dims' is unknown; did you mean '--emb-dim'?"),
        (["train", "--emb-dims=3"], "nanograd-gpt train: '--emb-dims=3' is unknown; did you mean '--emb-dim'?"),
        (["train", "--learning", "3"], "nanograd-gpt train: '--learning' is unknown"),
        (["train", "--emb"], "nanograd-gpt train: '--emb' is unknown"),
        (["train", "text.txt"], "nanograd-gpt train: 'text.txt' is unknown; did you mean --data text.txt?"),
        (
            ["generate", "runs/tiny", "My cat"],
            "nanograd-gpt generate: 'My cat' is unknown; did you mean --prompt 'My cat'?",
        ),
        (["info", "runs/tiny", "x"], "nanograd-gpt info: 'x' is unknown; one model is expected"),
        (["gradcheck", "--fast"], "nanograd-gpt gradcheck: '--fast' is unknown"),
        (
            ["generate"],
            "nanograd-gpt generate: no model is given; name one, for example: nanograd-gpt generate runs/tales",
        ),
        (["evaluate"], "nanograd-gpt evaluate: no model is given; name one"),
        (["explain-next"], "nanograd-gpt explain-next: no model is given; name one"),
        (["convert"], "nanograd-gpt convert: no model is given; name one"),
        (["plot"], "nanograd-gpt plot: no run is given; name one, for example: nanograd-gpt plot runs/tales"),
        (["help", "fly"], "command: 'fly' is unknown; choose one of train, generate, "),
        (["generate", "--model"], "nanograd-gpt generate: argument --model/--weights: expected one argument"),
        (["train", "--lr"], "nanograd-gpt train: argument --lr: expected one argument"),
        (["--bogus"], "nanograd-gpt: '--bogus' is unknown"),
        (["--bogus", "train"], "'--bogus' is unknown"),
    ],
    ids=str,
)
def test_an_unknown_or_incomplete_command_is_refused(argv: list[str], message: str) -> None:
    assert message in fails(*argv)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        nanograd(command, "--help")
    assert end.value.code == 0


def test_without_a_command_the_commands_are_told() -> None:
    code, out, err = nanograd()
    assert (code, err) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^ +{command}\b", out, re.MULTILINE)


# --- the device


@pytest.mark.parametrize("command", ["train", "generate", "evaluate", "bench"])
@pytest.mark.parametrize("missing", ["CuPy", "GPU", "library"])
def test_cuda_that_cannot_be_used_says_why_before_anything_is_built(
    tmp_path: Path, data: Path, trained: Path, command: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each broken installation has its line: see backend/test_cuda_probe.py."""
    says = {"CuPy": "CuPy is not installed", "GPU": "CuPy is installed but finds no GPU", "library": "CUDA's libraries"}
    argv = {
        "train": train(tmp_path / "run", data),
        "bench": ["bench"],
    }.get(command, [command, "--model", str(trained)])
    with ExitStack() as stack:
        if missing == "CuPy":
            monkeypatch.setitem(sys.modules, "cupy", None)
        else:
            record = stack.enter_context(installed(available=missing != "GPU"))
            record.failing = {"product": ImportError("libcublas.so.12: cannot open")} if missing == "library" else {}
        message = fails(*argv, "--device", "cuda")
    assert message.startswith(f"--device: 'cuda' cannot be used: {says[missing]}")
    assert message.endswith("; or choose 'cpu'")
    assert not (tmp_path / "run").exists()


# --- models


def damaged(trained: Path, tmp_path: Path, what: str) -> Path:
    run = tmp_path / "damaged"
    shutil.copytree(trained, run)
    checkpoint = run / "checkpoints" / "step_9"
    if what == "no checkpoint":
        shutil.rmtree(run / "checkpoints")
        return run
    if what == "another configuration":
        state = json.loads((run / "checkpoints" / "step_7" / "state.json").read_text(encoding="utf-8"))
        assert state["config"]["emb_dim"] == 16
        toml = (run / "config.toml").read_text(encoding="utf-8")
        (run / "config.toml").write_text(toml.replace("emb_dim = 16", "emb_dim = 32"), encoding="utf-8")
        return run
    shutil.rmtree(run / "checkpoints" / "step_7")  # or it would be used instead
    name, how = what.split()
    file = checkpoint / name
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    if how == "removed":
        file.unlink()
    else:
        file.write_bytes(raw if how == "flipped" else raw[: len(raw) // 2])
    return run


DAMAGES = [f"{name}.safetensors {how}" for name in ("model", "optimizer") for how in ("flipped", "cut", "removed")]
DAMAGES += [f"{name} {how}" for name in ("state.json", "MANIFEST.json") for how in ("flipped", "cut", "removed")]


@pytest.mark.parametrize("what", [*DAMAGES, "no checkpoint"])
@pytest.mark.parametrize(
    "command", [["generate", "--model"], ["evaluate", "--model"], ["info"], ["train", "--resume"]], ids=str
)
def test_a_damaged_checkpoint_is_refused_by_every_command(
    trained: Path, tmp_path: Path, what: str, command: list[str]
) -> None:
    run = damaged(trained, tmp_path, what)
    assert str(run) in fails(*command, run)


def test_a_checkpoint_of_another_configuration_does_not_go_on(trained: Path, tmp_path: Path) -> None:
    run = damaged(trained, tmp_path, "another configuration")
    message = fails("train", "--resume", run, "--epochs", 3)
    assert "emb_dim: config.toml says 32, the checkpoint 16; delete " in message


@pytest.mark.parametrize("command", ["generate", "evaluate"])
@pytest.mark.parametrize("what", ["missing", "empty directory", "text file", "other weights"])
def test_what_is_no_model_is_refused(command: str, what: str, tmp_path: Path, data: Path) -> None:
    (tmp_path / "empty").mkdir()
    config = {"vocab_size": 9, "context_length": 4, "emb_dim": 4, "n_heads": 1, "n_layers": 1}
    path = {
        "missing": tmp_path / "missing",
        "empty directory": tmp_path / "empty",
        "text file": data,
        "other weights": save_model(tmp_path / "model.safetensors", GPTModel(config)),
    }[what]
    message = fails(command, "--model", path)
    assert message.startswith("tokenizer: ") if what == "other weights" else str(path) in message


# --- in separate processes


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["train", "--data", "missing.txt"], 2),
        (["train", "--lr", "nan"], 2),
        (["tarin"], 2),
        (["train", "--out", "/proc/run", "--max-steps", "1", "--warmup-steps", "0", *SIZES], 1),
    ],
    ids=str,
)
def test_the_process_ends_with_the_code_and_one_line(argv: list[str], code: int, tmp_path: Path) -> None:
    complaint(finished(process(*argv, cwd=tmp_path)), code)
    assert not any(tmp_path.iterdir())


def test_the_process_ends_with_0_when_all_is_well(tmp_path: Path) -> None:
    result = finished(process("info", "--preset", "gpt2-124m", cwd=tmp_path))
    assert (result.code, result.err) == (0, "")
    assert "162,419,712" in result.out


def test_a_download_that_fails_says_how_to_do_without(tmp_path: Path) -> None:
    offline = dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    env = {**offline, "XDG_CACHE_HOME": str(tmp_path / "cache"), "no_proxy": "", "NO_PROXY": ""}
    message = complaint(finished(process("train", "--data", "the-verdict", cwd=tmp_path, env=env)), code=1)
    assert "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/" in message
    assert str(tmp_path / "cache" / "nanograd_gpt" / "the-verdict.txt") in message


@pytest.mark.parametrize("argv", [["info"], ["train", "--help"]], ids=str)
def test_a_reader_who_has_left_gets_no_complaints(argv: list[str]) -> None:
    running = process(*argv)
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    assert running.stderr.read() == ""
    running.stderr.close()
    running.wait(timeout=60)
