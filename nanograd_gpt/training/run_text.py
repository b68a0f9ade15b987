"""Path of a run's text: absolute in config.toml, and relative to the run's directory in environment.json.

The text is found from any working directory, and after run and text were moved together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..documents import read_json
from ..errors import InputError
from ..files import UnreadableError
from .config import RunConfig
from .corpus import BUILTIN_TEXTS, load_text

RELATIVE_DATA = "data_from_run"  # key in environment.json


def text_hash(text: str) -> str:
    """Return a text's SHA-256 in hexadecimal."""
    return sha256(text.encode()).hexdigest()


def absolute_paths(config: RunConfig) -> dict[str, str]:
    """Return the settings of a configuration that are paths, made absolute; names such as "gpt2" are left out."""
    paths = {"data": config.data.data, "tokenizer": config.data.tokenizer, "weights": config.training.weights}
    names = {"data": BUILTIN_TEXTS, "tokenizer": ("own", "gpt2"), "weights": ("",)}
    return {name: _absolute(path) for name, path in paths.items() if path not in names[name]}


def relative_data_path(config: RunConfig, directory: Path) -> dict[str, str]:
    """Return the entry for a run's environment.json; empty for a built-in text and for a file on another drive."""
    try:
        path = os.path.relpath(os.path.expanduser(config.data.data), directory)
        path.encode()
    except ValueError:  # another drive, or a path that is not UTF-8, which JSON cannot hold
        return {}
    return {} if config.data.data in BUILTIN_TEXTS else {RELATIVE_DATA: Path(path).as_posix()}  # for other systems too


def find_text(directory: Path, data: str, expected: str | None, remedy: str) -> str:
    """Find the text that a run was trained on; returns a source for load_text.

    data                the setting in the run's config.toml
    expected            SHA-256 of the text, or None to accept any
    remedy              what the user can do, the end of the error message

    Raises InputError if no candidate path has such a text.
    """
    if data in BUILTIN_TEXTS:
        return data
    found = None
    for source in _candidate_paths(directory, data):
        if not os.path.isfile(os.path.expanduser(source)):
            continue
        found = found or source
        if _is_text(source, expected):
            return source
    if found is None:
        raise InputError(f"data: {data!r}, the text of the run {directory}, no longer exists; {remedy}")
    raise InputError(f"data: the text {found!r} has changed since the run {directory}; {remedy}")


def check_text(directory: Path, source: str, expected: str | None) -> None:
    """Raise InputError unless `source` is the text that a run was trained on."""
    if expected not in (None, text_hash(load_text(source))):
        raise InputError(
            f"resume: --data {source} is not the text that {directory} was trained on (its SHA-256 differs); "
            "give the same text, leave out --data, or add --allow-mismatch to go on with this one"
        )


def _is_text(source: str, expected: str | None) -> bool:
    """Tell whether a file is a text with the expected SHA-256, or any text if None is expected."""
    try:
        return expected in (None, text_hash(load_text(source)))
    except InputError:  # not a text file
        return False


def _candidate_paths(directory: Path, data: str) -> Iterator[str]:
    """Yield possible paths of the text: as written, relative to the run, or relative to its parent directories."""
    yield data
    here = os.path.abspath(directory)
    if isinstance(path := read_environment(directory).get(RELATIVE_DATA), str):
        yield os.path.normpath(os.path.join(here, path))
    if not os.path.isabs(data):  # written by an older version, which kept relative paths
        yield from (str(parent / data) for parent in Path(here).parents)


def read_environment(directory: Path) -> dict[str, Any]:
    """Read a run's environment.json; empty if it is missing or damaged, since nothing in it is needed."""
    try:
        return read_json(directory / "environment.json")
    except UnreadableError:
        return {}


def _absolute(path: str) -> str:
    """Make a path absolute; unchanged if nothing exists there ("own", "gpt2") or the result is not UTF-8."""
    absolute = os.path.abspath(os.path.expanduser(path))
    try:
        absolute.encode()
    except UnicodeEncodeError:
        return path
    return absolute if os.path.exists(absolute) else path
