"""Arguments in the place of others: a text for token ids, a number for a tokenizer, a model for a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nanograd_gpt as ng
from nanograd_gpt import functional as F

MODEL = ng.GPTModel(ng.GPTConfig(vocab_size=300, context_length=8, emb_dim=8, n_heads=2, n_layers=1))
TEXT: Any = "The cat"


@pytest.mark.parametrize(
    "call",
    [
        lambda: ng.explain_next(MODEL, TEXT),
        lambda: ng.evaluate_text(MODEL, TEXT),
        lambda: MODEL(TEXT),
        lambda: F.embedding(TEXT, MODEL.tok_emb.weight),
    ],
    ids=["explain_next", "evaluate_text", "model", "embedding"],
)
def test_a_text_in_the_place_of_token_ids_is_to_be_encoded_first(call: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"got a text; encode it first: text_to_token_ids\(text, tokenizer\)"):
        call()


def test_a_list_of_ids_is_as_good_as_an_array() -> None:
    assert len(ng.explain_next(MODEL, [1, 2, 3])) == 3
    assert ng.evaluate_text(MODEL, [1, 2, 3]).tokens == 2


@pytest.mark.parametrize("given", [5, None, "gpt2"])
def test_what_is_not_a_tokenizer_is_named(given: Any) -> None:
    for call in (
        lambda: ng.complete(MODEL, "The", given),
        lambda: ng.text_to_token_ids("The", given),
    ):
        with pytest.raises(TypeError, match=r"tokenizer is .*, expected a tiktoken\.Encoding, such as get_tokenizer"):
            call()


def test_a_call_in_another_order_of_arguments_is_told_the_right_one(tmp_path: Path) -> None:
    model: Any = MODEL
    optimizer, tokenizer, path = ng.AdamW(model.parameters()), ng.get_tokenizer(), tmp_path / "m"
    calls: list[tuple[str, Callable[[], object]]] = [
        (r"GPTModel, .* order is save_model\(path, model\)", lambda: ng.save_model(model, path)),
        (r"save_checkpoint\(path, model, optimizer\)", lambda: ng.save_checkpoint(model, optimizer, path)),
        (r"load_checkpoint\(path, model, optimizer\)", lambda: ng.load_checkpoint(model, path)),
        (r"save_pretrained\(directory, model, tokenizer\)", lambda: ng.save_pretrained(model, path)),
        (r"Encoding, .* is save_tokenizer\(tokenizer, path\)", lambda: ng.save_tokenizer(path, tokenizer)),
    ]
    for message, call in calls:
        with pytest.raises(TypeError, match=message):
            call()
    assert not any(tmp_path.iterdir())
