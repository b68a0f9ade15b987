"""HTTP downloads that resume after an interruption."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urljoin, urlsplit

from ..files import fsync, rename

CONNECT, READ = 5.0, 30.0  # timeouts in seconds: to connect, and between two chunks
CHUNK = 1 << 16  # bytes; an interrupted transfer loses at most one chunk
MAX_REDIRECTS = 10  # the hub has one or two
LONGEST_REASON = 80  # characters of a server's words


class CutOffError(OSError):
    """A transfer ended early.  The partial file is kept, and the next transfer resumes from it."""


def why_failed(error: Exception) -> str:
    """The reason of a failed request in a few words: the answer's status, or the cause of a failed connection."""
    from requests import HTTPError, RequestException, Timeout

    if isinstance(error, HTTPError) and error.response is not None:
        return (
            f"the server answered {error.response.status_code} {(error.response.reason or '')[:LONGEST_REASON]}".strip()
        )
    if isinstance(error, Timeout):
        return "no answer in time"
    cause: BaseException = error
    while (
        inner := cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    ) is not None:  # urllib3's and the system's errors are inside
        cause = inner
    reason = getattr(cause, "strerror", None) or " ".join(str(cause).split()) or type(cause).__name__
    return f"no connection: {reason}" if isinstance(error, RequestException) else reason


class RefusedAnswerError(ValueError):
    """An answer that cannot be the file, or a redirect that is not followed.  Nothing was written."""


class Resumable:
    """Downloader for pooch: fills `partial`, and moves it to pooch's path once it is complete.

        NAME.partial          the bytes received so far
        NAME.partial.version  the server's ETag or date for that version; without it the transfer cannot be resumed

    least, most: the file's size in bytes; an answer of another size is refused, and no more is ever received.
    """

    def __init__(self, partial: Path, least: int, most: int) -> None:
        self.partial, self.least, self.most = partial, least, most
        self.version = partial.with_name(f"{partial.name}.version")

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Download.

        Raises CutOffError if interrupted, requests' errors if the server refuses, RefusedAnswerError for an answer that
        is refused, ValueError for too many bytes.
        """
        self._transfer(url)
        fsync(self.partial)
        rename(self.partial, Path(output_file))
        self._discard()

    def _transfer(self, url: str) -> None:
        """Complete the partial file."""
        start, headers = self._resume_point()
        with _answer(url, headers) as response:
            answered_range = start > 0 and response.status_code in (206, 416)
            if answered_range and not self._continues(response, start):
                self._discard()
                self._transfer(url)
            elif not (answered_range and response.status_code == 416):  # 416: no bytes are left
                self._receive(response, answered_range)

    def _resume_point(self) -> tuple[int, dict[str, str]]:
        """Return the number of bytes present, and the headers that request the rest."""
        headers = {"Accept-Encoding": "identity"}  # no compression, so that byte offsets are the file's
        version = self._known_version()
        size = self.partial.stat().st_size if version and self.partial.is_file() else 0
        return size, headers | ({"Range": f"bytes={size}-", "If-Range": version} if size else {})

    def _known_version(self) -> str:
        return self.version.read_text(encoding="latin-1") if self.version.is_file() else ""

    def _continues(self, response: Any, start: int) -> bool:
        """Tell whether a range response starts where the partial file ends, and is of the same version."""
        begins, total = _span(response)
        same = _version(response) in ("", self._known_version())
        return same and start == (begins if response.status_code == 206 else total)

    def _receive(self, response: Any, resumes: bool) -> None:
        """Append the body to the partial file, or replace it.

        Raises CutOffError if the body is incomplete, RefusedAnswerError before a byte is written if it is another's.
        """
        import requests
        from tqdm import tqdm

        if response.status_code != (206 if resumes else 200):
            raise requests.HTTPError(response=response)
        start, total = _span(response)
        chunks = self._checked_chunks(response, total, resumes)
        limit = self.most if total is None else total
        with self.partial.open("ab" if resumes else "wb") as file:
            if not resumes:  # the file is empty now, so it never has bytes of another version than the recorded one
                self.version.write_text(_version(response), encoding="latin-1")
            bar = tqdm(
                desc=self.partial.stem,
                total=total,
                initial=start or 0,
                unit="B",
                unit_scale=True,
                file=sys.stderr,
                disable=not sys.stderr.isatty(),
            )
            with bar:
                try:
                    for chunk in chunks:
                        file.write(chunk)
                        bar.update(len(chunk))
                        if file.tell() > limit:
                            break
                except requests.RequestException:
                    raise CutOffError(f"{file.tell():,} of {total or 0:,} bytes received") from None
        size = self.partial.stat().st_size
        if size > limit:  # an answer without an end, or two processes wrote to the file
            self._discard()
            raise ValueError(f"{size:,} bytes received of {limit:,}")
        if size < (self.least if total is None else total):
            raise CutOffError(f"{size:,} of {self.least if total is None else total:,} bytes received")

    def _checked_chunks(self, response: Any, total: int | None, resumes: bool) -> Iterator[bytes]:
        """The body in chunks.

        Raises RefusedAnswerError for one that cannot be the file's, CutOffError for one that ends at once.
        """
        import requests

        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise RefusedAnswerError(f"the answer is compressed with {encoding[:20]!r}, which was not asked for")
        chunks: Iterator[bytes] = response.iter_content(CHUNK)
        try:
            first = next(chunks, b"")
        except requests.RequestException:
            raise CutOffError("it ended before the first bytes") from None
        kind = "" if resumes else _kind_of_text(first)
        if kind or not self.least <= (self.most if total is None else total) <= self.most:
            size = "" if total is None else f" of {total:,} bytes"
            raise RefusedAnswerError(f"the server sent {kind or 'something else'}{size}")
        return chain([first], chunks)

    def _discard(self) -> None:
        self.partial.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)


def _kind_of_text(start: bytes) -> str:
    """Name a text that servers send in place of a file, by its first bytes; "" for anything else."""
    if start.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, as a network does before one has signed in,"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS"
    return "JSON" if re.match(rb'\s*[{\[]\s*["{\]}]', start) else ""


def _answer(url: str, headers: dict[str, str]) -> Any:
    """Request a URL, and follow redirects without reading their bodies.

    Raises RefusedAnswerError for a redirect from https to anything else, requests' errors for a failed request.
    """
    import requests  # slow to import

    places: list[str] = []

    def take_location(response: Any, **_: Any) -> None:
        """Take a redirect's address away, since requests would read the redirect's body, however long, to follow it."""
        if response.is_redirect:
            places.append(response.headers.pop("Location"))

    while len(places) <= MAX_REDIRECTS:
        _resolve_host(url)
        done = len(places)
        hooks = {"response": take_location}
        response = requests.get(url, headers=headers, stream=True, timeout=(CONNECT, READ), hooks=hooks)
        if len(places) == done:
            return response
        response.close()
        url = _redirected(url, places[-1])
    raise RefusedAnswerError(f"more than {MAX_REDIRECTS} redirects")


def _redirected(url: str, location: str) -> str:
    """The URL to which a location redirects."""
    try:
        target = urljoin(url, location)
        start, end = urlsplit(url).scheme, urlsplit(target).scheme
    except ValueError:
        raise RefusedAnswerError("a redirect to an invalid address") from None
    if end not in (start, "https"):
        raise RefusedAnswerError(f"a redirect from {start} to {end[:20] or 'nowhere'}, which is not followed")
    return target


def _resolve_host(url: str) -> None:
    """Resolve the server's address, or its proxy's, with a timeout: getaddrinfo itself may take long to fail."""
    import requests
    from requests.utils import get_environ_proxies, select_proxy

    host = urlsplit(select_proxy(url, get_environ_proxies(url)) or url).hostname
    failures: list[Exception] = []

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, None)
        except (OSError, UnicodeError) as error:  # UnicodeError: not a host's name
            failures.append(error)

    thread = Thread(target=look_up, daemon=True)  # a daemon, so that it does not delay the process's exit
    try:
        thread.start()
    except RuntimeError:  # no thread can be had: the request itself looks the address up, without a limit
        return
    thread.join(CONNECT)
    if thread.is_alive():
        raise requests.ConnectTimeout(f"no address of {host} in {CONNECT} seconds")
    if failures:
        raise requests.ConnectionError(f"no address of {host}: {failures[0]}")


def _span(response: Any) -> tuple[int | None, int | None]:
    """Return the offset at which a response starts and the length of the whole file; None for unknown."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
    begins, total = match.groups() if match else (None, None)
    return None if begins is None else int(begins), None if total in (None, "*") else int(total)


def _version(response: Any) -> str:
    """Return a value for If-Range: a strong ETag or a date, else an empty string."""
    etag: str = response.headers.get("ETag", "W/")
    date: str = response.headers.get("Last-Modified", "")
    return date if etag.startswith("W/") else etag
