"""report.html: a run on one self-contained page without scripts, in light and dark mode."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import isfinite
from pathlib import Path
from typing import Any

from ..files import UnreadableError, read_bytes
from ..training.metrics import Event, Metrics
from .captions import (
    loss_caption,
    perplexity,
    perplexity_caption,
    surprise_caption,
    tales_caption,
    training_caption,
)
from .curves import best_evaluation, evaluation_curves, number, total_seconds
from .figure_files import svgs
from .layers import layers_caption, layers_table
from .page import figure_html, setting_text, write_html
from .run_figures import run_figures
from .run_files import RunFiles, read_run
from .snapshots import attention_html, next_tokens_html
from .surprise import legend_html, nats, surprise_html

MAX_SAMPLES = 16 << 20  # bytes of samples.txt


def write_report(run_dir: str | Path, out: str | Path | None = None) -> Path:
    """Write report.html from the files of a run, see RunFiles, into the directory `out` [run_dir]; returns its path.

    Warns of damage, which is passed over.  Raises InputError if metrics.jsonl is missing.
    """
    run = read_run(Path(run_dir))
    if run.damage:
        warnings.warn(run.damage, stacklevel=2)
    return write_page(run, Path(run_dir), Path(out or run_dir))


def write_page(run: RunFiles, run_dir: Path, out: Path, wide: Mapping[str, bytes] | None = None) -> Path:
    """Write report.html from a run's files into a directory; returns its path.

    wide: SVG files of run_figures(run), if they are drawn already.
    """
    name = escape(run_dir.resolve().name)
    parts = [
        f"<header><h1>{name}</h1>{_summary(run.metrics)}</header>",
        *_figures(run, wide),
        attention_html(run.snapshots),
        next_tokens_html(run.snapshots),
        _surprise(run.surprise),
        _evaluations(run.metrics.evaluations),
        _samples(run.metrics.samples, run_dir / "samples.txt"),
        _settings(run.config, run.environment),
    ]
    return write_html(out / "report.html", f"{run_dir.resolve().name}: training report", parts)


def _summary(metrics: Metrics) -> str:
    """The state of the run in one line, and its main numbers."""
    facts: dict[str, str] = {}
    state = []
    if metrics.starts:
        if "time" in metrics.starts[0]:
            state.append(f"started {metrics.starts[0]['time'][:16].replace('T', ' ')} UTC")
        if "n_parameters" in metrics.starts[-1]:
            facts["Parameters"] = f"{metrics.starts[-1]['n_parameters']:,}"
    if metrics.steps:
        last, seconds = metrics.steps[-1], total_seconds(metrics.steps)
        facts |= {"Updates": f"{last['step'] + 1:,}", "Epoch": str(last["epoch"]), "Tokens seen": f"{last['tokens']:,}"}
        facts |= {"Time": _duration(seconds)}
        if seconds:
            facts["Tokens per second"] = f"{last['tokens'] / seconds:,.0f}"
    if lost := [event["step"] for event in metrics.steps if not isfinite(number(event["loss"]))]:
        updates = "one update" if len(lost) == 1 else f"{len(lost):,} updates"
        state.append(f"with a loss that is not finite in {updates}, first at step {lost[0]:,}")
    if metrics.evaluations:
        final, best = metrics.evaluations[-1], best_evaluation(metrics.evaluations)
        facts |= {"Training loss": _loss(final["train_loss"]), "Validation loss": _loss(final["val_loss"])}
        if best is not None and best is not final:
            facts["Lowest validation loss"] = _loss(best["val_loss"])
    if len(metrics.starts) > 1:
        times = len(metrics.starts) - 1
        state.append("resumed once" if times == 1 else f"resumed {times} times")
    finished = metrics.end is not None and metrics.steps and metrics.end["steps"] == metrics.steps[-1]["step"] + 1
    state.append("finished" if finished else "not finished: stopped early, or still running")
    tiles = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<p class="soft">Training {escape(", ".join(state))}.</p><dl class="facts">{tiles}</dl>'


def _duration(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours} h {m:02d} min" if hours else f"{m} min {s:02d} s" if m else f"{seconds:.1f} s"


def _settings(config: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Configuration and environment, folded."""
    groups: dict[str, Mapping[str, Any]] = {"config": {k: v for k, v in config.items() if not isinstance(v, dict)}}
    groups |= {k: v for k, v in config.items() if isinstance(v, dict)}
    groups = {title: group for title, group in {**groups, "environment": environment}.items() if group}
    if not groups:
        return ""
    tables = "".join(f"<section><h3>{escape(title)}</h3>{_pairs(group)}</section>" for title, group in groups.items())
    return f'<details><summary>Configuration and environment</summary><div class="groups">{tables}</div></details>'


def _pairs(group: Mapping[str, Any]) -> str:
    rows = (
        f'<tr><th scope="row">{escape(str(key))}</th><td>{escape(setting_text(value))}</td></tr>'
        for key, value in group.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _figures(run: RunFiles, wide: Mapping[str, bytes] | None) -> Iterable[str]:
    """The training figure, and those of loss, perplexity and tales if there are evaluations."""
    wide, narrow = svgs(run_figures(run)) if wide is None else wide, svgs(run_figures(run, narrow=True))
    curves = evaluation_curves(run.metrics)
    captions = {
        "training": training_caption(run.metrics, run.drop_rate),
        "loss": loss_caption(curves),
        "perplexity": perplexity_caption(curves, run.vocab_size) if curves.tokens else "",
        "layers": layers_caption(run.metrics.layers),
        "tales": tales_caption(run.metrics.tales),
    }
    figures = {name: figure_html(name, wide[name], narrow[name], captions[name]) for name in wide}
    if "training" in figures:
        yield f"<h2>Training</h2>{figures['training']}"
    if "loss" in figures:
        pair = figures["loss"] + figures["perplexity"]
        yield f'<h2>Loss and perplexity at evaluations</h2><div class="pair">{pair}</div>'
    if "layers" in figures:
        table = layers_table(run.metrics.layers)
        yield f"<h2>Updates, gradients and activations by layer</h2>{figures['layers']}{table}"
    if (tales := figures.get("tales")) is not None:
        yield f'<h2>Tales by the model</h2><div class="pair">{tales}</div>'


def _surprise(surprise: Mapping[str, Any]) -> str:
    """The beginning of both texts, coloured by surprise."""
    means, texts = {}, []
    for name in ("training", "validation"):
        if name not in surprise:
            continue
        tokens, probabilities = surprise[name]["tokens"], surprise[name]["probabilities"]
        known = [nats(p) for p in probabilities if p is not None]
        means[name] = sum(known) / len(known)
        text = surprise_html(tokens, probabilities)
        texts.append(f'<h3>{name.capitalize()} text</h3><p class="text tokens">{text}</p>')
    if not texts:
        return ""
    return (
        "<h2>Which words surprise the model</h2>"
        f"<p>The beginning of each text, each token coloured by its probability given the tokens before it, after "
        f'step {escape(str(surprise.get("step")))}:</p><p class="legend">{legend_html()}</p>'
        f"{''.join(texts)}<p>{escape(surprise_caption(means))}</p>"
    )


def _evaluations(evaluations: Sequence[Event]) -> str:
    if not evaluations:
        return ""
    best = best_evaluation(evaluations)
    rows = []
    for e in evaluations:
        step = f"{e['step']:,}" if e["step"] >= 0 else "as loaded"
        cells = [str(e["epoch"]), step, f"{e['tokens']:,}"]
        cells += [_loss(e["train_loss"]), _loss(e["val_loss"])]
        cells += [perplexity(e["train_loss"]), perplexity(e["val_loss"])]
        rows.append(f"<tr{' class=best' if e is best else ''}>{''.join(f'<td>{escape(c)}</td>' for c in cells)}</tr>")
    single = "".join(f'<th scope="col" rowspan="2">{name}</th>' for name in ("Epoch", "Step", "Tokens seen"))
    pairs = "".join(f'<th scope="colgroup" colspan="2">{name}</th>' for name in ("Loss", "Perplexity"))
    below = '<th scope="col">train</th><th scope="col">val</th>' * 2
    lowest = "" if best is None else '<p class="soft">Highlighted: the lowest validation loss.</p>'
    return (
        "<h2>Evaluations</h2>"
        f'<div class="scroll" tabindex="0"><table><thead><tr>{single}{pairs}</tr><tr>{below}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{lowest}"
    )


def _samples(samples: Sequence[Event], path: Path) -> str:
    """The samples of all epochs, and the last one again."""
    if not samples:
        try:
            text = read_bytes(path, MAX_SAMPLES).decode(errors="replace")
        except UnreadableError:  # it is only a second place for them
            text = ""
        return f'<h2>Samples</h2><p class="text">{escape(text)}</p>' if text else ""
    rows = "".join(
        f'<li><span class="epoch">Epoch {escape(str(sample["epoch"]))}</span>'
        f'<span class="text">{escape(sample["text"])}</span></li>'
        for sample in samples
    )
    last = f"<h2>Final sample</h2><blockquote>{escape(samples[-1]['text'])}</blockquote>"
    return f'<h2>Samples</h2><ol class="samples">{rows}</ol>{last}'


def _loss(value: Any) -> str:
    return f"{number(value):.3f}"
