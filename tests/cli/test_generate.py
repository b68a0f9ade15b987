"""nanograd-gpt generate: continuing a prompt, greedily or by sampling, with a run, a checkpoint or a model file."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from cli.commands import fails, finished, nanograd, process, train, works

from nanograd_gpt.generation.beam import beam_search
from nanograd_gpt.generation.generate import generate_text
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer, text_to_token_ids, token_ids_to_text
from nanograd_gpt.training.checkpoint import load_model, save_model

SHORT = ["--max-new-tokens", 20]
PROMPT = "the sun rose"


@pytest.fixture
def generate(trained: Path) -> list[object]:
    return ["generate", "--model", trained, "--prompt", PROMPT, *SHORT]


def test_greedy_text_is_the_models_likeliest_after_the_prompt(
    generate: list[object], trained: Path, model_file: Path
) -> None:
    tokenizer = get_tokenizer(trained / "tokenizer.json")
    ids = generate_text(load_model(model_file), text_to_token_ids(PROMPT, tokenizer), 20, 16)
    assert works(*generate) == token_ids_to_text(ids, tokenizer) + "\n"
    assert works(*generate).startswith(PROMPT)


@pytest.mark.parametrize("source", ["run", "checkpoint", "file"])
def test_a_run_a_checkpoint_and_a_model_file_give_the_same_text(
    generate: list[object], trained: Path, checkpoint: Path, model_file: Path, source: str
) -> None:
    path = {"run": trained, "checkpoint": checkpoint, "file": model_file}[source]
    tokenizer = ["--tokenizer", trained / "tokenizer.json"] if source == "file" else []
    assert works("generate", "--model", path, "--prompt", PROMPT, *SHORT, *tokenizer) == works(*generate)


def test_sampled_text_is_its_seeds(generate: list[object]) -> None:
    texts = [works(*generate, "--temperature", 2, "--seed", seed) for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


@pytest.mark.parametrize("option", [["--temperature", 1e-30], ["--temperature", 5, "--top-k", 1]], ids=str)
def test_the_coldest_and_the_choosiest_sampling_are_greedy(generate: list[object], option: list[object]) -> None:
    assert works(*generate, *option) == works(*generate)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_leaves_k_choices(generate: list[object], trained: Path, model_file: Path, k: int) -> None:
    model, tokenizer = load_model(model_file), get_tokenizer(trained / "tokenizer.json")
    likeliest = np.argsort(model(text_to_token_ids(PROMPT, tokenizer)).data[0, -1])[-k:]
    allowed = {PROMPT + tokenizer.decode([i]) + "\n" for i in likeliest}
    command = [*generate, "--max-new-tokens", 1, "--temperature", 3, "--top-k", k]
    texts = {works(*command, "--seed", seed) for seed in range(40)}
    assert texts <= allowed
    assert len(texts) == len(allowed)


@pytest.mark.parametrize("n", [0, 1])
def test_as_many_tokens_are_added_as_asked_for(generate: list[object], trained: Path, n: int) -> None:
    tokenizer = get_tokenizer(trained / "tokenizer.json")
    text = works(*generate, "--max-new-tokens", n).removesuffix("\n")
    assert len(tokenizer.encode(text)) == len(tokenizer.encode(PROMPT)) + n


def test_a_prompt_may_fill_the_context(trained: Path) -> None:
    ids = get_tokenizer(trained / "tokenizer.json").encode("the sun rose over a quiet river and an old miller" * 3)
    prompt = get_tokenizer(trained / "tokenizer.json").decode(ids[:16])
    assert works("generate", "--model", trained, "--prompt", prompt, *SHORT).startswith(prompt)


def test_the_default_prompt_is_the_runs_own_and_of_a_long_one_the_model_sees_the_end(
    trained: Path, tmp_path: Path, data: Path
) -> None:
    run, prompt = tmp_path / "run", "the sun rose"
    works(*train(run, data, "--max-steps", 1, "--prompt", prompt))
    assert works("generate", run, *SHORT) == works("generate", run, *SHORT, "--prompt", prompt)
    assert works("explain-next", run) == works("explain-next", run, "--prompt", prompt)
    default = "Every effort moves you"
    for command in (
        ["generate", trained, *SHORT],
        ["generate", trained, *SHORT, "--beams", 2],
        ["explain-next", trained],
    ):
        result = nanograd(*command)
        assert result.err == "note: the prompt has 19 tokens; the model sees the last 16, its context\n"
        assert result == nanograd(*command, "--prompt", default)


@pytest.mark.parametrize("prompt", ["Grüße, 世界", "<|endoftext|>"])
def test_any_text_can_be_a_prompt(trained: Path, prompt: str) -> None:
    assert works("generate", "--model", trained, "--prompt", prompt, "--max-new-tokens", 0).startswith(prompt)


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are bytes on POSIX systems only")
def test_arguments_are_utf_8_whatever_the_locale_and_others_are_refused(trained: Path) -> None:
    bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "utf-8"}
    command = ["generate", str(trained), "--max-new-tokens", "0", "--prompt", "Grüße"]
    assert finished(process(*command, env=bare)).out == "Grüße\n"
    for option in ("--prompt", "--stop"):
        assert fails(*command, option, "\udcff") == (
            f"{option}: the text is not UTF-8 text (byte 0); convert it to UTF-8 first"
        )


def test_text_that_the_terminal_cannot_show_does_not_fail(trained: Path) -> None:
    command = ["generate", "--model", trained, "--prompt", "the Grüße", "--max-new-tokens", 0]
    result = finished(process(*command, env={"PYTHONIOENCODING": "ascii"}))
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("the Gr")


def test_a_checkpoint_has_its_tokenizer_however_it_is_named(
    generate: list[object], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = works(*generate)
    for directory, name in ((checkpoint.parent, checkpoint.name), (checkpoint, ".")):
        monkeypatch.chdir(directory)
        assert works("generate", "--model", name, "--prompt", PROMPT, *SHORT) == expected


def test_weights_that_are_no_numbers_are_told_of_in_one_line(model_file: Path, trained: Path, tmp_path: Path) -> None:
    model = load_model(model_file)
    model.final_norm.scale.data[3] = np.nan
    bad = save_model(tmp_path / "bad.safetensors", model)
    command = ["generate", "--model", bad, "--tokenizer", trained / "tokenizer.json", "--prompt", PROMPT]
    for more in ([], ["--temperature", 1], ["--repetition-penalty", 1.2], ["--beams", 2]):
        assert "logits are not finite" in fails(*command, *more, code=1)


# --- filters, stop strings, beams


@pytest.mark.parametrize("option", [["--top-p", 1e-9], ["--min-p", 1]], ids=str)
def test_the_choosiest_filters_are_greedy(generate: list[object], option: list[object]) -> None:
    assert works(*generate, "--temperature", 5, *option) == works(*generate)


def test_filters_change_what_is_sampled(generate: list[object]) -> None:
    hot = [*generate, "--temperature", 2]
    texts = {works(*hot, *more) for more in ([], ["--top-p", 0.3], ["--min-p", 0.3], ["--repetition-penalty", 3])}
    assert len(texts) == 4


def test_text_ends_before_a_stop_string(generate: list[object]) -> None:
    text = works(*generate).removesuffix("\n")
    for stop in (text[-3:], text[len(PROMPT) + 2 : len(PROMPT) + 6]):
        end = text.index(stop, len(PROMPT))
        assert works(*generate, "--stop", "never there", "--stop", stop) == text[:end] + "\n"


def test_beams_are_printed_best_first_with_their_scores(
    generate: list[object], trained: Path, model_file: Path
) -> None:
    tokenizer = get_tokenizer(trained / "tokenizer.json")
    expected = beam_search(
        load_model(model_file), tokenizer.encode(PROMPT), 20, 16, 3, 0.5, 2, eos_id=tokenizer.eot_token
    )
    texts = [token_ids_to_text(beam.text, tokenizer) for beam in expected]
    searched = [*generate, "--beams", 3, "--length-penalty", 0.5]
    assert works(*searched) == texts[0] + "\n"
    printed = works(*searched, "--n-best", 2)
    assert printed == "".join(f"{beam.score:.4f}  {text}\n" for beam, text in zip(expected, texts, strict=True))


def test_one_beam_is_greedy(generate: list[object]) -> None:
    assert works(*generate, "--beams", 1) == works(*generate)


def test_text_comes_as_it_is_written(trained: Path) -> None:
    """Words are printed while the model is still generating; here, an endless text."""
    running = process("generate", "--model", trained, "--prompt", PROMPT, "--max-new-tokens", 1_000_000)
    try:
        assert running.stdout is not None
        assert running.stdout.read(len(PROMPT) + 5).startswith(PROMPT)
        assert running.poll() is None
    finally:
        running.kill()
        running.communicate()


# --- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", ""], "--prompt: "),
        (["--temperature", "-0.1"], "--temperature: -0.1 is not allowed"),
        (["--temperature", "nan"], "--temperature: nan is not allowed"),
        (["--temperature", "inf"], "--temperature: inf is not allowed"),
        (["--temperature=-inf"], "--temperature: -inf is not allowed"),
        (["--temperature", "hot"], "--temperature: .*'hot'"),
        (["--top-k", "0"], "--top-k: 0 is not allowed"),
        (["--top-k", "-3"], "--top-k: -3 is not allowed"),
        (["--top-k", "308"], r"--top-k: 308 is not allowed; choose 1 \.\. 307"),
        (["--top-p", "0"], r"--top-p: 0.0 is not allowed; choose a number in \(0, 1\]"),
        (["--min-p", "2"], "--min-p: 2.0 is not allowed"),
        (["--repetition-penalty", "0"], "--repetition-penalty: 0.0 is not allowed"),
        (["--stop", ""], "--stop: an empty string would stop at once"),
        (["--beams", "0"], "--beams: 0 is not allowed"),
        (["--beams", "2", "--length-penalty", "400"], "--length-penalty: 400.0 is not allowed"),
        (["--beams", "2", "--n-best", "3"], r"--n-best: 3 is not allowed; choose 1 \.\. 2"),
        (["--beams", "2", "--top-p", "0.5"], "--top-p: not supported by beam search; leave out --top-p"),
        (["--beams", "2", "--stop", "x"], "--stop: not supported by beam search; leave out --stop"),
        (["--n-best", "2"], "--n-best: only beam search uses it; add --beams"),
        (["--top-k", "1.5"], "--top-k: .*'1.5'"),
        (["--max-new-tokens", "-1"], "--max-new-tokens: -1 is not allowed"),
        (["--seed", "-1"], "--seed: -1 is "),
        (["--tokenizer", "gpt2"], "--tokenizer: 'gpt2' has 50257 tokens, the model 307"),
        (["--tokenizer", "missing.json"], "--tokenizer: cannot read 'missing.json'"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(trained: Path, options: list[str], message: str) -> None:
    command = ["generate", "--model", trained, "--prompt", PROMPT, *options]
    assert re.match(message, fails(*command).removeprefix("nanograd-gpt generate: argument "))


def test_a_model_file_needs_its_tokenizer(model_file: Path) -> None:
    message = f"tokenizer: {model_file} has no tokenizer beside its weights; give one with --tokenizer"
    assert fails("generate", "--model", model_file) == message
