"""The numbers of a run's layers in words and in a table, beside their heat maps."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ..training.metrics import Event

FIELDS = {  # of an event: a name, and the unit in which numbers are shown
    "update_ratio": ("Update / weights, in thousandths", 1e-3),
    "gradient_rms": ("Gradient, in thousandths", 1e-3),
    "activation_rms": ("Activation", 1.0),
}


def layers_caption(events: Sequence[Event]) -> str:
    """State how large the last updates were, and how far the residual stream grows."""
    if not events:
        return ""
    last = events[-1]
    parts = [f"Colours are steps of the scales on the right; the numbers are below. At update {last['step']:,}"]
    ratios = {layer: value for layer, value in last["update_ratio"].items() if value is not None}
    if ratios:
        least, most = min(ratios, key=lambda layer: ratios[layer]), max(ratios, key=lambda layer: ratios[layer])
        parts.append(
            f"an update changes the weights by {_number(ratios[least], 1e-3)} ({least}) to "
            f"{_number(ratios[most], 1e-3)} ({most}) thousandths of their size; "
            "about 1 is the usual advice while the learning rate is high"
        )
    stream = [(layer, value) for layer, value in last["activation_rms"].items() if value is not None]
    if len(stream) > 1:
        (first, small), (final, large) = stream[0], stream[-1]
        parts.append(f"the residual stream has an rms of {small:.3g} after the {first} and {large:.3g} after {final}")
    return f"{parts[0]}, {'; '.join(parts[1:])}." if parts[1:] else f"{parts[0]}, nothing was measured."


def layers_table(events: Sequence[Event]) -> str:
    """The first and the last measurement of each layer, as HTML."""
    if not events:
        return ""
    first, last = events[0], events[-1]
    layers = [*dict.fromkeys(layer for field in FIELDS for layer in last[field])]
    rows = "".join(
        f'<tr><th scope="row">{escape(layer.capitalize())}</th>'
        + "".join(
            f"<td>{_number(event[field].get(layer), unit)}</td>"
            for field, (_, unit) in FIELDS.items()
            for event in (first, last)
        )
        + "</tr>"
        for layer in layers
    )
    names = "".join(f'<th scope="colgroup" colspan="2">{name}</th>' for name, _ in FIELDS.values())
    updates = "".join(f'<th scope="col">{event["step"]:,}</th>' for _ in FIELDS for event in (first, last))
    return (
        '<div class="scroll" tabindex="0"><table><thead>'
        f'<tr><th scope="col" rowspan="2">Layer, at update</th>{names}</tr><tr>{updates}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _number(value: Any, unit: float) -> str:
    if value is None:
        return ""
    return f"{value / unit:.2g}" if value < 100 * unit else f"{value / unit:,.0f}"
