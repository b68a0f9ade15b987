"""Text to token ids and back.  Every tokenizer is a tiktoken.Encoding: GPT-2's own, or one learned from the corpus.

A small model spends most of its parameters on a large vocabulary, so a corpus of a few pages trains better with a few
hundred tokens of its own than with GPT-2's 50,257.
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
import tiktoken
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .bpe import END_OF_TEXT, GPT2_PATTERN, learn_ranks
from .encoding import encode, token_bytes

_GPT2_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
_FORMAT = "nanograd_gpt tokenizer, version 1"
_CHOICES = "give 'gpt2', or the path of a file that save_tokenizer wrote"


def text_to_token_ids(text: str, tokenizer: tiktoken.Encoding) -> NDArray[np.int64]:
    """The text's token ids as a batch of one, (1, T).

    The name of a special token, such as `<|endoftext|>`, becomes that one token wherever the text holds it.
    """
    return np.array([encode(text, tokenizer)], dtype=np.int64)


def token_ids_to_text(token_ids: ArrayLike, tokenizer: tiktoken.Encoding) -> str:
    """The text of ids (T,) or (1, T); bytes that are not UTF-8, such as half a character, read as U+FFFD.

    Raises InputError for a batch of several, for ids that are not integers, and for ids that stand for no token.
    """
    # tolist: NumPy is not allowed to look into CuPy's arrays
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
    except (KeyError, OverflowError):  # what tiktoken says of an id beyond the vocabulary, and of a negative one
        known = token_bytes(tokenizer)
        missing = next(i for i in ids.ravel().tolist() if i not in known)
        gaps = tokenizer.n_vocab - len(known)
        raise InputError(
            f"token ids: {missing}, of {ids.min()} to {ids.max()}, stands for no token of tokenizer "
            f"{tokenizer.name!r}, which has 0 to {tokenizer.n_vocab - 1}{f' but for {gaps} gaps' if gaps else ''}; "
            "use the tokenizer that the model was trained with"
        ) from None


def get_tokenizer(name_or_path: str | Path = "gpt2") -> tiktoken.Encoding:
    """GPT-2's tokenizer by its name, or by its path one that save_tokenizer wrote.  Needs no network.

    Raises InputError where there is no such tokenizer, or its file has been damaged.
    """
    return _gpt2() if name_or_path == "gpt2" else _load(Path(name_or_path))


def train_tokenizer(text: str, n_merges: int = 512, *, name: str = "bpe") -> tiktoken.Encoding:
    """A byte-level tokenizer learned from the text: 256 bytes, then up to n_merges tokens, then `<|endoftext|>`.

    The same text gives the same tokenizer: `bpe.learn_merges` says how ties fall.  A text in which nothing more repeats
    gives fewer merges, so read the size from `n_vocab`.  Raises InputError for a negative n_merges.
    """
    if n_merges < 0:
        raise InputError(f"n_merges: {n_merges} is negative; give 0 (bytes alone) or more, such as 512")
    return _ending_in_end_of_text(name, learn_ranks(text, n_merges))


def save_tokenizer(tokenizer: tiktoken.Encoding, path: str | Path) -> None:
    """Write the tokenizer as JSON, one token a line (base64, its rank); the file is there whole or not at all.

    The three attributes read are those that tiktoken's README names for building one encoding from another.
    """
    contents = {
        "name": tokenizer.name,
        "pattern": tokenizer._pat_str,
        "special_tokens": tokenizer._special_tokens,
        "ranks": {b64encode(token).decode(): rank for token, rank in tokenizer._mergeable_ranks.items()},
    }
    document = {"format": _FORMAT, "sha256": _digest(contents), **contents}
    _write_whole(Path(path), json.dumps(document, indent=1) + "\n")


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
    return _ending_in_end_of_text("gpt2", {b64decode(token): int(rank) for token, rank in lines})


def _ending_in_end_of_text(name: str, ranks: dict[bytes, int]) -> tiktoken.Encoding:
    """An encoding with GPT-2's cut into words and `<|endoftext|>` as its last id, after the ranks."""
    return tiktoken.Encoding(
        name,
        pat_str=GPT2_PATTERN,
        mergeable_ranks=ranks,
        special_tokens={END_OF_TEXT: len(ranks)},
        explicit_n_vocab=len(ranks) + 1,
    )


def _load(path: Path) -> tiktoken.Encoding:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"tokenizer: cannot read {str(path)!r} ({error.strerror}); {_CHOICES}") from None
    except (ValueError, RecursionError):  # not UTF-8, or not JSON
        raise InputError(f"tokenizer: {str(path)!r} is not a tokenizer file; {_CHOICES}") from None
    if not isinstance(document, dict) or document.pop("format", None) != _FORMAT:
        raise InputError(f"tokenizer: {str(path)!r} is not in the format {_FORMAT!r}; {_CHOICES}")
    if document.pop("sha256", None) != _digest(document):
        raise InputError(
            f"tokenizer: {str(path)!r} has changed since it was written (its SHA-256 does not match); "
            "restore it, or train and save it again"
        )
    return tiktoken.Encoding(
        document["name"],
        pat_str=document["pattern"],
        mergeable_ranks={b64decode(token): rank for token, rank in document["ranks"].items()},
        special_tokens=document["special_tokens"],
    )


def _digest(contents: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _write_whole(path: Path, text: str) -> None:
    """Write beside the path, then rename: a reader finds the old file or the new one, never a part."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
