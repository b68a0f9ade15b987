"""The page as one HTML file: template, style sheet, scripts and data, with a policy that forbids every request."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from importlib import resources
from typing import Any

D3 = ("array", "path", "color", "format", "interpolate", "time", "time-format", "scale", "shape", "selection", "axis")

SCRIPTS = (  # in one function, in this order; the last one starts the page
    "data",
    "format",
    "sampling",
    "drawing",
    "tokens",
    "attention",
    "path",
    "predictions",
    "influence",
    "state",
)


def page(data: Mapping[str, Any], texts: Mapping[str, str]) -> str:
    """The page of a payload; texts: the plain texts of the template's {{names}}, escaped here."""
    scripts = "\n".join(_asset("assets", "d3", f"d3-{name}.min.js") for name in D3), _own_script()
    parts = {name: escape(text) for name, text in texts.items()}
    parts |= {
        "policy": escape(_policy(scripts)),
        "style": _asset("explore", "page", "page.css"),
        "data": script_json(data),
        "d3": scripts[0],
        "script": scripts[1],
    }
    template = _asset("explore", "page", "page.html")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)


def script_json(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the script element that holds it, nor begin a comment there."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _own_script() -> str:
    """The page's scripts in one strict function, which shares nothing with the rest of the page but D3."""
    files = "\n".join(_asset("explore", "page", f"{name}.js") for name in SCRIPTS)
    return f'(function (d3) {{\n"use strict";\n\n{files}\nstart();\n}})(window.d3);\n'


def _policy(scripts: tuple[str, ...]) -> str:
    """A Content-Security-Policy for exactly these scripts, for styles in the page, and for images drawn by it."""
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _asset(*path: str) -> str:
    """The text of a file of the package, whose line ends a clone may have changed: a page's are those of HTML."""
    return resources.files("nanograd_gpt").joinpath(*path).read_text(encoding="utf-8").replace("\r\n", "\n")
