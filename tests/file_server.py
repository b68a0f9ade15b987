"""HTTP server for one file that redirects to a store like the Hugging Face hub, with faults on request."""

from __future__ import annotations

import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


class FileServer:
    """Serves `content` at `url` from its own thread, and records requests and bytes sent."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.etag: str | None = '"first"'
        self.status = 200  # or an error, instead of the file
        self.cut_after: int | None = None  # bytes of each body; then the connection ends
        self.stalls = False  # or there it stays silent
        self.ignores_range = self.ignores_if_range = False
        self.asked: list[dict[str, str]] = []  # the headers of each request to the store
        self.sent: list[int] = []  # bytes of each body
        self.ended = Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = False
        self.url = f"http://127.0.0.1:{self.http.server_port}/hub"
        self.thread = Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.ended.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def answer(self, asked: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        headers = {} if self.etag is None else {"ETag": self.etag}
        if self.status != 200:
            return self.status, headers, b"sorry"
        range_ = re.fullmatch(r"bytes=(\d+)-", asked.get("Range", ""))
        another = asked.get("If-Range", self.etag) != self.etag and not self.ignores_if_range
        if range_ is None or self.ignores_range or another:
            return 200, headers, self.content
        start, size = int(range_[1]), len(self.content)
        if start >= size:
            return 416, headers | {"Content-Range": f"bytes */{size}"}, b""
        return 206, headers | {"Content-Range": f"bytes {start}-{size - 1}/{size}"}, self.content[start:]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/hub":
                    self.send_response(302)
                    self.send_header("Location", "/store")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                asked = dict(self.headers.items())
                server.asked.append(asked)
                status, headers, body = server.answer(asked)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                body = body[: server.cut_after]
                server.sent.append(len(body))
                self.wfile.write(body)
                self.wfile.flush()
                if server.stalls:
                    server.ended.wait(30)

            def log_message(self, *args: Any) -> None:
                """Suppress the log; tests read the recorded requests."""

        return Handler
