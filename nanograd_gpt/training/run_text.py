"""The place of a run's text: config.toml holds the absolute path, environment.json the path relative to the run.

So the text is found from any folder, and where run and text were moved together.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import InputError
from .config import RunConfig
from .corpus import BUILTIN_TEXTS, load_text

RELATIVE_DATA = "data_from_run"  # its name in environment.json


def text_hash(text: str) -> str:
    """A text's SHA-256."""
    return sha256(text.encode()).hexdigest()


def with_absolute_paths(config: RunConfig) -> RunConfig:
    """A configuration that means the same in every folder; what is no path to a file stays."""
    paths = {"data": config.data.data, "tokenizer": config.data.tokenizer, "weights": config.training.weights}
    names = {"data": BUILTIN_TEXTS, "tokenizer": ("own", "gpt2"), "weights": ("",)}
    return config.replace({name: _absolute(path) for name, path in paths.items() if path not in names[name]})


def relative_data_path(config: RunConfig, directory: Path) -> dict[str, str]:
    """The entry for a run's environment.json: empty if the text is not a file, or is on another drive."""
    try:
        way = os.path.relpath(os.path.expanduser(config.data.data), directory)
        way.encode()
    except ValueError:  # a path that is not UTF-8, too, which JSON cannot hold
        return {}
    return {} if config.data.data in BUILTIN_TEXTS else {RELATIVE_DATA: way}


def find_text(directory: Path, data: str, expected: str | None, remedy: str) -> str:
    """The source, for load_text, of the text that a run was trained on, of which `data` is its config.toml's.

    The first place that has a text of the expected SHA-256.  Raises InputError, which ends with the remedy, where none
    has.
    """
    if data in BUILTIN_TEXTS:
        return data
    found = None
    for source in _places(directory, data):
        if not os.path.isfile(os.path.expanduser(source)):
            continue
        found = found or source
        if _is_text(source, expected):
            return source
    if found is None:
        raise InputError(f"data: {data!r}, the text of the run {directory}, is not there any more; {remedy}")
    raise InputError(f"data: the text {found!r} has changed since the run {directory}; {remedy}")


def check_text(directory: Path, source: str, expected: str | None) -> None:
    """Raise InputError unless a source has the text that a run was trained on."""
    if expected not in (None, text_hash(load_text(source))):
        raise InputError(
            f"resume: --data {source} is not the text that {directory} was trained on (its SHA-256 is another); "
            "give the same text, or leave out --data"
        )


def _is_text(source: str, expected: str | None) -> bool:
    """Whether a file has the text of this SHA-256, or any text where none is known."""
    try:
        return expected in (None, text_hash(load_text(source)))
    except InputError:  # it is none
        return False


def _places(directory: Path, data: str) -> Iterator[str]:
    """Places where the text may be: as written, relative to the run, or relative to a folder above the run."""
    yield data
    here = os.path.abspath(directory)
    if way := _environment(directory).get(RELATIVE_DATA):
        yield os.path.normpath(os.path.join(here, str(way)))
    if not os.path.isabs(data):  # of a run from before the path was made absolute
        yield from (str(parent / data) for parent in Path(here).parents)


def _environment(directory: Path) -> dict[str, Any]:
    try:
        facts = json.loads((directory / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # without it there is one place less to look at
        return {}
    return facts if isinstance(facts, dict) else {}


def _absolute(path: str) -> str:
    """The same where the path is no file's, as 'own' or 'gpt2', or where the folder's name is not UTF-8."""
    whole = os.path.abspath(os.path.expanduser(path))
    try:
        whole.encode()
    except UnicodeEncodeError:
        return path
    return whole if os.path.exists(whole) else path
