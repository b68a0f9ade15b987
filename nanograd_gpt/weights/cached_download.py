"""Files of fixed contents in the user's cache: downloaded once, and verified by their SHA-256 at every use."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

from ..errors import Notice, RunError
from ..files import UnreadableError, fsync, make_directory, reason_of, regular_size, sha256_of
from .resumable_download import CutOffError, RefusedAnswerError, Resumable, why_failed


class Remote(NamedTuple):
    """A file on a server: its URL, its SHA-256, and the smallest and largest size that it can have, in bytes."""

    url: str
    sha256: str
    least: int
    most: int


def cached(remote: Remote, file_name: str, subject: str, option: str) -> Path:
    """Return a file's path in the user's cache; it is downloaded unless it is there and whole.

    subject: the setting and the file, for messages: "model: gpt2".  option: the one that takes a file's path.
    Raises RunError, with the URL, if the download fails, and for an entry that cannot be read.  Warns with a Notice
    that a damaged entry was deleted.
    """
    import pooch  # slow to import, and only downloads need it

    path = Path(pooch.os_cache("nanograd_gpt")) / file_name
    if path.exists():
        _delete_if_damaged(path, remote, subject)
    if not path.exists():
        by_hand = f"or save {remote.url} as {path}, or elsewhere and give it with {option} PATH"
        _download(path, remote, subject, by_hand)
    return path


def _delete_if_damaged(path: Path, remote: Remote, subject: str) -> None:
    try:
        regular_size(path)
        found = sha256_of(path)
        if found == remote.sha256:
            return
        path.unlink()
    except (UnreadableError, OSError) as error:
        raise RunError(
            f"{subject}: {path} cannot be verified ({reason_of(error)}); remove it, and run this again"
        ) from None
    warnings.warn(
        Notice(
            f"{subject}: {path} was damaged and is deleted (its SHA-256 was {found}, not {remote.sha256}); it is "
            "downloaded again"
        ),
        stacklevel=2,
    )


def _download(path: Path, remote: Remote, subject: str, by_hand: str) -> None:
    import pooch
    from requests import RequestException

    pooch.get_logger().setLevel("WARNING")
    downloader = Resumable(path.with_name(f"{path.stem}.partial"), remote.least, remote.most)
    try:
        make_directory(path.parent)  # pooch's own error would have no reason
        pooch.retrieve(remote.url, remote.sha256, fname=path.name, path=path.parent, downloader=downloader)
        fsync(path.parent)  # pooch has renamed the file once more
    except CutOffError as error:
        raise RunError(f"{subject}: the download was cut off ({error}); run this again to go on, {by_hand}") from None
    except RefusedAnswerError as error:
        raise RunError(f"{subject} was not received ({error}); try another network, {by_hand}") from None
    except RequestException as error:
        raise RunError(f"{subject} could not be downloaded ({why_failed(error)}); try again, {by_hand}") from None
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{subject} was damaged in transit and deleted ({reason}); run this again, {by_hand}") from None
    except OSError as error:
        raise RunError(
            f"{subject}: {path} could not be written ({reason_of(error)}); free space there, {by_hand}"
        ) from None
