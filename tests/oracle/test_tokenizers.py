"""Byte-level BPEs that Hugging Face learns: texts as they are encoded there; and ours, written and loaded there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.tokenizer.encoding import encode, end_of_text
from nanograd_gpt.tokenizer.tokenizer import get_tokenizer, train_tokenizer
from nanograd_gpt.training.sources import pretrained_tokenizer
from nanograd_gpt.weights.save import save_pretrained

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

SIGNS = [" ", " ", "  ", "\n", "\t", "a", "b", "aab", "the", " cat", "'s", "'ll", "'LL", "7", "12", ".", "!?", "\u00e9",
         "\u6f22", "\U0001f600", "\u200d", "\u00a0", "\x00", "<s>", "</s>", "<pad>", "<pa"]  # fmt: skip
SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"}
CONFIG = {"vocab_size": 700, "context_length": 8, "emb_dim": 4, "n_heads": 1, "n_layers": 1, "drop_rate": 0.0}


def text_of(seed: int, n: int) -> str:
    return "".join(np.random.default_rng(seed).choice(SIGNS, n).tolist())


def ids_there(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


@pytest.mark.parametrize("special", [[], [*SPECIAL.values()]], ids=["none", "special"])
@pytest.mark.parametrize("n_vocab", [256 + 3, 300, 600])
@pytest.mark.parametrize("seed", range(4))
def test_what_they_learned_encodes_here_as_there(seed: int, n_vocab: int, special: list[str], tmp_path: Path) -> None:
    learned = tokenizers.ByteLevelBPETokenizer()
    learned.train_from_iterator(
        [text_of(seed, 5000)], vocab_size=n_vocab, special_tokens=special, min_frequency=1, show_progress=False
    )
    learned.save(str(tmp_path / "tokenizer.json"))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    ours = get_tokenizer(tmp_path)
    for k in range(40):
        text = text_of(1000 + 50 * seed + k, 60)
        assert encode(text, ours) == ids_there(theirs, text)
    ids = np.random.default_rng(seed).integers(0, len(theirs), 300).tolist()
    assert ours.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("added", [["<|user|>"], ["  ", "    ", "<a>", "<a>b"]])
def test_added_tokens_are_matched_as_there(added: list[str], tmp_path: Path) -> None:
    learned = tokenizers.ByteLevelBPETokenizer()
    learned.train_from_iterator([text_of(1, 3000)], vocab_size=400, show_progress=False)
    learned.add_tokens([tokenizers.AddedToken(name, normalized=False) for name in added])
    learned.save(str(tmp_path / "tokenizer.json"))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    for text in (f"a{''.join(added)}b", "x       y\n   ", "<a><a>b<a>bc <|user|><|user", text_of(7, 200)):
        assert encode(text, get_tokenizer(tmp_path)) == ids_there(theirs, text)


@pytest.mark.parametrize("auto", [False, True])
@pytest.mark.parametrize("source", ["own", "learned there"])
def test_what_we_write_encodes_there_as_here(source: str, auto: bool, tmp_path: Path) -> None:
    ours = train_tokenizer(text_of(3, 4000), 300)
    if source == "learned there":
        learned = tokenizers.ByteLevelBPETokenizer()
        learned.train_from_iterator([text_of(2, 3000)], vocab_size=400, special_tokens=["</s>"], show_progress=False)
        learned.save(str(tmp_path / "tokenizer.json"))
        (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>"}', encoding="utf-8")
        ours = get_tokenizer(tmp_path)
    directory = save_pretrained(tmp_path / "out", GPTModel(CONFIG), ours)
    kind = transformers.AutoTokenizer if auto else transformers.PreTrainedTokenizerFast
    theirs = kind.from_pretrained(directory)
    assert theirs.eos_token_id == end_of_text(ours)
    for k in range(40):
        text = text_of(2000 + k, 60)
        assert encode(text, ours) == ids_there(theirs, text) == encode(text, pretrained_tokenizer(directory))
    assert encode(ours.decode([end_of_text(ours) or 0]), ours) == [end_of_text(ours)]


def test_what_transformers_write_is_read(tmp_path: Path) -> None:
    learned = tokenizers.ByteLevelBPETokenizer()
    learned.train_from_iterator([text_of(5, 3000)], vocab_size=400, special_tokens=list(SPECIAL.values()))
    learned.save(str(tmp_path / "tokenizer.json"))
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), **SPECIAL)
    theirs.save_pretrained(tmp_path / "written")
    ours = get_tokenizer(tmp_path / "written")
    assert end_of_text(ours) == theirs.eos_token_id
    for k in range(20):
        assert encode(text_of(k, 60), ours) == ids_there(theirs, text_of(k, 60))
