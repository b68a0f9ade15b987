"""nanograd-gpt explain-next: the probability of each token of a prompt, and the likeliest ones in its place."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from cli.commands import fails, finished, process, works

from nanograd_gpt.cli import main
from nanograd_gpt.cli.explain_next import COLOURS, LONGEST, coloured_text, columns, visible
from nanograd_gpt.generation.explain import ActualToken, Position, explain_next
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer, text_to_token_ids
from nanograd_gpt.training.checkpoint import load_model, save_model
from nanograd_gpt.viz.surprise import LEVELS

PROMPT = "the sun\n rose"
GUESS = re.compile(r"(\*?(?:b?'[^']*'|b?\"[^\"]*\")) (\d+\.\d%|\de-\d+)")


@pytest.fixture(scope="module")
def tokenizer(trained: Path) -> tiktoken.Encoding:
    return get_tokenizer(trained / "tokenizer.json")


def rows_of(printed: str) -> list[list[str]]:
    """Each token's cells: number, token, probability, rank and all guesses; empty ones are left out.

    The first row holds a number and a token alone.
    """
    rows: list[list[str]] = []
    first, *rest_of = printed.splitlines()[2:]
    assert first.endswith("(the first token is given)")
    rows.append(first.removesuffix("(the first token is given)").split(maxsplit=1))
    rows[0][1] = rows[0][1].rstrip()
    for line in rest_of:
        guesses = [f"{token} {p}" for token, p in GUESS.findall(line)]
        begin = line[: line.index(guesses[0])].rstrip()
        if begin:
            cells = re.fullmatch(r" *(\d+)  ('.*?'|b'.*?'|\(next\))(.*)", begin)
            assert cells is not None
            number, token, rest = cells.groups()
            rows.append([number, token, *rest.split()])
        rows[-1] += guesses
    return rows


def shown(probability: float) -> str:
    return f"{100 * probability:.1f}%" if probability >= 0.0005 else f"{probability:.0e}"


@pytest.mark.parametrize("top", [None, 1, 3, 40])
def test_the_table_holds_what_the_library_says(
    trained: Path, model_file: Path, tokenizer: tiktoken.Encoding, top: int | None
) -> None:
    ids = text_to_token_ids(PROMPT, tokenizer)[0]
    expected = [["1", visible(ids[0], tokenizer)]]
    for i, position in enumerate(explain_next(load_model(model_file), ids, top or 5), start=2):
        own, token = [], "(next)"
        if position.actual is not None:
            own, token = [shown(position.actual.probability), str(position.actual.rank)], visible(ids[i - 1], tokenizer)
        guesses = [f"{visible(guess.token, tokenizer)} {shown(guess.probability)}" for guess in position.candidates]
        if position.actual is not None and position.actual.rank <= len(guesses):
            guesses[position.actual.rank - 1] = f"*{guesses[position.actual.rank - 1]}"
        expected.append([str(i), token, *own, *guesses])
    option = [] if top is None else ["--top", top]
    assert rows_of(works("explain-next", "--model", trained, "--prompt", PROMPT, *option)) == expected


class Terminal(StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, *argv: object, **variables: str) -> str:
    """The output of a command on a terminal, with these variables of the environment."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    assert main([str(a) for a in argv]) == 0
    return terminal.getvalue()


def test_a_terminal_shows_the_text_coloured_by_surprise(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["explain-next", "--model", trained, "--prompt", "the sun\n rose"]
    text, rest = on_a_terminal(monkeypatch, *command).split("\n\nprobability of a token: ")
    assert ESCAPE.sub("", text) == "the sun↵\n rose"
    assert text.startswith("t\x1b["), "the first token has no probability"
    legend, table = rest.split("\n\n", 1)
    assert ESCAPE.sub("", legend) == " ".join(LEVELS)
    assert [code in legend for code in COLOURS] == [True] * len(LEVELS)
    monkeypatch.undo()
    assert table == works(*command)


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_a_terminal_without_colours_shows_the_table_alone(
    trained: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    command = ["explain-next", "--model", trained, "--prompt", PROMPT]
    printed = on_a_terminal(monkeypatch, *command, **variables)
    monkeypatch.undo()
    assert printed == works(*command)
    assert "\x1b" not in printed


def test_no_colours_is_off_where_its_variable_is_empty(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" in on_a_terminal(monkeypatch, "explain-next", "--model", trained, "--prompt", PROMPT, NO_COLOR="")


def test_a_token_has_the_colour_of_its_own_probability(tokenizer: tiktoken.Encoding) -> None:
    ids = tokenizer.encode("the\x1b[2J")
    chances = [0.5, 0.49, 0.05, 0.005, 0.0]
    positions = [
        Position(token, [], ActualToken(following, chances[i % 5], 1))
        for i, (token, following) in enumerate(zip(ids, [*ids[1:], 0], strict=True))
    ]
    text = coloured_text(positions, tokenizer)
    assert ESCAPE.sub("", text) == r"the\x1b[2J"
    assert [code for code in re.findall(r"\x1b\[([0-9;]*)m", text) if code != "0"] == [
        COLOURS[i % 5] for i in range(len(ids) - 1) if i % 5
    ]


def test_colours_have_the_contrast_of_wcag_aa_on_any_terminal() -> None:
    def luminance(code: str) -> float:
        n = int(code) - 16  # of the cube of 6 x 6 x 6 colours
        levels = [(0 if i == 0 else 55 + 40 * i) / 255 for i in (n // 36, n // 6 % 6, n % 6)]
        r, g, b = (x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in levels)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for code in COLOURS[1:]:
        background, text = re.findall(r"[34]8;5;(\d+)", code)
        dark, light = sorted((luminance(background), luminance(text)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, code


@pytest.mark.parametrize("width", [72, 80, 133])
def test_it_fits_the_terminal(trained: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    prompt = "the sun 世界 rose \t\n over"
    printed = works("explain-next", "--model", trained, "--prompt", prompt, "--top", 30).splitlines()
    widest = max(columns(line) for line in printed[1:])
    assert width - 27 < widest <= width
    starts = {columns(line[: line.index(match[0])]) for line in printed[3:] if (match := GUESS.search(line))}
    assert len(starts) <= 2  # the column of the tokens and that of the guesses


def test_a_narrower_terminal_gets_the_narrowest_table(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    narrow = works("explain-next", "--model", trained, "--prompt", PROMPT)
    monkeypatch.setenv("COLUMNS", "72")
    assert works("explain-next", "--model", trained, "--prompt", PROMPT) == narrow


def test_blanks_line_ends_and_parts_of_characters_are_seen() -> None:
    gpt2 = get_tokenizer("gpt2")

    def of(text: str) -> list[str]:
        return [visible(i, gpt2) for i in gpt2.encode(text)]

    assert of(" the\n\n\tsun\r") == ["' the'", r"'\n\n'", r"'\t'", "'sun'", r"'\r'"]
    assert of("it's") == ["'it'", '"\'s"']
    assert of("界") == [r"b'\xe7\x95'", r"b'\x8c'"]
    assert visible(gpt2.eot_token, gpt2) == "'<|endoftext|>'"


def test_long_tokens_are_cut_and_wide_characters_counted() -> None:
    gpt2 = get_tokenizer("gpt2")
    longest = max(range(gpt2.n_vocab), key=lambda i: len(gpt2.decode_single_token_bytes(i)))
    assert visible(longest, gpt2).endswith("...")
    assert all(columns(visible(i, gpt2)) <= LONGEST for i in range(0, gpt2.n_vocab, 7))
    assert (columns("abc"), columns("世界"), columns("e\u0301")) == (3, 4, 1)


def test_a_prompt_may_fill_the_context(trained: Path, tokenizer: tiktoken.Encoding) -> None:
    ids = tokenizer.encode("the sun rose over a quiet river and an old miller" * 3)
    printed = works("explain-next", "--model", trained, "--prompt", tokenizer.decode(ids[:16]), "--top", 1)
    assert len(printed.splitlines()) == 2 + 16 + 1


@pytest.mark.parametrize("prompt", ["Grüße, 世界", "<|endoftext|>"])
def test_any_text_can_be_a_prompt(trained: Path, prompt: str) -> None:
    assert works("explain-next", "--model", trained, "--prompt", prompt)


def test_text_that_the_terminal_cannot_show_does_not_fail(trained: Path) -> None:
    command = ["explain-next", "--model", trained, "--prompt", "the Grüße"]
    result = finished(process(*command, env={"PYTHONIOENCODING": "ascii"}))
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", ""], "--prompt: the prompt is empty; give a text to explain"),
        (["--top", "0"], r"--top: 0 is not allowed; choose 1 \.\. 307"),
        (["--top", "308"], "--top: 308 is not allowed"),
        (["--top", "-1"], "--top: -1 is not allowed"),
        (["--top", "all"], "nanograd-gpt explain-next: argument --top: .*'all'"),
        (["--tokenizer", "gpt2"], "--tokenizer: 'gpt2' has 50257 tokens, the model 307"),
    ],
    ids=str,
)
def test_what_cannot_be_explained_is_refused(trained: Path, options: list[str], message: str) -> None:
    assert re.match(message, fails("explain-next", "--model", trained, "--prompt", PROMPT, *options))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_fail_in_one_line(
    trained: Path, model_file: Path, tmp_path: Path, value: float
) -> None:
    model = load_model(model_file)
    model.final_norm.scale.data[3] = value
    path = save_model(tmp_path / "broken.safetensors", model)
    options = ["--tokenizer", trained / "tokenizer.json", "--prompt", PROMPT]
    message = fails("explain-next", "--model", path, *options, code=1)
    assert message == "explain-next: the model's logits are not finite; its training has diverged"
