"""Tokenizers by name or file; text to token ids and back.  Every tokenizer is a tiktoken.Encoding.

With a large vocabulary, most of a small model's parameters are embeddings, so a corpus of a few pages trains better
with a few hundred tokens learned from it than with GPT-2's 50,257.
"""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64decode, b64encode
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import regex
import tiktoken
from numpy.typing import ArrayLike, NDArray

from ..arguments import whole_number
from ..documents import read_json
from ..errors import InputError
from ..files import UnreadableError, as_path, write_whole
from .bpe import END_OF_TEXT, GPT2_PATTERN, learn_ranks
from .byte_level import MAX_BYTES, MAX_VOCAB, MERGES_OF_VOCAB, from_tokenizer_json, from_vocab_and_merges
from .encoding import Tokenizer, encode, end_of_text, token_bytes

_GPT2_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
MAX_MERGES = MAX_VOCAB - 257  # 256 bytes and the end of text have ids too
LONGEST_NAME = 1000  # characters; a longer text is not taken for the name of a file
GPT2_VOCAB = 50_257  # tokens
_FORMAT = "nanograd_gpt tokenizer, version 1"
_CHOICES = (
    "give 'gpt2', the path of a file by save_tokenizer, of Hugging Face's tokenizer.json or vocab.json with "
    "merges.txt, or of a directory with one of these"
)
UNSUPPORTED_FILES = (
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
)  # other kinds of tokenizers


def text_to_token_ids(text: str, tokenizer: tiktoken.Encoding) -> NDArray[np.int64]:
    """The text's token ids as a batch of one, (1, T).

    Names of special tokens in the text, such as `<|endoftext|>`, become these tokens.
    """
    return np.array([encode(text, tokenizer)], dtype=np.int64)


def token_ids_to_text(token_ids: ArrayLike, tokenizer: tiktoken.Encoding) -> str:
    """The text of ids (T,) or (1, T); bytes that are not UTF-8, such as half a character, become U+FFFD.

    Raises InputError for a batch of several rows, ids that are not integers, and ids without a token.
    """
    # tolist: NumPy cannot convert CuPy's arrays
    ids = np.array(token_ids.tolist() if hasattr(token_ids, "tolist") else token_ids)
    if ids.ndim != 1 and not (ids.ndim == 2 and len(ids) == 1):
        raise InputError(
            f"token ids: shape {ids.shape} is not one text; give (T,) or (1, T), one row of a batch at a time"
        )
    if ids.size == 0:
        return ""
    if ids.dtype.kind not in "iu":
        raise InputError(f"token ids: {ids.dtype} values are not ids; give integers (logits go through argmax first)")
    try:
        return tokenizer.decode(ids.ravel().tolist())
    except (KeyError, OverflowError):  # tiktoken's errors for unknown and negative ids
        known = token_bytes(tokenizer)
        missing = next(i for i in ids.ravel().tolist() if i not in known)
        gaps = tokenizer.n_vocab - len(known)
        raise InputError(
            f"token ids: {missing}, in {ids.min()} .. {ids.max()}, is not a token of tokenizer "
            f"{tokenizer.name!r}, whose ids are 0 .. {tokenizer.n_vocab - 1}{f' with {gaps} gaps' if gaps else ''}; "
            "use the tokenizer that the model was trained with"
        ) from None


def get_tokenizer(name_or_path: str | Path = "gpt2") -> tiktoken.Encoding:
    """Load a tokenizer: GPT-2's by the name "gpt2", or one by the path of its file or directory.

    Files: by save_tokenizer, or a byte-level BPE with GPT-2's word pattern as Hugging Face's tokenizer.json or
    vocab.json with merges.txt, or OpenAI's encoder.json with vocab.bpe.  Needs no network.
    Raises InputError for an unknown tokenizer, a damaged file, and one that cannot be reproduced exactly.
    """
    if name_or_path == "gpt2":
        return _gpt2()
    path = Path(name_or_path)
    if path.is_dir():
        file = _file_in(path)
        if file is None:
            raise InputError(f"tokenizer: cannot read {str(path)!r} (a directory without a tokenizer); {_CHOICES}")
        path = file
    return _load(path)


def tokenizer_beside(weights: Path) -> Path | None:
    """The tokenizer file in a directory of weights, or beside a weights file (NAME.tokenizer.json first), or None.

    For a checkpoint of a run, the run's file.

    Raises InputError if the directory has an unsupported tokenizer, or only half of one.
    """
    if weights.is_dir():
        file = _file_in(weights)
        unsupported = [name for name in UNSUPPORTED_FILES if (weights / name).is_file()]
        if file is None and unsupported:
            raise InputError(
                f"tokenizer: {weights / unsupported[0]} is not a byte-level BPE like GPT-2's; give the weights' "
                "tokenizer as Hugging Face's tokenizer.json, with --tokenizer"
            )
        return file
    own = weights.with_suffix(".tokenizer.json")
    return own if own.exists() else _file_in(weights.parent)


def _file_in(directory: Path) -> Path | None:
    """The tokenizer file that Hugging Face would load: tokenizer.json, or else a vocabulary with a merges file.

    A checkpoint, RUN/checkpoints/NAME, has none; its run's is returned.
    """
    parent = directory.absolute().parent
    if parent.name == "checkpoints" and (directory / "MANIFEST.json").is_file():
        directory = parent.parent
    for name in ("tokenizer.json", *MERGES_OF_VOCAB):
        if (directory / name).exists():  # a special file too, which is refused when it is read
            return directory / name
    for vocab, merges in MERGES_OF_VOCAB.items():
        if (directory / merges).is_file():
            raise InputError(f"tokenizer: {directory} has {merges} without {vocab}; put it there as well")
    return None


def train_tokenizer(text: str, n_merges: int = 512, *, name: str = "bpe") -> tiktoken.Encoding:
    """A byte-level tokenizer learned from the text: 256 bytes, then up to n_merges tokens, then `<|endoftext|>`.

    Deterministic: `bpe.learn_merges` defines the order of ties.  Learning stops early when no pair repeats, so read the
    size from `n_vocab`.  Raises InputError for n_merges outside 0 .. MAX_MERGES, and for the name of a file in place of
    its text.
    """
    if len(text) < LONGEST_NAME and os.path.isfile(text):
        raise InputError(
            f"text: {text!r} is the name of a file; give its contents, open(path, encoding='utf-8').read()"
        )
    n_merges = whole_number("n_merges", n_merges, 0, MAX_MERGES)
    return _with_end_of_text(name, learn_ranks(text, n_merges))


def save_tokenizer(tokenizer: tiktoken.Encoding, path: str | Path) -> None:
    """Write the tokenizer as JSON, one token per line (base64, rank), atomically.

    The private attributes that it reads are those that tiktoken's README names for extending an encoding.
    """
    path = as_path(path, "save_tokenizer(tokenizer, path)")
    contents: dict[str, Any] = {
        "name": tokenizer.name,
        "pattern": tokenizer._pat_str,
        "special_tokens": tokenizer._special_tokens,
        "ranks": {b64encode(token).decode(): rank for token, rank in tokenizer._mergeable_ranks.items()},
    }
    if isinstance(tokenizer, Tokenizer):
        contents["eot_token"] = end_of_text(tokenizer)
    document = {"format": _FORMAT, "sha256": _digest(contents), **contents}
    write_whole(path, (json.dumps(document, indent=1) + "\n").encode())


@cache
def _gpt2() -> tiktoken.Encoding:
    ranks_file = resources.files("nanograd_gpt") / "assets" / "gpt2.tiktoken"
    try:
        contents = ranks_file.read_bytes()
    except OSError as error:
        raise InputError(f"tokenizer: cannot read {ranks_file} ({error.strerror}); reinstall nanograd_gpt") from None
    if hashlib.sha256(contents).hexdigest() != _GPT2_SHA256:
        raise InputError(f"tokenizer: {ranks_file} is damaged (not SHA-256 {_GPT2_SHA256}); reinstall nanograd_gpt")
    lines = (line.split() for line in contents.splitlines())
    return _with_end_of_text("gpt2", {b64decode(token): int(rank) for token, rank in lines})


def _with_end_of_text(name: str, ranks: dict[bytes, int]) -> tiktoken.Encoding:
    """An encoding with GPT-2's word pattern and `<|endoftext|>` as its last id."""
    return tiktoken.Encoding(
        name,
        pat_str=GPT2_PATTERN,
        mergeable_ranks=ranks,
        special_tokens={END_OF_TEXT: len(ranks)},
        explicit_n_vocab=len(ranks) + 1,
    )


def _load(path: Path) -> tiktoken.Encoding:
    for vocab, merges in MERGES_OF_VOCAB.items():
        if path.name == merges:
            path = path.with_name(vocab)
    if path.name in MERGES_OF_VOCAB:
        return from_vocab_and_merges(path, path.with_name(MERGES_OF_VOCAB[path.name]))
    try:
        document = read_json(path, MAX_BYTES)
    except UnreadableError as error:
        raise InputError(f"tokenizer: cannot read {str(path)!r} ({error}); {_CHOICES}") from None
    if "model" in document:
        return from_tokenizer_json(path, document)
    if document.pop("format", None) != _FORMAT:
        raise InputError(f"tokenizer: {str(path)!r} is not in the format {_FORMAT!r}; {_CHOICES}")
    if document.pop("sha256", None) != _digest(document):
        raise InputError(
            f"tokenizer: {str(path)!r} has changed since it was written (its SHA-256 does not match); "
            "restore it, or train and save it again"
        )
    try:
        return _from_own(document)
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"tokenizer: {str(path)!r} cannot be used ({error}); train and save it again") from None


def _from_own(document: dict[str, Any]) -> tiktoken.Encoding:
    """Build the encoding of a file by save_tokenizer.  Raises ValueError and the like for content of another type."""
    ranks, special = document["ranks"], document["special_tokens"]
    if not isinstance(ranks, dict) or not isinstance(special, dict):
        raise ValueError("its ranks and special tokens are not tables")
    ranks = {b64decode(token, validate=True): rank for token, rank in ranks.items()}
    if not isinstance(document["name"], str) or not isinstance(document["pattern"], str) or "" in special:
        raise ValueError("its name, pattern and special tokens are not all texts")
    ids = [*ranks.values(), *special.values()]
    if not all(type(i) is int and 0 <= i < MAX_VOCAB for i in ids) or len(set(ids)) < len(ids):
        raise ValueError(f"its ids are not whole numbers 0 .. {MAX_VOCAB - 1}, each of one token")
    if not all(bytes([value]) in ranks for value in range(256)):
        raise ValueError("it has no token for some bytes")
    try:
        regex.compile(document["pattern"])
    except regex.error as error:
        raise ValueError(f"its pattern: {error}") from None
    parts: dict[str, Any] = {"pat_str": document["pattern"], "mergeable_ranks": ranks, "special_tokens": special}
    if "eot_token" not in document:
        return tiktoken.Encoding(document["name"], **parts)
    eot = document["eot_token"]
    if eot is not None and (type(eot) is not int or eot not in special.values()):
        raise ValueError("its end of text is not the id of a special token")
    return Tokenizer(document["name"], eot_token=eot, **parts)


def _digest(contents: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
