"""Answers that are not the file: none enters the cache, none is without an end, and https stays https."""

from __future__ import annotations

import gzip
import hashlib
import random
import re
import ssl
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from shutil import which
from time import monotonic

import pooch
import pytest
from hostile_server import Answer, chunked, endless, head, serving, whole

from nanograd_gpt.errors import RunError
from nanograd_gpt.training import corpus
from nanograd_gpt.weights import resumable_download as resumable
from nanograd_gpt.weights.cached_download import Remote
from nanograd_gpt.weights.hub import GPT2, download_gpt2

MODEL = (90).to_bytes(8, "little") + b'{"wte.weight"' + random.Random(1).randbytes(40_000)
STORY = ("It was not till three years later that I saw him again. " * 700).encode()
LEAST, MOST = 30_000, 50_000  # bytes
BEGUN = 5000  # bytes of an earlier transfer
KEPT = '"first"'  # its ETag
SLOW = 15  # seconds
FEW = 5 << 20  # bytes of an answer: what lies in the sockets' buffers, too

PAGE = b"<!DOCTYPE html><html><title>Sign in</title>" + b"<p>Welcome to our network</p>" * 1500
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 40021\n"
ERROR = b'{"error": "Repository not found", "detail": "' + b"x" * 33_000 + b'"}'
NOISE = random.Random(2).randbytes(len(MODEL))
GZIPPED = gzip.compress(MODEL)
BOMB = gzip.compress(bytes(1 << 24))


def plain(body: bytes, status: str = "200 OK", **headers: object) -> Callable[[], Iterable[bytes]]:
    return lambda: whole(body, status, **headers)


# What the server sends, and what the error says.  `kept`: whether an earlier transfer's bytes must be kept
KEEPS: dict[str, tuple[Callable[[], Iterable[bytes]], str]] = {
    "a web page": (plain(PAGE), "was not received .the server sent a web page"),
    "a short web page": (plain(b"<html>moved</html>"), "a web page.* of 18 bytes"),
    "a web page in chunks": (lambda: chunked([PAGE]), "the server sent a web page"),
    "a pointer of Git LFS": (plain(POINTER), f"a pointer of Git LFS of {len(POINTER)} bytes"),
    "JSON": (plain(ERROR), "the server sent JSON"),
    "JSON in chunks": (lambda: chunked([ERROR]), "the server sent JSON"),
    "a JSON list": (plain(b"[]"), "the server sent JSON of 2 bytes"),
    "nothing": (plain(b""), "the server sent something else of 0 bytes"),
    "one byte": (plain(b"x"), "something else of 1 bytes"),
    "a length beyond any file": (lambda: [head("200 OK", Content_Length=10**20), MODEL], "something else of 100,000,"),
    "a little too long": (plain(MODEL + bytes(20_000)), "something else of 60,021 bytes"),
    "compressed, unasked": (plain(GZIPPED, Content_Encoding="gzip"), "compressed with 'gzip', which was not asked for"),
    "a bomb": (plain(BOMB, Content_Encoding="gzip"), "compressed with 'gzip'"),
    "two encodings": (plain(GZIPPED, Content_Encoding="gzip, gzip"), "compressed with 'gzip, gzip'"),
    "no content": (plain(b"", "204 No Content"), "the server answered 204"),
    "multiple choices": (plain(PAGE, "300 Multiple Choices"), "the server answered 300"),
    "not modified": (plain(b"", "304 Not Modified"), "the server answered 304"),
    "unauthorized": (plain(PAGE, "401 Unauthorized"), "the server answered 401"),
    "an error without words": (plain(PAGE, "404 "), "the server answered 404.; try again"),
    "an error of many words": (plain(PAGE, f"404 {'no ' * 9999}"), "the server answered 404 (no ){26}no.; try again"),
    "an endless error": (lambda: [head("404 Not Found"), *endless_parts()], "the server answered 404"),
    "a redirect without an address": (plain(b"", "302 Found"), "the server answered 302"),
    "a redirect to itself": (plain(b"", "302 Found", Location="/again"), "more than 10 redirects"),
    "a redirect to a file": (plain(b"", "302 Found", Location="file:///etc/passwd"), "from http to file, which is not"),
    "a redirect to data": (plain(b"", "302 Found", Location="data:,x"), "from http to data, which is not followed"),
    "a redirect to ftp": (plain(b"", "302 Found", Location="ftp://localhost/x"), "from http to ftp"),
    "a redirect to half an address": (plain(b"", "302 Found", Location="http://[::"), "to an invalid address"),
    "a redirect to a bad port": (
        plain(b"", "302 Found", Location="http://localhost:99999/"),
        "could not be downloaded",
    ),
    "a redirect to no host": (plain(b"", "302 Found", Location="http:///x"), "more than 10 redirects"),  # the same
    "a redirect to a long name": (
        plain(b"", "302 Found", Location=f"http://{'a' * 70}.invalid/"),
        "could not be downloaded",
    ),
    "an endless redirect": (lambda: [head("302 Found", Location="/again"), *endless_parts()], "more than 10 redirects"),
    "not HTTP": (lambda: [b"220 mail.example.org ESMTP\r\n"], "could not be downloaded"),
    "noise": (lambda: [NOISE], "could not be downloaded"),
    "silence": (list, "could not be downloaded"),
    "a header without an end": (lambda: [b"HTTP/1.1 200 OK\r\nX: ", *endless_parts(b"x" * 65536)], "could not be"),
    "headers without an end": (lambda: [b"HTTP/1.1 200 OK\r\n", *endless_parts(b"X: y\r\n" * 999)], "could not be"),
}
LOSES: dict[str, tuple[Callable[[], Iterable[bytes]], str]] = {  # nothing tells them from the file before they came
    "other bytes of that length": (plain(NOISE), "was damaged in transit and deleted .SHA256 hash"),
    "a flipped bit": (plain(MODEL[:-1] + bytes([MODEL[-1] ^ 1])), "was damaged in transit and deleted"),
    "bytes without an end": (lambda: [head("200 OK"), *endless_parts(NOISE)], "deleted .[0-9,]+ bytes received of 50,"),
    "chunks without an end": (lambda: chunked(endless(NOISE)), "deleted .[0-9,]+ bytes received of 50,000"),
    "a negative length": (lambda: [head("200 OK", Content_Length=-5), NOISE], "(damaged in transit|could not be)"),
    "a length in words": (lambda: [head("200 OK", Content_Length="many"), NOISE], "(damaged in transit|could not be)"),
    "compressed as a file": (plain(gzip.compress(NOISE)), "was damaged in transit"),
}
CUT: dict[str, tuple[Callable[[], Iterable[bytes]], str]] = {
    "cut off": (lambda: [head("200 OK", Content_Length=len(MODEL)), MODEL[:20_000]], "was cut off .20,000 of 40,021"),
    "cut off without a length": (lambda: [head("200 OK"), MODEL[:20_000]], "was cut off .20,000 of 30,000 bytes"),
    "a broken chunk": (
        lambda: [head("200 OK", Transfer_Encoding="chunked"), b"4e20\r\n", MODEL[:20_000], b"\r\nzz\r\n"],
        "was cut off",
    ),
}


def endless_parts(part: bytes = bytes(65536)) -> Iterable[bytes]:
    """So much that a client which reads it all is found out."""
    return [part] * 3000


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache instead of the user's, and a patience of half a second."""
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    monkeypatch.setattr(resumable, "READ", 0.5)
    monkeypatch.setattr(resumable, "CHUNK", 500)
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    (tmp_path / "nanograd_gpt").mkdir()
    return tmp_path / "nanograd_gpt"


def refused(monkeypatch: pytest.MonkeyPatch, url: str) -> str:
    """The one-line error of a download from there, which takes neither long nor an entry of the cache."""
    monkeypatch.setitem(GPT2, "gpt2", Remote(url, hashlib.sha256(MODEL).hexdigest(), LEAST, MOST))
    started = monotonic()
    with pytest.raises(RunError, match=r"^model: gpt2") as error:
        download_gpt2()
    assert monotonic() - started < SLOW
    message = str(error.value)
    assert "\n" not in message
    assert f"or save {url} as " in message
    assert message.endswith("gpt2.safetensors, or elsewhere and give it with --weights PATH")
    return message


@pytest.mark.parametrize("resumed", [False, True], ids=["anew", "resumed"])
@pytest.mark.parametrize(("answer", "says"), (KEEPS | LOSES | CUT).values(), ids=(KEEPS | LOSES | CUT).keys())
def test_what_is_not_the_file_never_enters_the_cache(
    answer: Callable[[], Iterable[bytes]], says: str, resumed: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = cache / "gpt2.partial"
    if resumed:
        partial.write_bytes(MODEL[:BEGUN])
        partial.with_name("gpt2.partial.version").write_text(KEPT)
    with serving(lambda path, headers: answer()) as server:
        message = refused(monkeypatch, f"{server.address}/model.safetensors")
    assert re.search(says, message), message
    assert server.sent < FEW * len(server.asked)
    assert not (cache / "gpt2.safetensors").exists()
    if resumed and (answer, says) in KEEPS.values():
        assert partial.read_bytes() == MODEL[:BEGUN]
    elif (answer, says) not in CUT.values():
        assert not partial.exists()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda: whole(NOISE[BEGUN:], "206 Partial Content", Content_Range=f"bytes {BEGUN}-40020/40021"), "damaged in"),
        (lambda: whole(MODEL, "206 Partial Content", Content_Range=f"bytes {BEGUN}-1/99999999"), "of 99,999,999 bytes"),
        (lambda: chunked(endless(NOISE), "206 Partial Content", Content_Range=f"bytes {BEGUN}-9/40021"), "of 40,021"),
        (lambda: whole(b"", "416 No", Content_Range="bytes */5000"), "damaged in transit"),
        (
            lambda: whole(GZIPPED, "206 Partial Content", Content_Range="bytes 5000-9/40021", Content_Encoding="br"),
            "br",
        ),
    ],
    ids=["other bytes", "another length", "without an end", "all is there, it says", "compressed"],
)
def test_a_rest_that_is_not_the_files_never_enters_the_cache(
    answer: Callable[[], Iterable[bytes]], says: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "gpt2.partial").write_bytes(MODEL[:BEGUN])
    (cache / "gpt2.partial.version").write_text(KEPT)
    with serving(lambda path, headers: answer()) as server:
        assert says in refused(monkeypatch, f"{server.address}/model.safetensors")
    assert server.asked[0][1]["range"] == f"bytes={BEGUN}-"
    assert not (cache / "gpt2.safetensors").exists()


def test_a_part_that_was_not_asked_for_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = head("206 Partial Content", Content_Range="bytes 9-40020/40021", Content_Length=40_012)
    with serving(lambda path, headers: [part, MODEL[9:]]) as server:
        assert "the server answered 206" in refused(monkeypatch, f"{server.address}/model.safetensors")
    assert list(cache.iterdir()) == []


def test_a_redirect_is_followed_to_the_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"/0": "/1", "/1": "2", "/2": "//localhost:PORT/3"}

    def answer(path: str, headers: dict[str, str]) -> Iterable[bytes]:
        if path not in steps:
            return whole(MODEL)
        place = steps[path].replace("PORT", server.address.rpartition(":")[2])
        return whole(b"", "302 Found", Location=place)

    with serving(answer) as server:
        monkeypatch.setitem(GPT2, "gpt2", Remote(f"{server.address}/0", hashlib.sha256(MODEL).hexdigest(), LEAST, MOST))
        assert download_gpt2().read_bytes() == MODEL
    assert [path for path, _ in server.asked] == ["/0", "/1", "/2", "/3"]


@pytest.mark.parametrize(("answer", "says"), (KEEPS | LOSES).values(), ids=(KEEPS | LOSES).keys())
def test_what_is_not_the_books_story_never_enters_the_cache(
    answer: Callable[[], Iterable[bytes]], says: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256(STORY).hexdigest()
    with serving(lambda path, headers: answer()) as server:
        story = Remote(f"{server.address}/story.txt", sha256, len(STORY), len(STORY))
        monkeypatch.setattr(corpus, "VERDICT_FILE", story)
        started = monotonic()
        with pytest.raises(RunError, match=r"^data: the-verdict.* give it with --data PATH$") as error:
            corpus.load_text("the-verdict")
    assert monotonic() - started < SLOW
    assert "\n" not in str(error.value)
    assert server.sent < FEW * len(server.asked)
    assert [path.name for path in cache.iterdir() if not path.name.startswith("the-verdict.partial")] == []


# --- https


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS for localhost, and the certificate that a client needs."""
    if which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    place = tmp_path_factory.mktemp("tls")
    key, certificate = place / "key.pem", place / "certificate.pem"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
    ]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*made, *name, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate


def test_https_never_becomes_http(
    tls: tuple[ssl.SSLContext, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, certificate = tls
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with serving(lambda path, headers: whole(MODEL)) as insecure:
        to_http: Answer = lambda path, headers: whole(b"", "302 Found", Location=f"{insecure.address}/x")  # noqa: E731  # the type matters
        with serving(to_http, context) as secure:
            message = refused(monkeypatch, f"{secure.address}/model.safetensors")
    assert "a redirect from https to http, which is not followed" in message
    assert len(secure.asked) == 1
    assert insecure.asked == []
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("first", ["http", "https"])
def test_a_redirect_to_https_is_followed(
    first: str, tls: tuple[ssl.SSLContext, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, certificate = tls
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with serving(lambda path, headers: whole(MODEL), context) as store:
        to_store: Answer = lambda path, headers: whole(b"", "307 Moved", Location=f"{store.address}/x")  # noqa: E731  # the type matters
        with serving(to_store, context if first == "https" else None) as hub:
            sha256 = hashlib.sha256(MODEL).hexdigest()
            monkeypatch.setitem(GPT2, "gpt2", Remote(f"{hub.address}/m", sha256, LEAST, MOST))
            assert download_gpt2().read_bytes() == MODEL


def test_a_certificate_that_nobody_signed_is_refused(
    tls: tuple[ssl.SSLContext, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with serving(lambda path, headers: whole(MODEL), tls[0]) as server:
        assert "certificate" in refused(monkeypatch, f"{server.address}/model.safetensors").lower()
    assert server.asked == []
