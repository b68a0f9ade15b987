"""Sources of text, refused files, and the split."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pooch
import pytest
from requests.exceptions import ConnectionError as NoConnection
from training.small import one_line, verdict_path

from nanograd_gpt.errors import InputError, Notice, RunError
from nanograd_gpt.training import corpus
from nanograd_gpt.training.corpus import load_text, read_text, split_text
from nanograd_gpt.weights.resumable_download import Resumable


def written(directory: Path, content: bytes) -> Path:
    path = directory / "text.txt"
    path.write_bytes(content)
    return path


# --- our story, and files


def test_the_default_is_a_story_of_at_least_25_000_characters() -> None:
    story = load_text()
    assert story == load_text("story")
    assert len(story) >= 25_000


@pytest.mark.parametrize("text", ["a", "Grüße, 世界\n", "one\r\ntwo\r\n", "  indented\t\n\n"])
def test_a_files_text_comes_back_as_it_is(tmp_path: Path, text: str) -> None:
    assert load_text(str(written(tmp_path, text.encode()))) == text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n\t\r\n ", "has only white space"),
        ("\u00a0\u2003\n".encode(), "has only white space"),
        (b"text\0text", r"is binary \(a zero byte at 4\)"),
        (bytes(range(256)), "is not UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", r"is not UTF-8 text \(byte 0\)"),
        ("Grüße".encode("latin-1"), r"is not UTF-8 text \(byte 2\)"),
        ("Every effort".encode("utf-16"), "is not UTF-8"),
        ("Every effort".encode("utf-16-le"), "is binary"),
        ("half a 世".encode()[:-1], "is not UTF-8"),
    ],
    ids=["empty", "spaces", "wide spaces", "zero byte", "all bytes", "PNG", "latin-1", "UTF-16", "UTF-16 LE", "cut"],
)
def test_a_file_without_utf8_text_is_refused_with_its_name(tmp_path: Path, content: bytes, reason: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(InputError, match=reason) as error:
        read_text(path)
    assert str(path) in one_line(error)


def test_a_missing_file_is_refused_with_what_to_give_instead(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="does not exist; give a UTF-8 text file, 'story', 'tales' or 'the-verdict'"
    ) as error:
        load_text(str(tmp_path / "missing.txt"))
    assert "missing.txt" in one_line(error)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a directory, not a regular file"):
        load_text(str(tmp_path))


def test_a_text_above_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate((1 << 30) + 1)  # sparse
    with pytest.raises(InputError, match="it has 1,073,741,825 bytes, more than the limit of 1,073,741,824"):
        load_text(str(tmp_path / "large.txt"))


# --- the download


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache instead of the user's."""
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    (tmp_path / "nanograd_gpt").mkdir()
    return tmp_path / "nanograd_gpt"


def no_network(monkeypatch: pytest.MonkeyPatch, failure: Exception | None = None) -> None:
    def transfer(*args: Any, **kwargs: Any) -> None:
        raise failure or AssertionError("the network was asked")

    monkeypatch.setattr(Resumable, "_transfer", transfer)


@pytest.mark.parametrize(
    "failure",
    [
        NoConnection("HTTPSConnectionPool(host='raw.githubusercontent.com', port=443): Max retries\nexceeded"),
        OSError("Network is unreachable"),
        ValueError("SHA256 hash of downloaded file does not match the known hash"),
        TimeoutError(),
    ],
    ids=["no connection", "unreachable", "wrong hash", "without a message"],
)
def test_a_failed_download_names_the_address_and_the_manual_way(
    cache: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    no_network(monkeypatch, failure)
    with pytest.raises(RunError, match=r"^data: the-verdict") as error:
        load_text("the-verdict")
    message = one_line(error)
    place = cache / "the-verdict.txt"
    assert message.endswith(f"or save {corpus.VERDICT_URL} as {place}, or elsewhere and give it with --data PATH")


def test_the_reason_of_a_failed_download_is_not_cut_off(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "SHA256 hash of downloaded file (the-verdict.txt) does not match the known hash: " + "expected " + 64 * "a"
    no_network(monkeypatch, ValueError(f"{reason}\nbut got {64 * 'b'}."))
    with pytest.raises(RunError) as error:
        load_text("the-verdict")
    assert f"({reason} but got {64 * 'b'}.)" in one_line(error)


def test_the_manual_way_works_without_a_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"It was not till three years later"
    no_network(monkeypatch)
    remote = corpus.VERDICT_FILE._replace(sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(corpus, "VERDICT_FILE", remote)
    (cache / "the-verdict.txt").write_bytes(content)
    assert load_text("the-verdict") == content.decode()


def test_a_cached_file_with_another_hash_is_thrown_away(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_network(monkeypatch, NoConnection("offline"))
    (cache / "the-verdict.txt").write_bytes(b"something else")
    with (
        pytest.warns(Notice, match=r"the-verdict\.txt was damaged and is deleted .*; it is downloaded again$"),
        pytest.raises(RunError, match=r"could not be downloaded \(no connection: offline\)"),
    ):
        load_text("the-verdict")
    assert list(cache.iterdir()) == []


def test_the_known_hash_and_size_are_those_of_the_books_story(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = verdict_path().read_bytes()
    no_network(monkeypatch)
    (cache / "the-verdict.txt").write_bytes(content)
    assert load_text("the-verdict") == content.decode()
    assert corpus.VERDICT_FILE.least == corpus.VERDICT_FILE.most == len(content)


# --- the split


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 19, 20_479])
def test_the_first_part_ends_at_int_of_nine_tenths_of_the_characters(length: int) -> None:
    text = ("0123456789" * (length // 10 + 1))[:length]
    train, val, test = split_text(text)
    assert (train, val, test) == (text[: int(0.9 * length)], text[int(0.9 * length) :], "")


@pytest.mark.parametrize(
    ("train_ratio", "test_ratio", "lengths"),
    [(0.8, 0.1, (80, 10, 10)), (0.5, 0.25, (50, 25, 25)), (0.01, 0.0, (1, 99, 0)), (0.89, 0.1, (89, 1, 10))],
)
def test_the_test_part_is_held_out_at_the_end(
    train_ratio: float, test_ratio: float, lengths: tuple[int, int, int]
) -> None:
    text = "".join(map(chr, range(100)))
    parts = split_text(text, train_ratio, test_ratio)
    assert tuple(map(len, parts)) == lengths
    assert "".join(parts) == text


@pytest.mark.parametrize(
    ("train_ratio", "test_ratio"),
    [(0, 0), (1, 0), (-0.1, 0), (1.1, 0), (0.9, 0.1), (0.5, 0.6), (0.5, -0.1), (float("nan"), 0), (0.5, float("nan"))],
)
def test_ratios_that_leave_nothing_for_a_part_are_refused(train_ratio: float, test_ratio: float) -> None:
    with pytest.raises(InputError, match="train_ratio") as error:
        split_text("some text", train_ratio, test_ratio)
    one_line(error)
