"""Writing of byte-level BPE as Hugging Face's transformers store it: one file with all of it, and GPT-2's two."""

from __future__ import annotations

import json
from typing import Any

import tiktoken

from .bpe import GPT2_PATTERN
from .byte_level import TOKENIZER_CONFIG, letters_of, parts_below
from .encoding import end_of_text

FLAGS = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}


def tokenizer_files(tokenizer: tiktoken.Encoding, context_length: int) -> dict[str, str] | None:
    """Contents by file name, or None if the files cannot express the tokenizer.

    That is, for another word pattern than GPT-2's, or tokens that are not a merge of two.  transformers' fast tokenizer
    reads tokenizer.json, its slow one (before version 5) vocab.json and merges.txt.
    """
    ranks, special = tokenizer._mergeable_ranks, tokenizer._special_tokens
    joined = sorted((token for token in ranks if len(token) > 1), key=ranks.__getitem__)
    pairs = [parts_below(token, ranks) for token in joined]
    if tokenizer._pat_str != GPT2_PATTERN or any(len(pair) != 2 for pair in pairs):
        return None
    ids = {letters_of(token): rank for token, rank in ranks.items()} | special
    vocab = dict(sorted(ids.items(), key=lambda item: item[1]))
    merges = [(letters_of(left), letters_of(right)) for left, right in pairs]
    return {
        "tokenizer.json": _as_json(_tokenizer_json(vocab, merges, special)),
        "vocab.json": json.dumps(vocab, ensure_ascii=False),
        "merges.txt": "".join(f"{line}\n" for line in ["#version: 0.2", *map(" ".join, merges)]),
        TOKENIZER_CONFIG: _as_json(_tokenizer_config(tokenizer, context_length)),
    }


def _as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


def _tokenizer_json(vocab: dict[str, int], merges: list[tuple[str, str]], special: dict[str, int]) -> dict[str, Any]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, **FLAGS} for name, i in _by_id(special)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def _tokenizer_config(tokenizer: tiktoken.Encoding, context_length: int) -> dict[str, Any]:
    """The class, the special tokens, and the end-of-text token for GPT-2's three roles, as for GPT-2 itself.

    Without an end-of-text token, the null is needed: `<|endoftext|>` is transformers' default, and would be added.
    """
    last = end_of_text(tokenizer)
    name = next((name for name, i in tokenizer._special_tokens.items() if i == last), None)
    return {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": context_length,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": name,
        "eos_token": name,
        "unk_token": name,
        "added_tokens_decoder": {str(i): {"content": name, **FLAGS} for name, i in _by_id(tokenizer._special_tokens)},
    }


def _by_id(special: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(special.items(), key=lambda item: item[1])
