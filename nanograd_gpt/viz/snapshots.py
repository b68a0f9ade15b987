"""A run's snapshots as HTML: where each head looks in a fixed text, and the likeliest next tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from html import escape

from ..training.snapshots import Snapshot
from .surprise import visible_text

LEAST = (0.05, 0.15, 0.3, 0.5, 0.75)  # the least attention weight of colours 1 .. 5; below the first it is colour 0
LEVELS = ("below 5%", "5 to 15%", "15 to 30%", "30 to 50%", "50 to 75%", "75% or more")
MOST_CHARACTERS = 10  # of a token under a map


def attention_html(snapshots: Sequence[Snapshot]) -> str:
    """A small map for each head, at each snapshot; empty without snapshots."""
    if not snapshots:
        return ""
    legend = " ".join(
        f'<span><svg class="key" viewBox="0 0 1 1" aria-hidden="true"><path class="h{i}" d="M0 0h1v1H0z"/></svg>'
        f"{name}</span>"
        for i, name in enumerate(LEVELS)
    )
    moments = "".join(_moment(snapshot, _blocks(snapshot)) for snapshot in snapshots)
    text = "".join(f"<span>{_shown(token)}</span>" for token in snapshots[-1]["text"])
    n = len(snapshots[-1]["text"])
    return (
        f"<h2>Where each head looks</h2><p>The first {n} tokens of a line of the validation text:</p>"
        f'<p class="text parted">{text}</p>'
        "<p>Blocks and heads are numbered from 0. A row of a map is one of these tokens, from the top; its columns are "
        "the tokens up to it, coloured by the share of attention that each gets. Under a map: where the last token "
        "looks most.</p>"
        f'<p class="legend keys">{legend}</p><div class="moments">{moments}</div>'
    )


def _blocks(snapshot: Snapshot) -> str:
    when = _when(snapshot)
    return "".join(
        f'<h4>Block {number}</h4><div class="heads">'
        + "".join(_head(snapshot, rows, f"Head {i} of block {number}, {when}", i) for i, rows in enumerate(heads))
        + "</div>"
        for number, heads in zip(snapshot["blocks"], snapshot["attention"], strict=True)
    )


def _head(snapshot: Snapshot, rows: list[list[float]], name: str, number: int) -> str:
    text, last = snapshot["text"], rows[-1]
    best = max(range(len(last)), key=lambda k: last[k])
    label = f"{name}: the last token, {text[-1]!r}, looks most at {text[best]!r}, at position {best}: {last[best]:.0%}"
    n, looked_at = len(rows), _shown(_cut(text[best].strip() or text[best]))
    paths = [[f"M0 {q}h{q + 1}v1H0z" for q in range(n)], *([] for _ in LEAST)]
    for q, row in enumerate(rows):
        for k, weight in enumerate(row):
            if level := bisect_right(LEAST, weight):
                paths[level].append(f"M{k} {q}h1v1h-1z")
    drawn = "".join(f'<path class="h{i}" d="{"".join(d)}"/>' for i, d in enumerate(paths) if d)
    return (
        f'<figure><svg role="img" aria-label="{escape(visible_text(label))}" viewBox="0 0 {n} {n}">{drawn}</svg>'
        f"<figcaption>{number}: “{looked_at}” {last[best]:.0%}</figcaption></figure>"
    )


def next_tokens_html(snapshots: Sequence[Snapshot]) -> str:
    """The likeliest next tokens after the same text and after the prompt; empty without snapshots."""
    if not snapshots:
        return ""
    last = snapshots[-1]
    chances = [f"{snapshot['next_probability']:.1%} {_when(snapshot)}" for snapshot in snapshots]
    parts = [
        (
            "after_text",
            f"After “{_end_of(last['text'])}”, the end of the text above, which goes on with "
            f"“{_shown(last['next'])}”: that has a probability of {_listed(chances)}.",
        ),
        ("after_prompt", f"After the prompt, “{_end_of(last['prompt'])}”:"),
    ]
    sections = "".join(
        f'<p>{sentence}</p><div class="moments">'
        + "".join(_moment(snapshot, _likeliest(snapshot[name])) for snapshot in snapshots)
        + "</div>"
        for name, sentence in parts
    )
    return f"<h2>The likeliest next tokens</h2>{sections}"


def _likeliest(pairs: Sequence[tuple[str, float]]) -> str:
    rows = "".join(
        f'<tr><th scope="row" class="text">{_shown(token)}</th><td>{probability:.1%}</td>'
        f'<td class="bar"><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="h3" d="M0 0h{max(0.5, 100 * probability):.1f}v10H0z"/></svg></td></tr>'
        for token, probability in pairs
    )
    return f'<table class="likeliest">{rows}</table>'


def _moment(snapshot: Snapshot, content: str) -> str:
    return f"<section><h3>{_when(snapshot).capitalize()}</h3>{content}</section>"


def _when(snapshot: Snapshot) -> str:
    return f"after update {snapshot['step']:,}"


def _end_of(tokens: Sequence[str]) -> str:
    """The last words of a text."""
    text = "".join(tokens)
    return _shown(f"… {text[-40:].partition(' ')[2]}" if len(text) > 40 else text)


def _cut(token: str) -> str:
    return token if len(token) <= MOST_CHARACTERS else f"{token[:MOST_CHARACTERS]}…"


def _listed(items: Sequence[str]) -> str:
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last


def _shown(token: str) -> str:
    """A token as HTML, control characters visible."""
    return escape(visible_text(token).rstrip("\n"))
