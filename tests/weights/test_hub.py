"""GPT-2's weights from a local hub: complete, interrupted and resumed, damaged, missing.

Answers that are not the file: tests/weights/test_hostile_downloads.py.
"""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import monotonic

import pooch
import pytest
import requests
from file_server import FileServer

from nanograd_gpt.errors import InputError, Notice, RunError
from nanograd_gpt.weights import hub
from nanograd_gpt.weights import resumable_download as resumable
from nanograd_gpt.weights.cached_download import Remote
from nanograd_gpt.weights.hub import GPT2, download_gpt2

CONTENT = bytes(range(256)) * 50  # 12,800 bytes
HASH = hashlib.sha256(CONTENT).hexdigest()
OTHER = CONTENT[::-1]
SIZES = 10_000, 20_000  # bytes
NAME = "gpt2-medium"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache instead of the user's."""
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    return tmp_path / "cache" / "nanograd_gpt"


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(resumable, "CHUNK", 500)
    server = FileServer(CONTENT)
    monkeypatch.setitem(GPT2, NAME, Remote(server.url, HASH, *SIZES))
    yield server
    server.close()


def failure() -> str:
    with pytest.raises(RunError, match=r"^model: ") as error:
        download_gpt2(NAME)
    message = str(error.value)
    assert "\n" not in message
    return message


def files(cache: Path) -> list[str]:
    return sorted(file.name for file in cache.iterdir())


def cut_off_once(server: FileServer, after: int = 5000) -> None:
    server.cut_after = after
    failure()
    server.cut_after = None


# --- all is well


def test_a_file_comes_once_and_whole(server: FileServer, cache: Path) -> None:
    path = download_gpt2(NAME)
    assert path == cache / f"{NAME}.safetensors"
    assert path.read_bytes() == CONTENT
    assert download_gpt2(NAME) == path
    assert server.sent == [len(CONTENT)]
    assert "Range" not in server.asked[0]
    assert files(cache) == [path.name]


def test_a_file_that_was_put_there_needs_no_network(server: FileServer, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / f"{NAME}.safetensors").write_bytes(CONTENT)
    assert download_gpt2(NAME).read_bytes() == CONTENT
    assert server.asked == []


@pytest.mark.parametrize("name", GPT2)
def test_every_size_is_of_one_fixed_version(name: str) -> None:
    remote = GPT2[name]
    assert re.fullmatch(
        rf"https://huggingface\.co/openai-community/{name}/resolve/[0-9a-f]{{40}}/model\.safetensors", remote.url
    )
    assert re.fullmatch("[0-9a-f]{64}", remote.sha256)


def test_no_two_sizes_share_a_version_or_a_hash() -> None:
    assert len({remote.url for remote in GPT2.values()}) == len(GPT2) == 4
    assert len({remote.sha256 for remote in GPT2.values()}) == 4


@pytest.mark.parametrize(("name", "size"), [("gpt2", 548_105_171), ("gpt2-medium", 1_519_984_962)])
def test_the_published_sizes_are_between_the_bounds(name: str, size: int) -> None:
    assert GPT2[name].least < size < GPT2[name].most < 1.25 * size


# --- going on


def test_a_cut_off_download_goes_on_and_only_the_rest_is_sent(server: FileServer, cache: Path) -> None:
    server.cut_after = 5000
    message = failure()
    assert "was cut off (5,000 of 12,800 bytes received); run this again to go on" in message
    assert server.url in message
    assert (cache / f"{NAME}.partial").read_bytes() == CONTENT[:5000]
    server.cut_after = 4000
    assert "9,000 of 12,800" in failure()
    server.cut_after = None
    assert download_gpt2(NAME).read_bytes() == CONTENT
    assert [asked.get("Range") for asked in server.asked] == [None, "bytes=5000-", "bytes=9000-"]
    assert server.sent == [5000, 4000, 3800]
    assert f"{NAME}.partial" not in files(cache)


def test_a_server_that_falls_silent_is_a_cut_off_too(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "READ", 0.2)
    server.stalls = True
    start = monotonic()
    cut_off_once(server)
    assert monotonic() - start < 5
    server.stalls = False
    assert download_gpt2(NAME).read_bytes() == CONTENT
    assert server.sent[-1] == len(CONTENT) - 5000


def test_a_server_that_knows_no_ranges_sends_all_again(server: FileServer) -> None:
    cut_off_once(server)
    server.ignores_range = True
    assert download_gpt2(NAME).read_bytes() == CONTENT
    assert server.sent == [5000, len(CONTENT)]


@pytest.mark.parametrize("ignores_if_range", [False, True])
def test_a_file_that_has_changed_meanwhile_comes_anew(server: FileServer, ignores_if_range: bool) -> None:
    server.content = OTHER
    cut_off_once(server)
    server.content, server.etag, server.ignores_if_range = CONTENT, '"second"', ignores_if_range
    assert download_gpt2(NAME).read_bytes() == CONTENT
    assert server.asked[1]["If-Range"] == '"first"'
    useless = [len(OTHER) - 5000] if ignores_if_range else []
    assert server.sent == [5000, *useless, len(OTHER)]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_what_has_no_mark_of_its_version_comes_anew(server: FileServer, etag: str | None) -> None:
    server.content, server.etag = OTHER, etag
    cut_off_once(server)
    server.content = CONTENT
    assert download_gpt2(NAME).read_bytes() == CONTENT
    assert "Range" not in server.asked[-1]


@pytest.mark.parametrize("partial", [CONTENT, CONTENT + b"more"], ids=["whole", "too long"])
def test_where_nothing_is_left_to_come_the_file_is_taken_or_comes_anew(
    server: FileServer, cache: Path, partial: bytes
) -> None:
    cut_off_once(server)
    (cache / f"{NAME}.partial").write_bytes(partial)
    assert download_gpt2(NAME).read_bytes() == CONTENT
    assert server.asked[1]["Range"] == f"bytes={len(partial)}-"
    assert server.sent == [5000, 0] if partial == CONTENT else [5000, 0, len(CONTENT)]


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_an_error_of_the_server_leaves_what_has_come(server: FileServer, cache: Path, status: int) -> None:
    cut_off_once(server)
    server.status = status
    message = failure()
    assert f"the server answered {status}" in message
    assert "--weights PATH" in message
    assert (cache / f"{NAME}.partial").read_bytes() == CONTENT[:5000]
    server.status = 200
    assert download_gpt2(NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("came", "says"),
    [
        (CONTENT[:-1], r"was cut off \(12,799 of 12,800"),
        (CONTENT + b"!", r"deleted \(12,801 bytes received of 12,800\)"),
    ],
    ids=["too little", "too much"],
)
def test_the_bytes_that_came_are_counted(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, came: bytes, says: str
) -> None:
    """Older libraries take an early end for the file's, and two processes may write to one partial file."""

    def came_instead(response: requests.Response, size: int) -> Iterator[bytes]:
        response.raw.read()  # all of it, so that its connection can be closed
        yield came

    monkeypatch.setattr(requests.Response, "iter_content", came_instead)
    assert re.search(says, failure())


# --- damage


def test_another_hash_than_the_known_one_keeps_nothing(server: FileServer, cache: Path) -> None:
    server.content = OTHER
    message = failure()
    assert f"{NAME} was damaged in transit and deleted" in message
    assert "--weights PATH" in message
    assert files(cache) == []


def test_a_damaged_part_keeps_nothing(server: FileServer, cache: Path) -> None:
    cut_off_once(server)
    (cache / f"{NAME}.partial").write_bytes(OTHER[:5000])
    assert "was damaged in transit and deleted" in failure()
    assert files(cache) == []


@pytest.mark.parametrize("position", [*range(0, len(CONTENT), 1997), len(CONTENT) - 1])
def test_any_flipped_bit_in_the_cache_is_noticed_and_mended(server: FileServer, position: int) -> None:
    path = download_gpt2(NAME)
    changed = bytearray(CONTENT)
    changed[position] ^= 1 << position % 8
    path.write_bytes(changed)
    with pytest.warns(Notice, match=rf"model: {NAME}: .*{path.name} was damaged and is deleted \(its SHA-256"):
        assert download_gpt2(NAME).read_bytes() == CONTENT
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 2


@pytest.mark.parametrize("entry", [b"", CONTENT[:-1], CONTENT + b"\0", b"<!DOCTYPE html>"], ids=len)
def test_an_entry_of_another_length_is_mended_too(server: FileServer, entry: bytes) -> None:
    path = download_gpt2(NAME)
    path.write_bytes(entry)
    with pytest.warns(Notice, match="was damaged and is deleted"):
        assert download_gpt2(NAME).read_bytes() == CONTENT


def test_a_bad_entry_is_thrown_away_even_if_the_download_then_fails(server: FileServer, cache: Path) -> None:
    path = download_gpt2(NAME)
    path.write_bytes(OTHER)
    server.status = 503
    with pytest.warns(Notice, match="was damaged and is deleted"):
        assert "the server answered 503" in failure()
    assert files(cache) == []


def test_an_entry_that_is_not_a_file_is_named(server: FileServer, cache: Path) -> None:
    (cache / f"{NAME}.safetensors").mkdir(parents=True)
    assert "cannot be verified (it is a directory, not a regular file); remove it, and run this again" in failure()
    assert server.asked == []


# --- nothing to be had


def test_without_a_network_one_line_says_so_at_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # a port of ours at which nobody listens
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/model.safetensors"
        monkeypatch.setitem(GPT2, NAME, Remote(url, HASH, *SIZES))
        start = monotonic()
        message = failure()
    assert monotonic() - start < 2
    assert f"{NAME} could not be downloaded (no connection: Connection refused)" in message
    assert f"save {url} as {cache / NAME}.safetensors, or elsewhere and give it with --weights PATH" in message
    assert files(cache) == []


@pytest.mark.parametrize("answer", ["none", "unknown"])
def test_a_name_that_is_not_found_is_no_reason_to_wait(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    given_up = Event()

    def slow(*args: object) -> None:
        if answer == "none":
            given_up.wait(10)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(resumable, "CONNECT", 0.1)
    start = monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", slow)
        message = failure()
    given_up.set()
    assert monotonic() - start < 2
    assert ("no answer in time" if answer == "none" else "no connection") in message
    assert server.asked == []


def test_a_cache_that_cannot_be_written_is_named(server: FileServer, cache: Path) -> None:
    cache.parent.write_bytes(b"a file, where the directory should be")
    message = failure()
    assert f"{cache / NAME}.safetensors could not be written (Not a directory); free space there, or save " in message
    assert "--weights PATH" in message


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("gpt2-small", "gpt2"), ("gpt2-124m", "gpt2"), ("GPT2", "gpt2"), ("gpt2-124M", "gpt2"),
        ("gpt2-medium", "gpt2-medium"), ("gpt2-355m", "gpt2-medium"), ("gpt2-large", "gpt2-large"),
        ("gpt2-774m", "gpt2-large"), ("gpt2-xl", "gpt2-xl"), ("gpt2-1558m", "gpt2-xl"),
    ],
)  # fmt: skip
def test_every_name_of_a_size_means_the_same_download(
    name: str, source: str, server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "GPT2", {source: Remote(server.url, HASH, *SIZES)})
    assert hub.download_gpt2(name) == cache / f"{source}.safetensors"
    assert hub.is_gpt2_name(name)


@pytest.mark.parametrize("name", ["gpt-2", "gpt2-smal", "", "../gpt2"])
def test_another_name_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(InputError, match=r"is not one of GPT-2's names; (did you mean|choose one of) ") as error:
        hub.download_gpt2(name)
    assert "\n" not in str(error.value)
