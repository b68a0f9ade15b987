"""Reading of byte-level BPE as Hugging Face (tokenizer.json, vocab.json + merges.txt) and OpenAI store it.

tiktoken merges the neighbours whose merged token has the smallest id; these files list the pairs to merge, in order.
Both give the same tokens for a vocabulary that was learned pair by pair, which is verified: for each token, the merges
that rank below its own must leave exactly the two parts of its merge.  By induction every text then has the same
tokens: whether two parts become neighbours depends on their own bytes only, as if the token stood alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import tiktoken

from ..arguments import not_allowed
from ..documents import read_json
from ..errors import InputError
from ..files import UnreadableError, read_bytes
from .bpe import END_OF_TEXT, GPT2_PATTERN
from .encoding import Tokenizer

MERGES_OF_VOCAB = {"vocab.json": "merges.txt", "encoder.json": "vocab.bpe"}  # Hugging Face, OpenAI
SPECIAL_TOKEN_KEYS = "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"
MAX_VOCAB = 1 << 22  # ids; arrays of this size are made for any vocabulary
MAX_SPECIAL = 1 << 14  # special tokens, which become one regular expression
MAX_BYTES = 32 << 20  # bytes of a tokenizer's file; GPT-2's has a twentieth
LARGEST = 10**30 + 10**15  # the largest integer: model_max_length is int(1e30) for a tokenizer without a limit
CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"


def _alphabet() -> list[str]:
    """The letter for each byte in these files: itself if printable, else one from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    others = iter(range(0x100, 0x200))
    return [chr(value if value in printable else next(others)) for value in range(256)]


LETTERS = _alphabet()
BYTES = {letter: value for value, letter in enumerate(LETTERS)}


# --- reading


def from_tokenizer_json(path: Path, document: Mapping[str, Any]) -> tiktoken.Encoding:
    """Load a tokenizer.json.  Raises InputError for one that tiktoken with GPT-2's pattern cannot reproduce."""
    with _damage_as_input_error(path):
        model = document["model"]
        _check_document(path, document, model)
        merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
        added = {token["content"]: token for token in document.get("added_tokens") or []}
        return _encoding(path, model["vocab"], merges, added, bool(model.get("ignore_merges")))


def from_vocab_and_merges(vocab: Path, merges: Path) -> tiktoken.Encoding:
    """Load vocab.json and merges.txt, as for GPT-2.  Raises InputError if they are damaged or inconsistent."""
    ids = _json(vocab)
    try:
        lines = read_bytes(merges, MAX_BYTES).decode("utf-8").splitlines()
    except (UnreadableError, UnicodeDecodeError) as error:
        raise InputError(f"tokenizer: cannot read {merges} ({error}); put it beside {vocab}") from None
    pairs = [tuple(line.split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    with _damage_as_input_error(vocab):
        return _encoding(vocab, ids, pairs, {}, ignore_merges=False)


@contextmanager
def _damage_as_input_error(path: Path) -> Iterator[None]:
    """Turn errors from unexpected content into an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"tokenizer: {path}, or a file beside it, is damaged: {type(error).__name__} {error}; download it again"
        ) from None


def _check_document(path: Path, document: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    splits = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    for part in _steps(document.get("normalizer"), "normalizers"):
        raise _unsupported(path, "normalizer", part.get("type"), "none")
    split = _steps(document.get("pre_tokenizer"), "pretokenizers")
    for name, supported in splits.items():
        found = [part.get(name, True if name != "type" else None) for part in split]
        if found != [supported]:
            raise _unsupported(path, f"pre_tokenizer {name}", " + ".join(map(str, found)) or "none", supported)
    for part in _steps(document.get("post_processor"), "processors"):
        alone = [next(iter(piece)) for piece in part.get("single") or []] == ["Sequence"]
        if part.get("type") != "ByteLevel" and not (part.get("type") == "TemplateProcessing" and alone):
            raise _unsupported(path, "post_processor", part.get("type"), "ByteLevel or none")
    decoders = [part.get("type") for part in _steps(document.get("decoder"), "decoders")]
    if decoders != ["ByteLevel"]:
        raise _unsupported(path, "decoder", " + ".join(map(str, decoders)) or "none", "ByteLevel")
    if model.get("type", "BPE") != "BPE":
        raise _unsupported(path, "model", model["type"], "BPE")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise _unsupported(path, f"model {name}", model[name], "none")


def _steps(part: Mapping[str, Any] | None, inside: str) -> list[Mapping[str, Any]]:
    """The steps of a sequence, flattened; a single step as a list."""
    if part is None:
        return []
    return [p for step in part[inside] for p in _steps(step, inside)] if part.get("type") == "Sequence" else [part]


def _unsupported(path: Path, what: str, value: object, supported: object) -> InputError:
    return InputError(
        f"tokenizer: {path}: unsupported {what} {value}; only {supported} is supported, as in GPT-2's tokenizer"
    )


def _encoding(
    path: Path,
    vocab: Mapping[str, int],
    merges: Iterable[tuple[str, ...]],
    added: Mapping[str, Any],
    ignore_merges: bool,
) -> tiktoken.Encoding:
    """Build the encoding, with the added special tokens and those named in files beside it.

    Other entries that no merge makes are dropped: encoding a text never yields them.
    """
    settings = _settings_beside(path)
    special = _special_tokens(path, vocab, added, settings)
    for name, token_id in (*vocab.items(), *special.items()):
        if type(token_id) is not int or not 0 <= token_id < MAX_VOCAB:
            raise not_allowed(
                f"tokenizer: {path}: the id of {name!r}", token_id, f"a whole number 0 .. {MAX_VOCAB - 1}"
            )
    ranks: dict[bytes, int] = {}
    for value, letter in enumerate(LETTERS):
        if letter not in vocab:
            raise InputError(f"tokenizer: {path} has no token for the byte {value:#04x}; a byte-level BPE has all 256")
        ranks[bytes([value])] = vocab[letter]
    pairs: dict[bytes, list[bytes]] = {}
    last = -1
    for merge in merges:
        name = "".join(merge)
        if len(merge) != 2 or any(part not in vocab for part in (*merge, name)):
            raise InputError(f"tokenizer: {path}: the merge {' '.join(merge)!r} is not of tokens in its vocabulary")
        token = _bytes(path, name)
        if vocab[name] <= last or token in ranks:
            raise InputError(f"tokenizer: {path}: its ids do not rise in the order of its merges, at {name!r}")
        last = ranks[token] = vocab[name]
        pairs[token] = [_bytes(path, part) for part in merge]
    if "" in special:
        raise InputError(f"tokenizer: {path}: a special token is empty; download it again")
    if len(special) > MAX_SPECIAL:
        raise InputError(f"tokenizer: {path}: {len(special):,} special tokens are above the limit of {MAX_SPECIAL:,}")
    if len(set(ranks.values())) < len(ranks):
        raise InputError(f"tokenizer: {path}: two tokens have one id; download it again")
    for token, pair in pairs.items():
        if parts_below(token, ranks) != pair:
            raise InputError(
                f"tokenizer: {path}: its merges are not in the order of its ids, at {token!r}; use one that is"
            )
    left = vocab.keys() - special.keys() - {letters_of(token) for token in ranks}
    if ignore_merges and left:
        raise InputError(
            f"tokenizer: {path}: no merge makes {min(left)!r}, which ignore_merges needs; use one without it"
        )
    eot = _end_of_text(special, settings)
    return Tokenizer(path.name, eot_token=eot, pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special)


def parts_below(token: bytes, ranks: Mapping[bytes, int]) -> list[bytes]:
    """A token's parts after the merges that rank below its own: for a valid merge, its two parts.

    Takes time in n log n for n bytes: tokens learned from a long run are long.
    """
    limit, n = ranks[token], len(token)
    ends, before = (
        [*range(1, n + 1)],
        [*range(-1, n)],
    )  # by a part's start: its end, and where the part before it starts
    heap: list[tuple[int, int, int]] = []  # (rank, start, end) of a possible merge, until another takes its parts

    def consider(start: int) -> None:
        if start >= 0 and ends[start] < n:
            end = ends[ends[start]]
            rank = ranks.get(token[start:end], limit)
            if rank < limit:
                heappush(heap, (rank, start, end))

    for start in range(n):
        consider(start)
    gone = bytearray(n)  # starts that were merged into the part before them
    while heap:
        _, start, end = heappop(heap)
        if gone[start] or ends[start] == n or ends[ends[start]] != end:
            continue
        gone[ends[start]] = 1
        ends[start] = end
        if end < n:
            before[end] = start
        consider(start)
        consider(before[start])
    return [token[start : ends[start]] for start in range(n) if not gone[start]]


def _bytes(path: Path, name: str) -> bytes:
    try:
        return bytes([BYTES[letter] for letter in name])
    except KeyError:
        raise InputError(
            f"tokenizer: {path}: {name!r} has letters outside a byte-level BPE's; use GPT-2's kind"
        ) from None


def letters_of(token: bytes) -> str:
    """A token as these files spell it."""
    return "".join(LETTERS[value] for value in token)


# --- the files beside it


def _settings_beside(path: Path) -> dict[str, Any]:
    """The contents of the tokenizer's and the model's other files by name; empty for one that is missing."""
    names = "special_tokens_map.json", "added_tokens.json", TOKENIZER_CONFIG, CONFIG, "generation_config.json"
    return {name: _json(path.with_name(name)) if path.with_name(name).exists() else {} for name in names}


def _special_tokens(
    path: Path, vocab: Mapping[str, int], added: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, int]:
    """Names and ids of the special tokens."""
    config = settings[TOKENIZER_CONFIG]
    for name in ("add_prefix_space", "add_bos_token", "add_eos_token"):
        if config.get(name):
            raise _unsupported(path.with_name(TOKENIZER_CONFIG), name, config[name], False)
    special: dict[str, int] = {name: token["id"] for name, token in added.items()} | settings["added_tokens.json"]
    tokens = {**added}
    for token_id, token in (config.get("added_tokens_decoder") or {}).items():
        special[token["content"]], tokens[token["content"]] = int(token_id), token
    for source in (settings["special_tokens_map.json"], config):
        named = [source.get(name) for name in SPECIAL_TOKEN_KEYS]
        for token in (*named, *(source.get("additional_special_tokens") or [])):
            name = token["content"] if isinstance(token, dict) else token
            if name in vocab:
                special[name] = vocab[name]
                tokens.setdefault(name, token if isinstance(token, dict) else {})
    if END_OF_TEXT in vocab:
        special[END_OF_TEXT] = vocab[END_OF_TEXT]
    for name, token in tokens.items():
        for how in ("lstrip", "rstrip", "single_word"):
            if token.get(how):
                raise _unsupported(path, f"special token {name!r} with {how}", token[how], False)
    return special


def _end_of_text(special: Mapping[str, int], settings: Mapping[str, Any]) -> int | None:
    """The special token at which Hugging Face's generation stops, or else the tokenizer's eos_token."""
    for file in ("generation_config.json", CONFIG):
        ids = settings[file].get("eos_token_id")
        for token in ids if isinstance(ids, list) else [ids]:
            if token in special.values():
                return int(token)
    for file in (TOKENIZER_CONFIG, "special_tokens_map.json"):
        token = settings[file].get("eos_token")
        name = token["content"] if isinstance(token, dict) else token
        if name in special:
            return int(special[name])
    return special.get(END_OF_TEXT)


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, MAX_BYTES, LARGEST)
    except UnreadableError as error:
        raise InputError(f"tokenizer: cannot read {path} ({error}); download it again") from None
