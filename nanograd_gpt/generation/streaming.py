"""Text in, text out: completion as a whole or streamed, up to a stop string."""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence

import numpy as np
import tiktoken

from ..backend.contract import Ints
from ..errors import InputError
from ..gpt.model import GPTModel
from ..rng import RandomStream
from ..tokenizer.encoding import encode, end_of_text, padding_ids
from .generate import checked_prompts, new_tokens
from .sampling import Sampling


def complete(
    model: GPTModel,
    prompt: str | Ints,
    tokenizer: tiktoken.Encoding,
    max_new_tokens: int = 100,
    sampling: Sampling | None = None,
    *,
    stop: Sequence[str] = (),
    context_size: int | None = None,
    rng: RandomStream | None = None,
) -> str:
    """Continue a prompt; returns the new text without the prompt.

    model               GPTModel; in training mode dropout stays active
    prompt              str, not empty, or its token ids (T,), T >= 1
    tokenizer           tiktoken.Encoding with at most vocab_size ids; ids it lacks are never chosen
    max_new_tokens      int >= 0 [100]: upper bound, in tokens; the tokenizer's end of text ends the text sooner
    sampling            Sampling or None: the settings for choosing a token [greedy]
    stop                strings, none of them empty [()]: the text ends before the first of them
    context_size        int in 1 .. context_length: tokens the model sees [context_length]
    rng                 random stream to sample from [Generator()]

    Raises InputError for an empty prompt, settings out of range and a tokenizer larger than the model's vocabulary,
    RunError for logits of nan.

    >>> import nanograd_gpt as ng
    >>> tokenizer = ng.get_tokenizer("gpt2")
    >>> config = ng.GPTConfig(context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123)).eval()
    >>> complete(model, "Every effort", tokenizer, max_new_tokens=4)
    'Linux-$ sponsored Mont'
    >>> sampling = ng.Sampling(temperature=0.8, top_p=0.9)
    >>> complete(model, "Every effort", tokenizer, 4, sampling, rng=ng.Generator(2))
    ' wo Fortmad fors'
    """
    pieces = _pieces(model, [prompt], tokenizer, max_new_tokens, sampling, stop, context_size, rng)
    return "".join(piece for _, piece in pieces)


def complete_stream(
    model: GPTModel,
    prompt: str | Ints,
    tokenizer: tiktoken.Encoding,
    max_new_tokens: int = 100,
    sampling: Sampling | None = None,
    *,
    stop: Sequence[str] = (),
    context_size: int | None = None,
    rng: RandomStream | None = None,
) -> Iterator[str]:
    """Continue a prompt as complete does; returns an iterator over the new text as it is written.

    Each piece consists of whole characters, none of them part of a stop string.  Parameters and errors are those of
    complete; invalid arguments are refused at the call, before the first piece.

    >>> import nanograd_gpt as ng
    >>> tokenizer = ng.get_tokenizer("gpt2")
    >>> config = ng.GPTConfig(context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123)).eval()
    >>> for piece in complete_stream(model, "Every effort", tokenizer, max_new_tokens=4):
    ...     print(repr(piece))
    'Linux'
    '-$'
    ' sponsored'
    ' Mont'
    """
    pieces = _pieces(model, [prompt], tokenizer, max_new_tokens, sampling, stop, context_size, rng)
    return (piece for _, piece in pieces)


def complete_batch(
    model: GPTModel,
    prompts: Sequence[str | Ints],
    tokenizer: tiktoken.Encoding,
    max_new_tokens: int = 100,
    sampling: Sampling | None = None,
    *,
    stop: Sequence[str] = (),
    context_size: int | None = None,
    rng: RandomStream | None = None,
) -> list[str]:
    """Continue several prompts in one batch, each to its own end; returns their new texts in order.

    prompts             B texts, or their token ids, each (T,)

    The other parameters and the errors are those of complete; `rng` is shared by all prompts.

    >>> import nanograd_gpt as ng
    >>> tokenizer = ng.get_tokenizer("gpt2")
    >>> config = ng.GPTConfig(context_length=8, emb_dim=16, n_heads=2, n_layers=2)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123)).eval()
    >>> complete_batch(model, ["Every effort", "A"], tokenizer, max_new_tokens=3)
    ['Linux-$ sponsored', ' reflections pumpingBook']
    """
    texts = [""] * len(prompts)
    for b, piece in _pieces(model, prompts, tokenizer, max_new_tokens, sampling, stop, context_size, rng):
        texts[b] += piece
    return texts


def _pieces(
    model: GPTModel,
    prompts: Sequence[str | Ints],
    tokenizer: tiktoken.Encoding,
    max_new_tokens: int,
    sampling: Sampling | None,
    stop: Sequence[str],
    context_size: int | None,
    rng: RandomStream | None,
) -> Iterator[tuple[int, str]]:
    """Yield (prompt index, piece of text)."""
    ids, ended = checked_prompts([prompt_ids(prompt, tokenizer) for prompt in prompts]), set[int]()
    size = model.config.context_length if context_size is None else context_size
    padding = padding_ids(tokenizer, model.config.vocab_size)
    tokens = new_tokens(model, ids, max_new_tokens, size, sampling or Sampling(), rng, ended, padding)
    return _decoded(tokens, [StreamDecoder(tokenizer, stop) for _ in ids], end_of_text(tokenizer), ended)


def _decoded(
    tokens: Iterator[tuple[int, int]], decoders: list[StreamDecoder], eos_id: int | None, ended: set[int]
) -> Iterator[tuple[int, str]]:
    for b, token in tokens:
        if token == eos_id:
            ended.add(b)
            continue
        if piece := decoders[b].push(token):
            yield b, piece
        if decoders[b].stopped:
            ended.add(b)
    for b, decoder in enumerate(decoders):
        if piece := decoder.flush():
            yield b, piece


def prompt_ids(prompt: str | Ints, tokenizer: tiktoken.Encoding) -> Ints:
    """Encode a prompt (T,), unless it is token ids already.  Raises InputError for an empty text."""
    if not isinstance(prompt, str):
        return prompt
    ids = encode(prompt, tokenizer)
    if not ids:
        raise InputError("prompt: the prompt is empty; give a text to continue")
    return np.array(ids, dtype=np.int64)


class StreamDecoder:
    """Decodes tokens to text incrementally; text is emitted once later tokens cannot change it.

    Incomplete characters and possible beginnings of a stop string are held back until then.  Raises InputError for an
    empty stop string.
    """

    def __init__(self, tokenizer: tiktoken.Encoding, stop: Sequence[str] = ()) -> None:
        if "" in stop:
            raise InputError("stop: an empty string would stop at once; give at least one character")
        self.tokenizer, self.stop, self.stopped = tokenizer, tuple(stop), False
        self.decoder = getincrementaldecoder("utf-8")(errors="replace")
        self.pending = ""

    def push(self, token: int) -> str:
        """Add a token; returns the text that is certain now, perhaps empty, and always empty after a stop string."""
        return self._emit(self.decoder.decode(self.tokenizer.decode_single_token_bytes(token)))

    def flush(self) -> str:
        """Return the rest at the end of the text; an incomplete character becomes U+FFFD."""
        piece = self._emit(self.decoder.decode(b"", final=True)) + self.pending
        self.pending = ""
        return piece

    def _emit(self, more: str) -> str:
        if self.stopped:
            return ""
        text = self.pending + more
        found = [(text.index(s) + len(s), text.index(s)) for s in self.stop if s in text]
        if found:  # the stop string that is complete first, independent of token boundaries
            self.stopped, self.pending = True, ""
            return text[: min(found)[1]]
        n = max((n for s in self.stop for n in range(1, len(s)) if text.endswith(s[:n])), default=0)
        self.pending = text[len(text) - n :]
        return text[: len(text) - n]
