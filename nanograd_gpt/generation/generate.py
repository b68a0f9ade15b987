"""Token ids from a model, one at a time: the likeliest, or a sampled one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from ..arguments import whole_number
from ..backend.contract import Ints
from ..backend.select import to_host
from ..errors import InputError
from ..gpt.model import GPTModel
from ..rng import Generator, RandomStream
from ..tensor import TokenIds, as_ids
from .decoder import IncrementalDecoder, pad_right
from .sampling import Sampling, next_tokens


def generate_text(
    model: GPTModel,
    idx: TokenIds,
    max_new_tokens: int,
    context_size: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    eos_id: int | None = None,
    rng: RandomStream | None = None,
    *,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    padding: Ints | None = None,
) -> Ints:
    """Continue every row of idx (B, T) by up to max_new_tokens tokens; returns (B, T + new), on the host.

    Sampling says what the settings mean.  A row ends before its first eos_id: it is filled with eos_id while others go
    on, and the text ends when all have ended.  Ids in `padding` (see padding_ids) are never chosen.  Book section 5.3.
    Raises InputError for an empty or wrongly shaped idx, and for settings out of range; RunError for logits of nan.
    """
    idx = to_host(as_ids(idx))
    if idx.ndim != 2 or not idx.size:
        raise InputError(f"prompt: expected token ids of shape (B, T) with T >= 1, got shape {idx.shape}")
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    texts = generate_batch(model, list(idx), max_new_tokens, context_size, sampling, eos_id, rng, padding)
    return pad_right(texts, fill=0 if eos_id is None else eos_id)  # without eos_id all have one length


generate = generate_text  # the name in the book's own package


def generate_text_simple(model: GPTModel, idx: TokenIds, max_new_tokens: int, context_size: int) -> Ints:
    """generate_text, always with the likeliest token: idx (B, T)  ->  (B, T + max_new_tokens).  Book section 4.7."""
    return generate_text(model, idx, max_new_tokens, context_size)


def generate_batch(
    model: GPTModel,
    prompts: Sequence[Ints | Sequence[int]],
    max_new_tokens: int,
    context_size: int,
    sampling: Sampling | None = None,
    eos_id: int | None = None,
    rng: RandomStream | None = None,
    padding: Ints | None = None,
) -> list[Ints]:
    """generate_text for B prompts of any lengths, each (T,): returns each continued (T + new,), up to its own end.

    A greedy text is what its prompt gives alone.  Raises InputError for no prompts, or one that is no row of tokens.
    """
    texts, ended = checked_prompts(prompts), set[int]()
    eos_id = None if eos_id is None else whole_number("eos_id", eos_id)
    new: list[list[int]] = [[] for _ in texts]
    sampling = sampling or Sampling()
    for b, token in new_tokens(model, texts, max_new_tokens, context_size, sampling, rng, ended, padding):
        if token == eos_id:
            ended.add(b)
        else:
            new[b].append(token)
    return [np.append(text, np.array(tokens, dtype=text.dtype)) for text, tokens in zip(texts, new, strict=True)]


def new_tokens(
    model: GPTModel,
    prompts: Sequence[Ints],
    max_new_tokens: int,
    context_size: int,
    sampling: Sampling,
    rng: RandomStream | None,
    ended: Collection[int],
    padding: Ints | None = None,
) -> Iterator[tuple[int, int]]:
    """Each new token as it is chosen, after the number of its text; texts that the caller adds to `ended` stop.

    Raises InputError for settings out of range, at once.
    """
    max_new_tokens, context_size = checked_lengths(model, max_new_tokens, context_size)
    sampling.check(model.config.vocab_size)
    decoder = IncrementalDecoder(model, context_size, max(map(len, prompts)) + max_new_tokens, padding)
    return _chosen(decoder, list(prompts), max_new_tokens, sampling, rng or Generator(), ended)


def _chosen(
    decoder: IncrementalDecoder,
    texts: list[Ints],
    max_new_tokens: int,
    sampling: Sampling,
    rng: RandomStream,
    ended: Collection[int],
) -> Iterator[tuple[int, int]]:
    going = list(range(len(texts)))
    for _ in range(max_new_tokens):
        chosen = next_tokens(decoder.next_logits(texts, going), sampling, rng, texts)  # (B,)
        for b in going:
            texts[b] = np.append(texts[b], chosen[b])
            yield b, int(chosen[b])
        going = [b for b in going if b not in ended]
        if not going:
            return


def checked_prompts(prompts: Sequence[Ints | Sequence[int]]) -> list[Ints]:
    """Each prompt as an array (T,) on the host.  Raises InputError for none, or one that is no row of tokens."""
    texts: list[Ints] = [np.array(p) if isinstance(p, Sequence) else to_host(p) for p in prompts]
    texts = [text.astype(np.int64) if text.dtype.kind in "iu" else text for text in texts]  # new tokens may be larger
    if not texts:
        raise InputError("prompts: there are none; give at least one")
    for i, text in enumerate(texts):
        if text.ndim != 1 or not text.size:
            raise InputError(f"prompts: expected token ids of shape (T,) with T >= 1, got {text.shape} in row {i}")
    return texts


def checked_lengths(model: GPTModel, max_new_tokens: int, context_size: int) -> tuple[int, int]:
    """A number of new tokens, and a context.  Raises InputError for those that cannot be."""
    longest = model.config.context_length
    return (
        whole_number("max_new_tokens", max_new_tokens, 0, allowed="a number >= 0"),
        whole_number("context_size", context_size, 1, longest, f"1 .. {longest}"),
    )
