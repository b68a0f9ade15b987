"""GPT-2's weights from the Hugging Face hub: downloaded once, and verified by their SHA-256 at every use.

NAME.safetensors         in the user's cache
NAME.safetensors.sha256  hash of the first download, for a file whose hash is not known in advance
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..errors import InputError, RunError, did_you_mean
from ..files import fsync, sha256_of, write_whole
from ..gpt.config import GPT2_NAMES
from .resumable_download import CutOffError, Resumable, why_failed

REPOSITORIES = "https://huggingface.co/openai-community"


class Source(NamedTuple):
    """A file's URL, and its SHA-256 if known."""

    url: str
    sha256: str | None = None


GPT2 = {
    "gpt2": Source(
        f"{REPOSITORIES}/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e/model.safetensors",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    ),
    "gpt2-medium": Source(f"{REPOSITORIES}/gpt2-medium/resolve/main/model.safetensors"),
    "gpt2-large": Source(f"{REPOSITORIES}/gpt2-large/resolve/main/model.safetensors"),
    "gpt2-xl": Source(f"{REPOSITORIES}/gpt2-xl/resolve/main/model.safetensors"),
}


def is_gpt2_name(name: str) -> bool:
    """Tell whether a name is one of GPT-2's, which download_gpt2 takes."""
    return name.lower() in _known_names()


def _known_names() -> dict[str, str]:
    """Every name of GPT-2's weights, with the one on the hub."""
    return {name: others[0] for preset, others in GPT2_NAMES.items() for name in (*others, preset)}


def download_gpt2(name: str = "gpt2") -> Path:
    """Download GPT-2's weights to the user's cache, unless they are there; returns the file, for load_pretrained.

    name                "gpt2" (or "gpt2-small", "gpt2-124m"), "gpt2-medium" ("gpt2-355m"), "gpt2-large" ("gpt2-774m")
                        or "gpt2-xl" ("gpt2-1558m") ["gpt2"]

    Raises InputError for another name, and RunError if the cached file is damaged or the download fails, with the URL.
    """
    names = _known_names()
    if not is_gpt2_name(name):
        raise InputError(f"model: {name!r} is not one of GPT-2's names{did_you_mean(name.lower(), list(names))}")
    name = names[name.lower()]
    import pooch  # slow to import, and only downloads need it

    cache, source = Path(pooch.os_cache("nanograd_gpt")), GPT2[name]
    path, record = cache / f"{name}.safetensors", cache / f"{name}.safetensors.sha256"
    if path.exists():
        _verify(path, record, source)
    else:
        _download(name, source, path, record)
    return path


def _verify(path: Path, record: Path, source: Source) -> None:
    found, known = sha256_of(path), source.sha256
    if known is None and record.is_file():
        known = record.read_text(encoding="ascii", errors="replace").strip()
    if known is None:  # the user put the file there
        write_whole(record, f"{found}\n".encode())
    elif found != known:
        raise RunError(
            f"model: {path} is damaged: its SHA-256 is {found}, not {known}; delete it, and run this again to "
            "download it"
        )


def _download(name: str, source: Source, path: Path, record: Path) -> None:
    import pooch
    from requests import RequestException

    pooch.get_logger().setLevel("WARNING")
    downloader = Resumable(path.with_name(f"{name}.partial"), None if source.sha256 else record)
    by_hand = f"or save {source.url} yourself and give it with --weights PATH"
    try:
        pooch.retrieve(source.url, source.sha256, fname=path.name, path=path.parent, downloader=downloader)
        fsync(path.parent)  # pooch has renamed the file once more
    except CutOffError as error:
        raise RunError(
            f"model: the download of {name} was cut off ({error}); run this again to go on, {by_hand}"
        ) from None
    except RequestException as error:
        raise RunError(f"model: {name} could not be downloaded ({why_failed(error)}); try again, {by_hand}") from None
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise RunError(
            f"model: {name} was damaged in transit and deleted ({reason}); run this again, {by_hand}"
        ) from None
    except OSError as error:
        raise RunError(
            f"model: {path} could not be written ({error.strerror or error}); free space there, {by_hand}"
        ) from None
