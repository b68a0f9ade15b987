"""Autoregressive generation of token ids, greedy or sampled."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from ..arguments import whole_number
from ..backend.contract import Ints
from ..backend.select import to_host
from ..errors import InputError
from ..gpt.model import GPTModel
from ..nn.token_ids import TokenIds, as_ids
from ..rng import Generator, RandomStream, checked_stream
from .decoder import IncrementalDecoder, pad_right
from .sampling import Sampling, next_tokens

MAX_NEW_TOKENS = 10**9


def generate_text(
    model: GPTModel,
    idx: TokenIds,
    max_new_tokens: int,
    context_size: int,
    temperature: float = Sampling.temperature,
    top_k: int | None = Sampling.top_k,
    eos_id: int | None = None,
    rng: RandomStream | None = None,
    *,
    top_p: float = Sampling.top_p,
    min_p: float = Sampling.min_p,
    repetition_penalty: float = Sampling.repetition_penalty,
    padding: Ints | None = None,
) -> Ints:
    """Continue every row of a batch token by token.

    idx (B, T)  ->  (B, T + new), on the host

    model               GPTModel; in training mode dropout stays active
    idx                 token ids (B, T), T >= 1: an array, a list or a Tensor
    max_new_tokens      int >= 0: upper bound for `new`, in tokens
    context_size        int in 1 .. context_length: tokens the model sees; of a longer text, the last ones
    temperature         float >= 0 [0.0]: 0 is greedy; Sampling explains this and the other settings
    top_k               int in 1 .. V, or None [None]: sample from the k most likely tokens
    top_p               float in (0, 1] [1.0]: sample from the most likely tokens that reach this probability
    min_p               float in [0, 1] [0.0]: sample from tokens with this share of the highest probability
    repetition_penalty  float in [0.01, 100] [1.0]: above 1, tokens already in the text become less likely
    eos_id              int or None [None]: a row ends before its first eos_id, and is filled up with eos_id while
                        other rows continue
    rng                 random stream to sample from [Generator()]
    padding             ids (n,) that stand for no token, never chosen [None]; see padding_ids

    Raises InputError for an empty or wrongly shaped idx and for settings out of range, TypeError for text and for an
    rng that is not a stream, RunError for logits of nan.
    Source: book section 5.3.

    >>> import nanograd_gpt as ng
    >>> config = ng.GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123)).eval()
    >>> generate_text(model, [[1, 2, 3]], max_new_tokens=5, context_size=8).tolist()
    [[1, 2, 3, 80, 93, 57, 8, 13]]
    >>> rng = ng.Generator(1)
    >>> generate_text(model, [[1, 2, 3]], 5, 8, temperature=1.0, top_k=10, rng=rng).tolist()
    [[1, 2, 3, 44, 28, 29, 17, 18]]
    """
    _check_not_text("idx", idx)
    idx = to_host(as_ids(idx))
    if idx.ndim != 2 or not idx.size:
        raise InputError(f"prompt: expected token ids of shape (B, T) with T >= 1, got shape {idx.shape}")
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    texts = generate_batch(model, list(idx), max_new_tokens, context_size, sampling, eos_id, rng, padding)
    return pad_right(texts, fill=0 if eos_id is None else eos_id)  # without eos_id all have the same length


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
    """Continue B prompts of any lengths, each (T,); returns a list of B arrays (T + new,), each up to its own end.

    prompts             B token id sequences (T,), T >= 1: arrays or lists
    sampling            Sampling or None: the settings for choosing a token [greedy]
    model, max_new_tokens, context_size, eos_id, rng, padding
                        as in generate_text

    A greedy continuation does not depend on the other prompts.  Raises InputError without prompts, for one that is not
    a row of tokens and for settings out of range, RunError for logits of nan.  Source: book section 5.3.

    >>> import nanograd_gpt as ng
    >>> config = ng.GPTConfig(vocab_size=100, context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123)).eval()
    >>> [text.tolist() for text in generate_batch(model, [[1, 2, 3], [4]], max_new_tokens=3, context_size=8)]
    [[1, 2, 3, 80, 93, 57], [4, 71, 80, 93]]
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
    """Yield (text index, token) for each new token; texts that the caller adds to `ended` stop.

    Raises InputError for settings out of range at the call, before the first token.
    """
    max_new_tokens, context_size = checked_lengths(model, max_new_tokens, context_size)
    sampling.check(model.config.vocab_size)
    rng = Generator() if rng is None else checked_stream(rng)
    decoder = IncrementalDecoder(model, context_size, max(map(len, prompts)) + max_new_tokens, padding)
    return _sampled(decoder, list(prompts), max_new_tokens, sampling, rng, ended)


def _sampled(
    decoder: IncrementalDecoder,
    texts: list[Ints],
    max_new_tokens: int,
    sampling: Sampling,
    rng: RandomStream,
    ended: Collection[int],
) -> Iterator[tuple[int, int]]:
    active = list(range(len(texts)))
    for _ in range(max_new_tokens):
        tokens = next_tokens(decoder.next_logits(texts, active), sampling, rng, texts)  # (B,)
        for b in active:
            texts[b] = np.append(texts[b], tokens[b])
            yield b, int(tokens[b])
        active = [b for b in active if b not in ended]
        if not active:
            return


def checked_prompts(prompts: Sequence[Ints | Sequence[int]]) -> list[Ints]:
    """Convert each prompt to an array (T,) on the host.  Raises InputError for none or an invalid one."""
    _check_not_text("prompts", prompts)
    texts: list[Ints] = [np.array(p) if isinstance(p, Sequence) else to_host(p) for p in prompts]
    # as int64, since new ids may overflow a smaller type
    texts = [text.astype(np.int64) if text.dtype.kind in "iu" else text for text in texts]
    if not texts:
        raise InputError("prompts: the list is empty; give at least one prompt")
    for i, text in enumerate(texts):
        if text.ndim != 1 or not text.size:
            raise InputError(f"prompts: expected token ids of shape (T,) with T >= 1, got {text.shape} in row {i}")
    return texts


def _check_not_text(name: str, prompt: object) -> None:
    """Raise TypeError for a text, or a list of texts, in place of token ids."""
    text = prompt[0] if isinstance(prompt, list | tuple) and prompt else prompt
    if isinstance(text, str | bytes):
        raise TypeError(
            f"{name}: {repr(text)[:60]} is text; encode it with text_to_token_ids(text, tokenizer), or use "
            "complete(model, text, tokenizer)"
        )


def checked_lengths(model: GPTModel, max_new_tokens: int, context_size: int) -> tuple[int, int]:
    """Return both as ints.  Raises InputError for a value out of range."""
    longest = model.config.context_length
    return (
        whole_number("max_new_tokens", max_new_tokens, 0, MAX_NEW_TOKENS, f"a number 0 .. {MAX_NEW_TOKENS}"),
        whole_number("context_size", context_size, 1, longest, f"1 .. {longest}"),
    )
