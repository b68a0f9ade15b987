"""A server of raw bytes: whatever a test wants a client to receive, with or without TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

Answer = Callable[[str, dict[str, str]], Iterable[bytes]]  # a path and headers -> bytes


class HostileServer:
    """Answers each request with what `answer` yields, until the client hangs up."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.answer, self.tls = answer, tls
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.sent = 0  # bytes of all answers
        self.ended = Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"{'https' if tls else 'http'}://localhost:{self.listening.getsockname()[1]}"
        self.threads = [Thread(target=self._serve)]
        self.threads[0].start()

    def close(self) -> None:
        self.ended.set()
        with socket.create_connection(self.listening.getsockname()):  # wakes accept()
            pass
        for thread in list(self.threads):
            thread.join()
        self.listening.close()

    def _serve(self) -> None:
        while not self.ended.is_set():
            connection, _ = self.listening.accept()
            self.threads.append(Thread(target=self._talk, args=(connection,)))
            self.threads[-1].start()

    def _talk(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection, suppress(OSError):
            wrapped = self.tls.wrap_socket(connection, server_side=True) if self.tls else connection
            with wrapped:
                request = b""
                while b"\r\n\r\n" not in request:
                    more = wrapped.recv(4096)
                    if not more:
                        return
                    request += more
                first, *lines = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                path = first.split(" ")[1]
                self.asked.append((path, headers))
                for part in self.answer(path, headers):
                    if self.ended.is_set():
                        return
                    wrapped.sendall(part)
                    self.sent += len(part)


@contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[HostileServer]:
    server = HostileServer(answer, tls)
    try:
        yield server
    finally:
        server.close()


def head(status: str, **headers: object) -> bytes:
    """A status line and headers; underscores in names stand for hyphens."""
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return ("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode("latin-1")


def whole(body: bytes, status: str = "200 OK", **headers: object) -> list[bytes]:
    """An answer with its length."""
    return [head(status, Content_Length=len(body), **headers), body]


def chunked(body: Iterable[bytes], status: str = "200 OK", **headers: object) -> Iterator[bytes]:
    """An answer in chunks, which does not tell its length."""
    yield head(status, Transfer_Encoding="chunked", **headers)
    for part in body:
        yield b"%x\r\n%s\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


def endless(part: bytes) -> Iterator[bytes]:
    while True:
        yield part
