"""The numbers of a page as a dictionary for JSON, with arrays as base64."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import numpy as np
import numpy.typing as npt
import tiktoken

from ..backend.contract import HostArray
from ..gpt.config import GPTConfig
from .gradient import LossGradient
from .limits import Kept
from .numbers import Chance, Lens, Numbers
from .steps import step_names
from .token_text import token_text

TEMPERATURES = np.arange(41) / 20  # the stops of the page's slider, 0 .. 2


def payload(numbers: Numbers, config: GPTConfig, kept: Kept, tokenizer: tiktoken.Encoding) -> dict[str, Any]:
    """The dictionary that page/*.js read; every array is an {"shape", "type", "data"}."""
    candidates = _candidates(numbers, kept.likeliest)
    shown = {*numbers.ids.tolist(), *candidates.pop("shown"), *numbers.lens.tokens.ravel().tolist(), numbers.likeliest}
    return {
        "model": config.to_dict(),
        "ids": numbers.ids.tolist(),
        "texts": {str(i): [*token_text(i, tokenizer)] for i in sorted(shown)},
        "padding": len(numbers.padding),
        "temperatures": TEMPERATURES.tolist(),
        "candidates": candidates,
        "next": _chance(numbers.next),
        "lens": _lens(numbers.lens),
        "attention": array(_lower(numbers.steps.attention)),
        "steps": _steps(numbers, config, kept.channels),
        "mlp": _activations(numbers.steps.activations, kept.strongest),
        "attribution": array(_lower(numbers.attribution)),
        "likeliest": numbers.likeliest,
        "gradient": None if numbers.gradient is None else _gradient(numbers.gradient),
    }


def array(values: npt.ArrayLike) -> dict[str, Any]:
    """An array as its shape, its type, float32 or int32, and its little-endian bytes in base64."""
    a = np.asarray(values)
    kind = "float32" if a.dtype.kind == "f" else "int32"
    raw = a.astype(np.dtype(kind).newbyteorder("<")).tobytes()
    return {"shape": list(a.shape), "type": kind, "data": b64encode(raw).decode()}


def _lower(x: HostArray) -> HostArray:
    """x (..., T, T)  ->  its lower triangle row by row (..., T (T + 1) / 2)"""
    return x[..., *np.tril_indices(x.shape[-1])]


def _candidates(numbers: Numbers, likeliest: int | None) -> dict[str, Any]:
    """The logits of tokens that may be sampled: of all (T, N) for ids (N,), or of the likeliest, ids (T, N).

    rest: log of the sum of exp(logit / temperature) over the tokens left out, at each temperature (T, n); at 0, where
    the likeliest token is taken, it is not used.
    """
    V = numbers.logits.shape[-1]
    ids = np.setdiff1d(np.arange(V), numbers.padding)
    logits = numbers.logits[:, ids].astype(np.float32)
    if likeliest is None or likeliest >= len(ids):
        return {"ids": array(ids), "logits": array(logits), "rest": None, "left_out": 0, "shown": ids.tolist()}
    order = np.argsort(-logits, axis=-1, kind="stable")
    best, others = order[:, :likeliest], np.take_along_axis(logits, order[:, likeliest:], axis=-1)
    return {
        "ids": array(ids[best]),
        "logits": array(np.take_along_axis(logits, best, axis=-1)),
        "rest": array(_rest(others)),
        "left_out": len(ids) - likeliest,
        "shown": ids[np.unique(best)].tolist(),
    }


def _rest(logits: HostArray) -> HostArray:
    """logits (T, N)  ->  log(sum(exp(logits / temperature))) over each row, for every temperature (T, n)"""
    rest = np.zeros((len(logits), len(TEMPERATURES)))
    for i, temperature in enumerate(TEMPERATURES):
        if temperature > 0:
            scaled = (logits / np.float32(temperature)).astype(np.float64)
            largest = scaled.max(axis=-1, keepdims=True)
            rest[:, i] = (np.log(np.exp(scaled - largest).sum(axis=-1, keepdims=True)) + largest)[:, 0]
    return rest


def _chance(chance: Chance) -> dict[str, Any]:
    return {"probability": array(chance.probability), "rank": array(chance.rank)}


def _lens(lens: Lens) -> dict[str, Any]:
    return {"tokens": array(lens.tokens), "probabilities": array(lens.probabilities), "next": _chance(lens.next)}


def _steps(numbers: Numbers, config: GPTConfig, channels: bool) -> dict[str, Any]:
    """The lengths (S, T) of the vectors of each step, and the vectors (S, T, C) if they are kept."""
    names = step_names(config.n_layers)
    vectors = np.stack([numbers.steps.vectors[name] for name in names])
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1)
    return {"names": names, "lengths": array(lengths), "vectors": array(vectors) if channels else None}


def _activations(x: HostArray, strongest: int | None) -> dict[str, Any]:
    """x (L, T, 4C)  ->  all of them, or those furthest from 0 with their units; and how many are above 0 (L, T)"""
    active = array((x > 0).sum(axis=-1))
    if strongest is None:
        return {"units": None, "values": array(x), "active": active}
    units = np.argsort(-np.abs(x), axis=-1, kind="stable")[..., :strongest]
    return {"units": array(units), "values": array(np.take_along_axis(x, units, axis=-1)), "active": active}


def _gradient(gradient: LossGradient) -> dict[str, Any]:
    return {"loss": gradient.loss, "lengths": array(gradient.norms()), "slopes": array(gradient.slopes())}
