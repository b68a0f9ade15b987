"""HTTP downloads that resume after an interruption."""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from ..files import fsync, rename, sha256_of, write_whole

CONNECT, READ = 5.0, 30.0  # timeouts in seconds: to connect, and between two chunks
CHUNK = 1 << 16  # bytes; an interrupted transfer loses at most one chunk
SHA256 = re.compile(r'(?:W/)?"?([0-9a-f]{64})"?')


class CutOffError(OSError):
    """A transfer ended early.  The partial file is kept, and the next transfer resumes from it."""


def why_failed(error: Exception) -> str:
    """The reason of a failed request in a few words: the answer's status, or the cause of a failed connection."""
    from requests import HTTPError, RequestException, Timeout

    if isinstance(error, HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, Timeout):
        return "no answer in time"
    cause: BaseException = error
    while (
        inner := cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    ) is not None:  # urllib3's and the system's errors are inside
        cause = inner
    reason = getattr(cause, "strerror", None) or " ".join(str(cause).split()) or type(cause).__name__
    return f"no connection: {reason}" if isinstance(error, RequestException) else reason


class Resumable:
    """Downloader for pooch: fills `partial`, and moves it to pooch's path once it is complete.

        NAME.partial          the bytes received so far
        NAME.partial.version  the server's ETag or date for that version; without it the transfer cannot be resumed

    With `record`, the file's SHA-256 is written there before it is moved.
    """

    def __init__(self, partial: Path, record: Path | None = None) -> None:
        self.partial, self.record = partial, record
        self.version = partial.with_name(f"{partial.name}.version")

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Download.  Raises CutOffError if interrupted, requests' errors if refused, ValueError for a wrong hash."""
        promised = self._transfer(url)
        fsync(self.partial)
        if self.record is not None:
            found = sha256_of(self.partial)
            if promised not in (None, found):
                self._discard()
                raise ValueError(f"its SHA-256 is {found}, the server's {promised}")
            write_whole(self.record, f"{found}\n".encode())
        rename(self.partial, Path(output_file))
        self._discard()

    def _transfer(self, url: str) -> str | None:
        """Complete the partial file; returns the SHA-256 that the server announces, if any."""
        import requests  # slow to import

        start, headers = self._resume_point()
        _resolve_host(url)
        with requests.get(url, headers=headers, stream=True, timeout=(CONNECT, READ)) as response:
            answered_range = start > 0 and response.status_code in (206, 416)
            if answered_range and not self._continues(response, start):
                self._discard()
                return self._transfer(url)
            if not (answered_range and response.status_code == 416):  # 416: no bytes are left
                response.raise_for_status()
                self._receive(response, answered_range)
            return _promised_hash(response)

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
        """Append the body to the partial file, or replace it.  Raises CutOffError if the body is incomplete."""
        import requests
        from tqdm import tqdm

        start, total = _span(response)
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
                    for chunk in response.iter_content(CHUNK):
                        file.write(chunk)
                        bar.update(len(chunk))
                except requests.RequestException:
                    raise CutOffError(f"{file.tell():,} of {total or 0:,} bytes received") from None
        size = self.partial.stat().st_size
        if total is not None and size > total:  # two processes wrote to it
            self._discard()
            raise ValueError(f"{size:,} bytes received of {total:,}")
        if total is not None and size < total:
            raise CutOffError(f"{size:,} of {total:,} bytes received")

    def _discard(self) -> None:
        self.partial.unlink(missing_ok=True)
        self.version.unlink(missing_ok=True)


def _resolve_host(url: str) -> None:
    """Resolve the server's address, or its proxy's, with a timeout: getaddrinfo itself may take long to fail."""
    import requests
    from requests.utils import get_environ_proxies, select_proxy

    host = urlsplit(select_proxy(url, get_environ_proxies(url)) or url).hostname
    failures = []

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
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


def _promised_hash(response: Any) -> str | None:
    """Return the SHA-256 that the Hugging Face hub announces for a large file, in the redirect to its storage."""
    for answer in (*response.history, response):
        if match := SHA256.fullmatch(answer.headers.get("X-Linked-ETag", "")):
            return match[1]
    return None
