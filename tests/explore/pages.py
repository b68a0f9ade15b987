"""A small model, a prompt and its page, with the data that the page holds."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tiktoken

import nanograd_gpt as ng
from nanograd_gpt.explore.write_explorer import explorer_page

PROMPT = "the sun rose over 世 the\nriver</script><b>"


def tokenizer() -> tiktoken.Encoding:
    return ng.train_tokenizer("the sun rose over the river and the river ran to the sea " * 3, n_merges=20)


def model_of(V: int, context_length: int = 66, **changed: Any) -> ng.GPTModel:
    """A model whose logits differ enough for probabilities of several sizes."""
    sizes = {"emb_dim": 16, "n_heads": 2, "n_layers": 3, "drop_rate": 0.1, **changed}
    model = ng.GPTModel(ng.GPTConfig(V, context_length, **sizes), rng=ng.Generator(4))
    model.out_head.weight.data[...] *= 4
    return model


def page_of(prompt: str = PROMPT, padding: int = 0, **changed: Any) -> tuple[ng.GPTModel, npt.NDArray[Any], str]:
    """A model, the prompt's ids (T,), and the page."""
    words = tokenizer()
    model = model_of(words.n_vocab + padding, **changed)
    return model, ng.text_to_token_ids(prompt, words)[0], explorer_page(model, prompt, words, "a model")


def written(path: Path, prompt: str = PROMPT, **changed: Any) -> tuple[ng.GPTModel, npt.NDArray[Any], Path]:
    """A model, the prompt's ids (T,), and the page as a file."""
    model, ids, page = page_of(prompt, **changed)
    path.write_text(page, encoding="utf-8")
    return model, ids, path


def data_of(page: str) -> dict[str, Any]:
    """The data of a page, its arrays decoded."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1], object_hook=_decoded)
    return data


def _decoded(value: dict[str, Any]) -> Any:
    if not {"shape", "type", "data"} <= value.keys():
        return value
    kind = np.dtype(value["type"]).newbyteorder("<")
    return np.frombuffer(b64decode(value["data"]), dtype=kind).reshape(value["shape"])
