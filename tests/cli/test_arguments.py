"""The model as the first argument, options that a command does not use, and options without effect."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.commands import fails, finished, nanograd, process, train, works

from nanograd_gpt.cli.main import COMMANDS, _parsers
from nanograd_gpt.errors import counted
from nanograd_gpt.generation.streaming import complete
from nanograd_gpt.tokenizer.tokenizer import text_to_token_ids
from nanograd_gpt.training.sources import load_pretrained, pretrained_tokenizer

PROMPT = ["--prompt", "the sun rose", "--max-new-tokens", 8]
MODELS = {  # commands that take a model, with what else they need
    "generate": PROMPT,
    "evaluate": [],
    "explain-next": ["--prompt", "the sun rose"],
    "info": [],
    "plot": [],
}


# --- the model


@pytest.mark.parametrize("command", MODELS)
def test_the_model_is_the_first_argument_or_an_option(
    command: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanograd_gpt.cli.plot.write_figures", lambda run, out: [run / "report.html"])  # takes long
    expected = works(command, trained, *MODELS[command])
    for argv in ([*MODELS[command], trained], ["--model", trained, *MODELS[command]], ["--weights", trained]):
        if argv[-1] == trained and argv[0] == "--weights":
            argv = [*argv, *MODELS[command]]
        assert works(command, *argv) == expected


@pytest.mark.parametrize("command", [*MODELS, "convert"])
def test_two_models_are_refused(command: str, trained: Path, tmp_path: Path) -> None:
    target = [tmp_path / "new"] if command == "convert" else []
    message = fails(command, "one", *target, "--model", "two")
    assert message == "--model: both one and two are given; leave one out"


@pytest.mark.parametrize("command", ["generate", "evaluate", "explain-next", "convert"])
def test_without_a_model_the_error_says_what_to_give(command: str) -> None:
    told = f"nanograd-gpt {command}: no model is given; name one, for example: nanograd-gpt {command} runs/tales"
    assert fails(command) == told


@pytest.mark.parametrize(
    "how",
    [
        ["MODEL", "TARGET"],
        ["MODEL", "--out", "TARGET"],
        ["--out", "TARGET", "MODEL"],
        ["--model", "MODEL", "TARGET"],
        ["--weights", "MODEL", "--out", "TARGET"],
    ],
    ids=str,
)
def test_convert_takes_model_and_target_as_arguments_or_options(how: list[str], trained: Path, tmp_path: Path) -> None:
    paths = {"MODEL": trained, "TARGET": tmp_path / "new.safetensors"}
    works("convert", *(paths.get(part, part) for part in how))
    assert paths["TARGET"].is_file()


def test_convert_without_a_target_or_with_two_is_refused(trained: Path, tmp_path: Path) -> None:
    assert fails("convert", trained).startswith("out: no target is given; name a new file NAME.safetensors")
    assert fails("convert", trained, tmp_path / "a", "--out", tmp_path / "b").startswith("--out: both ")
    assert [*tmp_path.iterdir()] == []


# --- options that are not used


@pytest.mark.parametrize(
    ("command", "option"),
    [
        *(("bench", option) for option in ("--epochs", "--lr", "--data", "--seed", "--schedule", "--stride")),
        *(("info", option) for option in ("--epochs", "--lr", "--data", "--seed", "--n-merges", "--tokenizer")),
        ("plot", "--device"), ("plot", "--lr"), ("convert", "--device"), ("evaluate", "--prompt"),
        ("evaluate", "--seed"), ("gradcheck", "--device"), ("explain-next", "--temperature"),
        ("diff-backends", "--device"), ("diff-backends", "--lr"),
    ],
)  # fmt: skip
def test_an_option_that_a_command_does_not_use_does_not_exist_there(command: str, option: str) -> None:
    assert f"nanograd-gpt {command}: {option!r} is unknown" in fails(command, option, "3")


@pytest.mark.parametrize(
    ("options", "named"),
    [(["--n-layers", 2], "--n-layers"), (["--batch-size", 2], "--batch-size"), (["--preset", "tiny"], "--preset"),
     (["--book"], "--book"), (["--config", "x.toml"], "--config"), (["--no-qkv-bias"], "--qkv-bias")],
    ids=str,
)  # fmt: skip
def test_settings_beside_a_saved_model_are_refused(options: list[object], named: str, trained: Path) -> None:
    assert (
        fails("info", trained, *options) == f"info: {trained} has settings of its own; leave out {named}, or the model"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_takes_a_value_tells_its_default(command: str) -> None:
    parser = _parsers()[1][command]
    same = {"model_option", "out"} if command == "convert" else {"model_option"}  # as another argument
    with_value = [a for a in parser._actions if a.option_strings and a.nargs is None and a.dest not in same]
    formatter = parser._get_formatter()
    assert [action.dest for action in with_value if "[" not in formatter._expand_help(action)] == []


# --- options without effect


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (["--top-k", 3], "--top-k has no effect at temperature 0; add --temperature 1 to sample"),
        (["--top-p", 0.5, "--temperature", 0], "--top-p has no effect at temperature 0; add --temperature 1 to sample"),
        (["--min-p", 0.1], "--min-p has no effect at temperature 0; add --temperature 1 to sample"),
        (["--seed", 123], "--seed has no effect at temperature 0; add --temperature 1 to sample"),
        (["--seed", 1, "--top-k", 3, "--top-p", 0.5],
         "--top-k, --top-p and --seed have no effect at temperature 0; add --temperature 1 to sample"),
        (["--temperature", 1, "--top-k", 3, "--seed", 1], None),
        (["--repetition-penalty", 2], None),
        (["--stop", "x"], None),
    ],
    ids=str,
)  # fmt: skip
def test_sampling_options_without_effect_are_noted(trained: Path, options: list[object], note: str | None) -> None:
    result = nanograd("generate", trained, *PROMPT, *options)
    assert result.code == 0
    assert result.err == (f"note: {note}\n" if note else "")
    if note:
        assert result.out == works("generate", trained, *PROMPT)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--length-penalty", 1], "--length-penalty: only beam search uses it; add --beams"),
        (["--n-best", 1], "--n-best: only beam search uses it; add --beams"),
        (["--interactive", "--n-best", 2], "--n-best: only beam search uses it; add --beams"),
        (["--interactive", "--num-samples", 2], "--num-samples: a conversation is one text; leave out"),
        (["--interactive", "--prompt", "-"], "--prompt: --interactive reads standard input; give the text"),
        (["--beams", 2, "--seed", 1], "--seed: not supported by beam search; leave out --seed or --beams"),
        (["--beams", 2, "--temperature", 0], "--temperature: not supported by beam search"),
        (["--beams", 2, "--num-samples", 2], "--num-samples: not supported by beam search; leave out --num-samples or "
         "--beams; --n-best prints several texts"),
        (["--num-samples", 2], "--num-samples: at temperature 0 all texts are the same; add --temperature 1"),
        (["--num-samples", 0, "--temperature", 1], "--num-samples: 0 is not allowed"),
    ],
    ids=str,
)  # fmt: skip
def test_options_that_exclude_each_other_are_refused(trained: Path, options: list[object], message: str) -> None:
    assert fails("generate", trained, *options).startswith(message)


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (["--warmup-steps", 5], "--warmup-steps has no effect with --schedule flat"),
        (["--min-lr", 1e-5], "--min-lr has no effect with --schedule flat"),
        (["--schedule", "cosine", "--warmup-steps", 0, "--initial-lr", 1e-5],
         "--initial-lr has no effect without --warmup-steps"),
        (["--decay", "matrices", "--weight-decay", 0], "--decay has no effect with --weight-decay 0"),
        (["--tokenizer", "gpt2", "--context-length", 8], "--n-merges has no effect with --tokenizer gpt2"),
        (["--epochs", 2, "--max-steps", 100],
         "--max-steps has no effect on a run of 12 updates in 2 epochs; add --epochs 17"),
        (["--epochs", 2, "--max-steps", 12], None),
        (["--accumulate", 100], "--accumulate 100 is more than an epoch has: each update takes 6 batches"),
        (["--accumulate", 6], None),
        (["--schedule", "cosine", "--warmup-steps", 12, "--epochs", 2],
         "the whole run, 12 updates, is warm-up: the rate rises to its peak and does not decay; choose --warmup-steps "
         "below 12, or train longer"),
        (["--schedule", "cosine", "--warmup-steps", 11, "--epochs", 2], None),
        (["--schedule", "cosine", "--warmup-steps", 12, "--epochs", 2, "--decay-steps", 20], None),
        (["--warmup-steps", 0], None),
        (["--schedule", "cosine", "--warmup-steps", 5, "--min-lr", 1e-5, "--initial-lr", 1e-6], None),
        (["--decay", "matrices"], None),
    ],
    ids=str,
)  # fmt: skip
def test_settings_without_effect_are_noted(data: Path, tmp_path: Path, options: list[object], note: str | None) -> None:
    result = nanograd(*train(tmp_path / "run", data, "--dry-run", *options))
    assert result.code == 0, result
    assert result.err == (f"note: {note}\n" if note else "")


def test_a_learning_rate_that_would_rise_in_its_decay_is_refused(data: Path, tmp_path: Path, trained: Path) -> None:
    command = train(tmp_path / "run", data, "--dry-run", "--schedule", "cosine", "--warmup-steps", 0, "--lr", 1e-4)
    assert fails(*command, "--min-lr", 1) == (
        "--min-lr: 1 is above lr = 0.0001, so the learning rate would rise from its peak; choose --min-lr 0 .. 0.0001, "
        "such as 1e-05, or --schedule flat"
    )
    tuning = ["train", "--dry-run", "--init-from", trained, "--data", data, "--schedule", "cosine", "--min-lr", 1]
    assert fails(*tuning).startswith("--min-lr: 1 is above lr = 5e-05")
    works(*command, "--min-lr", 1e-4)


@pytest.mark.parametrize(
    ("options", "length"),
    [
        (["--epochs", 20, "--max-steps", 10], "10 updates within 2 epochs"),
        (["--epochs", 20, "--max-steps", 12], "12 updates in 2 epochs"),
        (["--epochs", 3], "18 updates in 3 epochs"),
    ],
    ids=str,
)
def test_the_header_counts_the_epochs_that_are_made(
    data: Path, tmp_path: Path, options: list[object], length: str
) -> None:
    assert f"training    {length} on " in works(*train(tmp_path / "run", data, "--dry-run", *options))


def test_a_setting_from_a_file_is_not_noted(data: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("warmup_steps = 7", encoding="utf-8")
    works(*train(tmp_path / "run", data, "--dry-run", "--config", tmp_path / "settings.toml"))


EMPTY = [
    (["train", "--data", ""], "--data: no text is given; name a UTF-8 text file, 'story', 'tales' or 'the-verdict'"),
    (["train", "--out", ""], "nanograd-gpt train: argument --out: the path is empty; see nanograd-gpt train --help"),
    (["train", "--resume="], "argument --resume: the path is empty"),
    (["generate", ""], "argument MODEL: the path is empty"),
    (["generate", "gpt2", "--prompt-file", ""], "argument --prompt-file: the path is empty"),
]


@pytest.mark.parametrize(("argv", "message"), EMPTY, ids=str)
def test_an_empty_path_is_not_the_current_directory(argv: list[str], message: str) -> None:
    assert message in fails(*argv)


# --- samples and prompts


@pytest.mark.parametrize("by", ["--prompt", "--prompt-file"])
def test_of_a_prompt_longer_than_the_context_the_model_sees_the_end(trained: Path, tmp_path: Path, by: str) -> None:
    text, path = "the sun rose over a quiet river " * 10, tmp_path / "prompt.txt"
    path.write_text(text, encoding="utf-8")
    prompt = [by, text if by == "--prompt" else path]
    model, tokenizer = load_pretrained(trained), pretrained_tokenizer(trained)
    n = text_to_token_ids(text, tokenizer).size
    note = f"note: the prompt has {n} tokens; the model sees the last 16, its context\n"
    result = nanograd("generate", trained, *prompt, "--max-new-tokens", 5)
    assert (result.code, result.err) == (0, note)
    assert result.out == text + complete(model, text, tokenizer, 5) + "\n"
    result = nanograd("explain-next", trained, *prompt)
    assert (result.code, result.err) == (0, note)
    assert "\n17  (next)" in result.out
    assert "\n18 " not in result.out


def test_sample_k_does_not_depend_on_how_many_there_are(trained: Path) -> None:
    hot = ["generate", trained, *PROMPT, "--temperature", 2]
    one, three = works(*hot), works(*hot, "--num-samples", 3)
    texts = [part.split(" ---\n", 1)[1] for part in three.split("--- sample ")[1:]]
    assert texts[0] == one
    assert len(set(texts)) == 3
    assert [line for line in three.splitlines() if line.startswith("---")] == [
        f"--- sample {k} of 3 ---" for k in (1, 2, 3)
    ]
    two = works(*hot, "--num-samples", 2)
    assert two.replace(" of 2 ", " of 3 ") == three[: three.index("--- sample 3")]
    assert works(*hot, "--num-samples", 1) == one


@pytest.mark.parametrize(
    ("written", "prompt"),
    [
        ("the sun rose", "the sun rose"),
        ("the sun rose\n", "the sun rose"),
        ("the sun rose\r\n", "the sun rose"),
        ("the sun\n\nrose\n\n", "the sun\n\nrose\n"),
        ("\ufeffGrüße\n", "Grüße"),
        ("  the sun ", "  the sun "),
    ],
    ids=repr,
)
def test_a_prompt_comes_from_a_file_without_its_last_newline(
    trained: Path, tmp_path: Path, written: str, prompt: str
) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes(written.encode())
    short = ["--max-new-tokens", 1]
    assert works("generate", trained, "--prompt-file", path, *short) == works(
        "generate", trained, "--prompt", prompt, *short
    )


def test_a_prompt_comes_from_standard_input(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("the sun rose\n", encoding="utf-8")
    with path.open() as file:
        result = finished(process("generate", trained, "--prompt", "-", "--max-new-tokens", 8, stdin=file))
    assert result == (0, works("generate", trained, *PROMPT), "")
    path.write_bytes(b"the sun \xff")
    with path.open() as file:
        result = finished(process("generate", trained, "--prompt", "-", stdin=file))
    assert result.code == 2
    assert result.err.startswith("error: --prompt: standard input is not UTF-8 text (byte 8); convert it to UTF-8")


def test_a_prompt_file_that_cannot_be_used_is_refused(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    command = ["generate", trained, "--prompt-file", path]
    assert (
        fails(*command) == f"--prompt-file: {path} cannot be read (No such file or directory); give a UTF-8 text file"
    )
    path.write_bytes("Grüße".encode("latin-1"))
    assert fails(*command).startswith(f"--prompt-file: {path} is not UTF-8 text (byte 2)")
    assert fails(*command, "--prompt", "x").startswith("--prompt-file: the prompt is given already; leave out --prompt")
    path.write_bytes(b"\n")
    assert fails(*command) == f"--prompt-file: {path} is empty; give a file with a text"


# --- help and completion


def test_help_is_the_same_as_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for argv in (["help", "generate"], ["generate", "--help"], ["help"], ["--help"]):
        with pytest.raises(SystemExit, match=r"^0$"):
            nanograd(*argv)
        printed.append(capsys.readouterr())
    assert printed[0] == printed[1]
    assert printed[2] == printed[3]


@pytest.mark.parametrize(
    ("line", "offered"),
    [("nanograd-gpt gen", ["generate "]), ("nanograd-gpt generate --num", ["--num-samples "]),
     ("nanograd-gpt help ev", ["evaluate "]), ("nanograd-gpt bench --ep", [])],
    ids=str,
)  # fmt: skip
def test_the_shell_completes_commands_and_options(line: str, offered: list[str], tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    answer = tmp_path / "answer"
    env = {
        "_ARGCOMPLETE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
    }
    result = finished(process(env=env | {"_ARGCOMPLETE_IFS": "\n"}))
    assert (result.code, result.out, result.err) == (0, "", "")
    assert [word for word in answer.read_text(encoding="utf-8").split("\n") if word] == offered


def test_without_argcomplete_a_request_for_completion_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "argcomplete", None)
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    monkeypatch.setenv("COMP_LINE", "nanograd-gpt gen")
    assert "13,344" in works("info", trained)


@pytest.mark.parametrize("module", ["nanograd_gpt/cli/__init__.py", "nanograd_gpt/__main__.py"])
def test_the_marker_of_argcomplete_is_where_it_is_looked_for(module: str) -> None:
    assert "PYTHON_ARGCOMPLETE_OK" in (Path(__file__).parents[2] / module).read_text(encoding="utf-8")[:1024]


# --- singular and plural


@pytest.mark.parametrize(
    ("n", "noun", "text"),
    [(1, "token", "1 token"), (0, "token", "0 tokens"), (2000, "batch", "2,000 batches"), (1, "batch", "1 batch"),
     (3, "epoch", "3 epochs")],
)  # fmt: skip
def test_a_number_has_its_noun_in_the_singular_or_plural(n: int, noun: str, text: str) -> None:
    assert counted(n, noun) == text


def test_the_header_of_a_run_of_one_update_is_in_the_singular(data: Path, tmp_path: Path) -> None:
    one = ["--n-heads", 1, "--epochs", 1, "--max-steps", 1, "--batch-size", 8, "--dry-run"]
    printed = works(*train(tmp_path / "run", data, *one))
    for part in ("1 layer, 16 channels, 1 head, context", "1 batch of 8 to train on", "1 update in 1 epoch on "):
        assert part in printed
