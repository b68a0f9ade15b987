"""Snapshots as HTML: a map for each head, and the likeliest next tokens."""

from __future__ import annotations

import re
from typing import Any

from nanograd_gpt.viz.snapshots import attention_html, next_tokens_html

SNAPSHOT: dict[str, Any] = {
    "step": 1750, "epoch": 1, "tokens": 5, "text": ["<b>", " cat", "\n"], "next": " sat", "next_probability": 0.625,
    "prompt": ["The"], "after_text": [[" sat", 0.625], ["&", 0.25]], "after_prompt": [[" dog", 0.5]], "blocks": [7],
    "attention": [[[[1.0], [0.2, 0.8], [0.01, 0.6, 0.39]], [[1.0], [0.5, 0.5], [0.97, 0.02, 0.01]]]],
}  # fmt: skip


def test_each_head_has_a_map_of_its_weights_and_says_where_the_last_token_looks() -> None:
    page = attention_html([SNAPSHOT])
    maps = re.findall(r'<svg role="img" aria-label="(.*?)" viewBox="0 0 3 3">(.*?)</svg>', page)
    assert len(maps) == 2
    label, drawn = maps[0]
    assert label.startswith("Head 0 of block 7, after update 1,750: the last token, ")
    assert label.endswith("position 1: 60%")
    assert dict(re.findall(r'<path class="(h\d)" d="(.*?)"/>', drawn)) == {
        "h0": "M0 0h1v1H0zM0 1h2v1H0zM0 2h3v1H0z",
        "h2": "M0 1h1v1h-1z",
        "h3": "M2 2h1v1h-1z",
        "h4": "M1 2h1v1h-1z",
        "h5": "M0 0h1v1h-1zM1 1h1v1h-1z",
    }
    assert "<figcaption>0: “cat” 60%</figcaption>" in page
    assert "<figcaption>1: “&lt;b&gt;” 97%</figcaption>" in page
    assert "<b>" not in page


def test_the_next_tokens_are_listed_with_their_probabilities() -> None:
    later = {**SNAPSHOT, "step": 2000, "next_probability": 0.995}
    page = next_tokens_html([SNAPSHOT, later])
    assert "a probability of 62.5% after update 1,750 and 99.5% after update 2,000." in page
    rows = re.findall(r'<tr><th scope="row" class="text">(.*?)</th><td>(.*?)</td>', page)
    assert rows == [(" sat", "62.5%"), ("&amp;", "25.0%")] * 2 + [(" dog", "50.0%")] * 2
    assert [*re.findall(r"M0 0h([\d.]+)v10", page)][:2] == ["62.5", "25.0"]


def test_a_run_without_snapshots_has_neither() -> None:
    assert attention_html([]) == next_tokens_html([]) == ""
