"""Probabilities of the tokens at the beginning of a run's texts, from its last weights, for its report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..backend.contract import HostArray, Ints
from ..backend.plain.activation import softmax
from ..backend.select import to_host
from ..files import write_whole
from ..gpt.model import GPTModel
from ..nn.inference_mode import inference_mode
from ..tokenizer.encoding import encode
from .evaluation import sliding_windows
from .run import Run
from .run_directory import SURPRISE

N_TOKENS = 300  # of each text
CHARACTERS_PER_TOKEN = 20  # more than any text needs, so that a long one is not encoded whole


def write_surprise(run: Run, directory: Path) -> None:
    """Write surprise.json: the first tokens of the training and validation text, and each one's probability.

    A text of one token, or for which the model's probabilities are not finite, is left out.
    """
    content: dict[str, object] = {"step": run.progress.global_step}
    for name, text in (("training", run.train_text), ("validation", run.val_text)):
        ids = np.array(encode(text[: N_TOKENS * CHARACTERS_PER_TOKEN], run.tokenizer)[:N_TOKENS])
        probabilities = token_probabilities(run.model, ids)
        if probabilities.size and np.isfinite(probabilities).all():
            tokens = [
                run.tokenizer.decode_single_token_bytes(i).decode(errors="backslashreplace") for i in ids.tolist()
            ]
            content[name] = {"tokens": tokens, "probabilities": [None, *probabilities.tolist()]}
    write_whole(directory / SURPRISE, json.dumps(content).encode())


def token_probabilities(model: GPTModel, ids: Ints) -> HostArray:
    """ids (n,), n >= 2  ->  probability of each token after the first (n - 1,), in windows that do not overlap

    These are the windows of training too, with the default stride: text learned at one position of a window is less
    probable at another.
    """
    length, found = model.config.context_length, []
    with inference_mode(model), np.errstate(all="ignore"):
        for window in sliding_windows(len(ids), length, length):
            x = model.hidden_states(ids[None, window.start : window.stop])[0, -window.scored :]
            logits = to_host(model.out_head(x).data)  # (scored, V)
            targets = ids[window.stop - window.scored + 1 : window.stop + 1].tolist()
            found += [softmax(row.astype(np.float64), axis=-1)[i] for row, i in zip(logits, targets, strict=True)]
    return np.array(found)
