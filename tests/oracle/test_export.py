"""Exported directories loaded by transformers: the same ids and the same texts as here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiktoken
from cli.commands import train, works
from goldens.make_export_goldens import cases
from tokenizer.random_texts import random_texts

from nanograd_gpt.generation.generate import generate_text
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator
from nanograd_gpt.tokenizer.encoding import encode, end_of_text, padding_ids
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer, train_tokenizer
from nanograd_gpt.training.sources import pretrained_tokenizer
from nanograd_gpt.weights.save import save_pretrained

from .test_tokenizers import text_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

KINDS = ["AutoTokenizer", "GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast"]
CONTEXT = 32
PROMPT = "the old miller"


def tokenizers() -> dict[str, tiktoken.Encoding]:
    return {**cases(), "signs": train_tokenizer(text_of(3, 4000), 300), "gpt2": get_tokenizer("gpt2")}


def exported(directory: Path, tokenizer: tiktoken.Encoding, ends_after: int | None = None) -> tuple[Path, GPTModel]:
    """A model with some padding; the end of text takes the place of the greedy token number `ends_after`."""
    V = tokenizer.n_vocab + 7
    model = GPTModel(GPTConfig(V, CONTEXT, 16, 2, 2, 0.0), rng=Generator(5)).eval()
    if ends_after is not None:
        ids, end = ours(model, tokenizer, eos_id=None), end_of_text(tokenizer)
        token = ids[len(encode(PROMPT, tokenizer)) + ends_after]
        rows = model.out_head.weight.data
        rows[[token, end]] = rows[[end, token]]
    return save_pretrained(directory, model, tokenizer), model


def ours(model: GPTModel, tokenizer: tiktoken.Encoding, eos_id: int | None) -> list[int]:
    prompt, padding = encode(PROMPT, tokenizer), padding_ids(tokenizer, model.config.vocab_size)
    new = CONTEXT - len(prompt)
    ids: list[int] = generate_text(model, [prompt], new, CONTEXT, eos_id=eos_id, padding=padding)[0].tolist()
    return ids


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"), [*((name, kind) for name in ("own", "special", "signs") for kind in KINDS), ("gpt2", KINDS[0])]
)
def test_ten_thousand_texts_have_the_same_ids_and_the_same_text(name: str, kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizers()[name]
    directory, _ = exported(tmp_path / "out", tokenizer)
    theirs, again = getattr(transformers, kind).from_pretrained(directory), pretrained_tokenizer(directory)
    texts = random_texts(10_000, [*tokenizer._special_tokens], seed=KINDS.index(kind))
    expected = [encode(text, tokenizer) for text in texts]
    found = theirs(texts).input_ids
    assert [text for text, a, b in zip(texts, expected, found, strict=True) if a != b] == []
    assert [encode(text, again) for text in texts[:1000]] == expected[:1000]
    assert theirs.batch_decode(expected) == tokenizer.decode_batch(expected)
    assert theirs.eos_token_id == end_of_text(tokenizer)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_vocab_and_merges_alone_are_enough(kind: str, tmp_path: Path) -> None:
    tokenizer = cases()["special"]
    directory, _ = exported(tmp_path / "out", tokenizer)
    (directory / "tokenizer.json").unlink()
    theirs = getattr(transformers, kind).from_pretrained(directory)
    texts = random_texts(1000, [*tokenizer._special_tokens])
    assert theirs(texts).input_ids == [encode(text, tokenizer) for text in texts]
    assert theirs.eos_token_id == end_of_text(tokenizer)


@pytest.mark.parametrize("name", ["own", "special", "signs"])
def test_generate_and_the_pipeline_write_our_text_up_to_the_context(name: str, tmp_path: Path) -> None:
    tokenizer = tokenizers()[name]
    directory, model = exported(tmp_path / "out", tokenizer)
    expected = ours(model, tokenizer, end_of_text(tokenizer))
    assert len(expected) == CONTEXT
    assert written(directory) == expected
    pipeline = transformers.pipeline("text-generation", str(directory))
    shown = [i for i in expected if i not in tokenizer._special_tokens.values()]  # the pipeline leaves them out
    assert pipeline(PROMPT)[0]["generated_text"] == tokenizer.decode(shown)


def test_generate_and_the_pipeline_end_where_we_do(tmp_path: Path) -> None:
    tokenizer = cases()["special"]
    directory, model = exported(tmp_path / "out", tokenizer, ends_after=6)
    end = end_of_text(tokenizer)
    expected = ours(model, tokenizer, end)
    assert len(encode(PROMPT, tokenizer)) < len(expected) < CONTEXT
    assert written(directory) == [*expected, end]
    pipeline = transformers.pipeline("text-generation", str(directory))
    assert pipeline(PROMPT)[0]["generated_text"] == tokenizer.decode(expected)


def written(directory: Path) -> list[int]:
    """The ids that transformers generate with their defaults."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(directory)
    inputs = transformers.AutoTokenizer.from_pretrained(directory)(PROMPT, return_tensors="pt")
    ids: list[int] = model.generate(**inputs)[0].tolist()
    return ids


@pytest.mark.parametrize("end", [[], ["--vocab-size", 320]], ids=["as learned", "padded"])
def test_a_converted_run_writes_the_same_text_there(end: list[object], tmp_path: Path, no_drawing: None) -> None:
    data, run, out = tmp_path / "text.txt", tmp_path / "run", tmp_path / "out"
    data.write_text("the old miller opened his door to see who had come with the wind.  " * 30, encoding="utf-8")
    works(*train(run, data, "--max-steps", 20, *end))
    works("convert", run, out)
    expected = works("generate", "--model", run, "--prompt", PROMPT, "--max-new-tokens", 6)
    pipeline = transformers.pipeline("text-generation", str(out))
    assert pipeline(PROMPT, max_new_tokens=6)[0]["generated_text"] + "\n" == expected


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanograd_gpt.cli.train.write_figures", lambda run: [])
