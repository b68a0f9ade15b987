"""snapshots.json: what the model makes of a fixed text at the first, the middle and the last evaluation of a run.

Checkpoints are deleted as a run goes on; these few numbers stay, for its report.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from ..backend.contract import HostArray, Ints
from ..backend.plain.activation import softmax
from ..backend.select import to_host
from ..documents import read_json
from ..files import UnreadableError, write_whole
from ..gpt.model import GPTModel
from ..nn.inference_mode import inference_mode
from ..tape.attention_weights import attention_weights
from ..tokenizer.encoding import encode, padding_ids
from .metrics import MAX_COUNT
from .run import Run
from .run_directory import SNAPSHOTS

Snapshot: TypeAlias = dict[str, Any]

N_TOKENS = 28  # of the text; in a tale, the next word is known to those who remember
CHARACTERS_PER_TOKEN = 20  # more than any text needs
MOST_HEADS = 144  # whose attention is kept: of evenly spaced blocks
LIKELIEST = 5
DIGITS = 3
MAX_FILE = 32 << 20  # bytes


class Snapshots:
    """Takes the snapshots of a run; the model's mode and the random streams stay as they are."""

    def __init__(self, run: Run, directory: Path) -> None:
        self.run, self.directory = run, directory

    def is_due(self, step: int) -> bool:
        """Whether the evaluation after update `step` is the first, or the one nearest to the middle of the run."""
        return step in (0, self.middle)

    @property
    def middle(self) -> int:
        """The update before the evaluation nearest to the middle of the run as it is planned."""
        every = self.run.config.training.eval_freq
        return every * round(self.run.total_steps / 2 / every)

    def take(self) -> None:
        """Add a snapshot of the model as it is now, and leave the first, the middle and the last."""
        progress = self.run.progress
        now = {
            "step": progress.global_step,
            "epoch": progress.epoch + (progress.batch > 0),
            "tokens": progress.tokens_seen,
        }
        if not (seen := views(self.run)):
            return
        earlier = [taken for taken in _snapshots_or_none(self.directory) if taken["step"] < now["step"]]
        _write(self.directory, first_middle_last([*earlier, now | seen], self.middle))


def first_middle_last(snapshots: list[Snapshot], middle: float) -> list[Snapshot]:
    """The first snapshot, the one nearest to the step `middle`, and the last, those of them that differ."""
    if len(snapshots) < 3:
        return snapshots
    first, *others, last = snapshots
    return [first, min(others, key=lambda taken: abs(taken["step"] - middle)), last]


def cut_snapshots(directory: Path, step: int) -> None:
    """Remove the snapshots after update `step`, which a run resumed from there takes again."""
    snapshots = _snapshots_or_none(directory)
    kept = [taken for taken in snapshots if taken["step"] <= step]
    if kept != snapshots:
        _write(directory, kept)


def _write(directory: Path, snapshots: list[Snapshot]) -> None:
    write_whole(directory / SNAPSHOTS, json.dumps({"snapshots": snapshots}).encode())


# --- what a snapshot holds


def views(run: Run) -> dict[str, Any]:
    """Attention in the validation text's beginning, and next tokens after it and the prompt; {} if not finite."""
    ids, next_token = fixed_text(run)
    prompt = encode(run.config.training.prompt, run.tokenizer)[-run.config.model.context_length :]
    blocks = shown_blocks(run.config.model.n_layers, run.config.model.n_heads)
    with np.errstate(all="ignore"):
        weights = attention_weights(run.model, ids[None])[blocks, 0].astype(float)  # (blocks, H, T, T)
        after_text, after_prompt = (_next_probabilities(run.model, np.array(row)) for row in (ids, prompt))
    if not all(np.isfinite(numbers).all() for numbers in (weights, after_text, after_prompt)):
        return {}
    rounded = weights.round(DIGITS).tolist()
    rows = [[[row[: q + 1] for q, row in enumerate(head)] for head in block] for block in rounded]
    return {
        "text": [_token(run, i) for i in ids.tolist()],
        "next": _token(run, next_token),
        "prompt": [_token(run, i) for i in prompt],
        "after_text": _likeliest(run, after_text),
        "next_probability": _share(after_text[next_token]),
        "after_prompt": _likeliest(run, after_prompt),
        "blocks": [*blocks],
        "attention": rows,  # of each block, head and token: the weights of the tokens up to it
    }


def fixed_text(run: Run) -> tuple[Ints, int]:
    """The first tokens of the validation text, from the beginning of a line if there is one, and the next token."""
    length = min(N_TOKENS, run.config.model.context_length)
    enough = CHARACTERS_PER_TOKEN * (length + 1)
    beginning = run.val_text[: 100 * enough]
    after = beginning.partition("\n")[2].lstrip()
    line = beginning if run.train_text.endswith("\n") else after
    for text in (line[:enough], beginning[:enough], run.val_text):
        ids = encode(text, run.tokenizer)
        if len(ids) > length:
            break
    return np.array(ids[:length]), ids[length]


def shown_blocks(n_layers: int, n_heads: int) -> list[int]:
    """All blocks, or so many, evenly spaced, that they have at most MOST_HEADS heads; 2 blocks at least."""
    n = min(n_layers, max(2, MOST_HEADS // n_heads))
    return [round(i * (n_layers - 1) / max(1, n - 1)) for i in range(n)]


def _next_probabilities(model: GPTModel, ids: Ints) -> HostArray:
    """ids (T,)  ->  probability of each token of the vocabulary after them (V,)"""
    with inference_mode(model):
        logits = to_host(model.next_token_logits(ids[None]).data)[0]
    return softmax(logits.astype(np.float64), axis=-1)


def _likeliest(run: Run, probabilities: HostArray) -> list[tuple[str, float]]:
    known = probabilities.copy()
    known[padding_ids(run.tokenizer, len(known))] = -1
    best = np.argsort(-known, kind="stable")[:LIKELIEST].tolist()
    return [(_token(run, i), _share(known[i])) for i in best if known[i] >= 0]


def _share(probability: float) -> float:
    return round(float(probability), DIGITS + 2)


def _token(run: Run, i: int) -> str:
    return run.tokenizer.decode_single_token_bytes(i).decode(errors="backslashreplace")


# --- reading


def read_snapshots(path: Path) -> list[Snapshot]:
    """Read a snapshots.json, whose snapshots are in the order of their steps; none if it does not exist.

    Raises UnreadableError for a file that is not what `take` writes.
    """
    if not os.path.lexists(path):
        return []
    snapshots = read_json(path, MAX_FILE).get("snapshots")
    if not (isinstance(snapshots, list) and all(isinstance(s, dict) and _is_snapshot(s) for s in snapshots)):
        raise UnreadableError("it does not hold a run's snapshots")
    return sorted(snapshots, key=lambda snapshot: snapshot["step"])


def _snapshots_or_none(directory: Path) -> list[Snapshot]:
    """A run's snapshots; none if they are damaged, since training does not need them."""
    try:
        return read_snapshots(directory / SNAPSHOTS)
    except UnreadableError:
        return []


def _is_snapshot(s: Snapshot) -> bool:
    text, blocks, attention = s.get("text"), s.get("blocks"), s.get("attention")
    return (
        all(type(s.get(name)) is int and -1 <= s[name] <= MAX_COUNT for name in ("step", "epoch", "tokens"))
        and _are_texts(text)
        and _are_texts(s.get("prompt"))
        and isinstance(s.get("next"), str)
        and _is_share(s.get("next_probability"))
        and all(_are_likeliest(s.get(name)) for name in ("after_text", "after_prompt"))
        and isinstance(blocks, list)
        and all(type(block) is int for block in blocks)
        and isinstance(attention, list)
        and len(attention) == len(blocks)
        and all(isinstance(heads, list) for heads in attention)
        and all(_is_attention(head, len(text)) for heads in attention for head in heads)
    )


def _is_attention(rows: Any, length: int) -> bool:
    """Tell whether a value holds the weights of `length` tokens, each to those up to it."""
    return (
        isinstance(rows, list)
        and len(rows) == length
        and all(
            isinstance(row, list) and len(row) == q + 1 and all(_is_share(w) for w in row) for q, row in enumerate(rows)
        )
    )


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _are_likeliest(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and _is_share(pair[1])
            for pair in value
        )
    )


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1.001
