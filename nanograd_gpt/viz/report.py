"""report.html: a run on one self-contained page without scripts, in light and dark mode."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import exp, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..files import write_whole
from ..training.metrics import Event, Metrics, read_metrics
from .curves import evaluation_curves, number
from .plots import BLUE, GREEN, INK, ORANGE, PURPLE, plot_losses, plot_perplexity, plot_training, rendered

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # imported at run time by viz/plots.py: see viz/import_matplotlib.py

# CSS in place of the figures' colours, so that they follow dark mode
THEMED = {INK: "currentColor", BLUE: "var(--blue)", ORANGE: "var(--orange)", GREEN: "var(--green)"}
THEMED[PURPLE] = "var(--purple)"

CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #24292f; --soft: #59636e; --line: #d8dee4; --card: #f6f8fa;
  --blue: #0072b2; --orange: #d55e00; --green: #009e73; --purple: #b0558a; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6e9ec; --soft: #9aa4af; --line: #30363d;
  --card: #1c2128; --blue: #56b4e9; --orange: #f0863a; --green: #2fc79a; --purple: #dd9cc1; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { margin: 0; font-size: 1.9rem; overflow-wrap: anywhere; }
h2 { margin: 2.75rem 0 .75rem; font-size: 1.2rem; }
p.soft, dt, th, figcaption, .epoch { color: var(--soft); }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
dl.facts div { padding: .65rem .9rem; border: 1px solid var(--line); border-radius: .5rem; background: var(--card); }
dl.facts dt { font-size: .8rem; }
dl.facts dd { margin: 0; font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.groups { columns: 3 16rem; column-gap: 2rem; }
.groups section { break-inside: avoid; padding: .5rem 0; }
h3 { margin: 0 0 .25rem; font-size: .95rem; }
summary { cursor: pointer; color: var(--soft); }
figure { margin: 1.25rem 0; overflow-x: auto; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 0 1.5rem; }
figure svg { display: block; width: 100%; height: auto; }
figure.run svg { min-width: 38rem; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption { margin-top: .25rem; font-size: .9rem; }
.scroll { max-height: 32rem; overflow: auto; border: 1px solid var(--line); border-radius: .5rem; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid var(--line); }
.scroll th { position: sticky; top: 0; border-bottom: 1px solid var(--line); background: var(--card); }
tr:last-child > * { border-bottom: 0; }
tr.best td { font-weight: 700; color: var(--green); }
.groups th, .groups td { padding: .15rem 0; font-weight: 400; overflow-wrap: anywhere; }
.groups th { text-align: left; padding-right: 1rem; white-space: nowrap; }
.samples { margin: 0; padding: 0; list-style: none; }
.samples li { display: grid; grid-template-columns: 6rem 1fr; gap: 1rem; padding: .5rem 0;
  border-top: 1px solid var(--line); }
.epoch { font-size: .9rem; }
.text, blockquote { white-space: pre-wrap; overflow-wrap: anywhere; font-family: Georgia, "DejaVu Serif", serif; }
blockquote { margin: 0; padding: 1rem 1.25rem; border-left: 4px solid var(--blue); background: var(--card);
  font-size: 1.1rem; }
@media print { .scroll { max-height: none; } details > * { display: block; } }
"""


def write_report(run_dir: str | Path) -> Path:
    """Write run_dir/report.html from the run's config.toml, environment.json and metrics.jsonl; returns its path.

    Raises InputError if there is no metrics.jsonl, or if a file there cannot be read.
    """
    run_dir = Path(run_dir)
    metrics = read_metrics(run_dir / "metrics.jsonl")
    config = _loaded(run_dir / "config.toml", tomllib.loads)
    environment = _loaded(run_dir / "environment.json", json.loads)
    name = escape(run_dir.resolve().name)
    parts = [
        f"<header><h1>{name}</h1>{_summary(metrics)}{_settings(config, environment)}</header>",
        *_figures(metrics),
        _evaluations(metrics.evaluations),
        _samples(metrics.samples, run_dir / "samples.txt"),
    ]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}: training report</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}</style></head>\n<body>\n'
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )
    path = run_dir / "report.html"
    write_whole(path, page.encode(errors="replace"))  # JSON may hold lone surrogates, which UTF-8 cannot encode
    return path


def _loaded(path: Path, read: Any) -> dict[str, Any]:
    """The mapping in a file, empty if the file does not exist.  Raises InputError for any other content."""
    if not path.exists():
        return {}
    try:
        content = read(path.read_text(encoding="utf-8"))
    except ValueError as error:  # the base class of the errors of TOML, JSON and UTF-8
        raise InputError(f"report: {path} cannot be read ({error}); restore it, or remove it") from None
    if not isinstance(content, dict):
        raise InputError(f"report: {path} does not hold a table of settings; restore it, or remove it")
    return content


def _summary(metrics: Metrics) -> str:
    """The state of the run in one line, and its main numbers."""
    facts: dict[str, str] = {}
    state = []
    if metrics.starts:
        state.append(f"started {str(metrics.starts[0]['time'])[:16].replace('T', ' ')} UTC")
        facts["Parameters"] = f"{metrics.starts[-1]['n_parameters']:,}"
    if metrics.steps:
        last, seconds = metrics.steps[-1], _seconds(metrics.steps)
        facts |= {"Updates": f"{last['step'] + 1:,}", "Epoch": str(last["epoch"]), "Tokens seen": f"{last['tokens']:,}"}
        facts |= {"Time": _duration(seconds)}
        if seconds:
            facts["Tokens per second"] = f"{last['tokens'] / seconds:,.0f}"
    if metrics.evaluations:
        final, best = metrics.evaluations[-1], _best(metrics.evaluations)
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


def _seconds(steps: Sequence[Event]) -> float:
    """The total time of all sessions; a step's seconds count from the start of its session."""
    total = before = 0.0
    for step in steps:
        total += step["seconds"] - (before if step["seconds"] >= before else 0)
        before = step["seconds"]
    return total


def _duration(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours} h {m:02d} min" if hours else f"{m} min {s:02d} s" if m else f"{seconds:.1f} s"


def _settings(config: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Configuration and environment, which can be folded."""
    groups: dict[str, Mapping[str, Any]] = {"config": {k: v for k, v in config.items() if not isinstance(v, dict)}}
    groups |= {k: v for k, v in config.items() if isinstance(v, dict)}
    groups = {title: group for title, group in {**groups, "environment": environment}.items() if group}
    if not groups:
        return ""
    tables = "".join(f"<section><h3>{escape(title)}</h3>{_pairs(group)}</section>" for title, group in groups.items())
    return f'<details open><summary>Configuration and environment</summary><div class="groups">{tables}</div></details>'


def _pairs(group: Mapping[str, Any]) -> str:
    rows = (
        f'<tr><th scope="row">{escape(str(key))}</th><td>{escape(_value(value))}</td></tr>'
        for key, value in group.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(_value, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _figures(metrics: Metrics) -> Iterable[str]:
    """The training figure, and those of loss and perplexity if there are evaluations."""
    steps, evaluations = metrics.steps, metrics.evaluations
    if steps or evaluations:
        yield "<h2>Training</h2>"
        caption = "Loss of every update and at evaluations, with the learning rate below."
        yield _inline(plot_training(steps, evaluations), "run", caption)
    if evaluations:
        curves = evaluation_curves(metrics)
        losses = _inline(plot_losses(*curves), "loss", "Loss in nats per token.")
        caption = "exp(loss): the number of equally likely tokens with the same loss. Logarithmic scale."
        perplexity = _inline(plot_perplexity(*curves[1:], log=True), "perplexity", caption)
        yield f'<h2>Loss and perplexity at evaluations</h2><div class="pair">{losses}{perplexity}</div>'


def _inline(figure: Figure, name: str, caption: str) -> str:
    """A figure as inline SVG, in the page's colours and width, with a prefix for its ids."""
    svg = rendered(figure, "svg", transparent=True).decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg (.*?)width="\S+" height="\S+"', rf'<svg role="img" aria-label="{escape(caption)}" \1', svg, count=1
    )
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, themed in THEMED.items():
        svg = svg.replace(colour, themed)
    return f'<figure class="{name}">{svg}<figcaption>{escape(caption)}</figcaption></figure>'


def _evaluations(evaluations: Sequence[Event]) -> str:
    if not evaluations:
        return ""
    best = _best(evaluations)
    rows = []
    for e in evaluations:
        step = f"{e['step']:,}" if e["step"] >= 0 else "as loaded"
        cells = [str(e["epoch"]), step, f"{e['tokens']:,}"]
        cells += [_loss(e["train_loss"]), _loss(e["val_loss"])]
        cells += [_perplexity(e["train_loss"]), _perplexity(e["val_loss"])]
        rows.append(f"<tr{' class=best' if e is best else ''}>{''.join(f'<td>{escape(c)}</td>' for c in cells)}</tr>")
    names = (
        "Epoch",
        "Step",
        "Tokens seen",
        "Training loss",
        "Validation loss",
        "Training perplexity",
        "Validation perplexity",
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return (
        "<h2>Evaluations</h2>"
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        '<p class="soft">In bold: the lowest validation loss.</p>'
    )


def _samples(samples: Sequence[Event], path: Path) -> str:
    """The samples of all epochs, and the last one again."""
    if not samples:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return f'<h2>Samples</h2><p class="text">{escape(text)}</p>' if text else ""
    rows = "".join(
        f'<li><span class="epoch">Epoch {escape(str(sample["epoch"]))}</span>'
        f'<span class="text">{escape(sample["text"])}</span></li>'
        for sample in samples
    )
    last = f"<h2>Final sample</h2><blockquote>{escape(samples[-1]['text'])}</blockquote>"
    return f'<h2>Samples</h2><ol class="samples">{rows}</ol>{last}'


def _best(evaluations: Sequence[Event]) -> Event | None:
    """The evaluation with the lowest validation loss, if any is finite."""
    finite = [e for e in evaluations if isfinite(number(e["val_loss"]))]
    return min(finite, key=lambda e: number(e["val_loss"]), default=None)


def _loss(value: Any) -> str:
    return f"{number(value):.3f}"


def _perplexity(loss: Any) -> str:
    value = number(loss)
    if value > 700:  # exp overflows a little above
        return "> 1e304"
    return f"{exp(value):,.2f}" if value < 14 else f"{exp(value):.2e}"
