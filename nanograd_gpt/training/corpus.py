"""Sources of text: the bundled story, generated tales, the book's short story, or a file."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from ..arguments import real_number
from ..errors import InputError
from ..files import UnreadableError, read_bytes
from ..tales.generator import write_tales
from ..weights.cached_download import Remote, cached

MAX_TEXT = 1 << 30  # bytes; its tokens take ten times as much memory
STORY, TALES, VERDICT = "story", "tales", "the-verdict"
BUILTIN_TEXTS = (STORY, TALES, VERDICT, "")  # texts that are not the user's files
CHOICES = f"a UTF-8 text file, '{STORY}', '{TALES}' or '{VERDICT}'"
VERDICT_URL = "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/ch02/01_main-chapter-code/the-verdict.txt"
VERDICT_SIZE = 20_479  # bytes
VERDICT_FILE = Remote(
    VERDICT_URL, "b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f", VERDICT_SIZE, VERDICT_SIZE
)


def load_text(source: str = STORY) -> str:
    """Load the text of "story" (bundled), "tales" (generated), "the-verdict" (downloaded once), or a UTF-8 file.

    In a path, ~ is home.  Raises InputError if a file is missing, empty or not UTF-8 text, and RunError if a download
    fails.
    """
    if not source:
        raise InputError(f"data: no text is given; name {CHOICES}")
    if source == TALES:
        return write_tales()
    if source == STORY:
        return files("nanograd_gpt").joinpath("assets/story.txt").read_text(encoding="utf-8")
    return read_text(download_verdict() if source == VERDICT else Path(os.path.expanduser(source)))


def read_text(path: Path) -> str:
    """Read a file's text, line endings unchanged.  Raises InputError if it is missing, empty or not UTF-8 text."""
    if not os.path.exists(path):  # False for a name that is too long too
        raise InputError(f"data: {path} does not exist; give {CHOICES}")
    try:
        raw = read_bytes(path, MAX_TEXT)
    except UnreadableError as error:
        raise InputError(f"data: {path} cannot be read ({error}); give a UTF-8 text file") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"data: {path} is not UTF-8 text (byte {error.start}); convert it to UTF-8 first") from None
    if "\0" in text:
        raise InputError(f"data: {path} is binary (a zero byte at {raw.index(0)}); give a text file")
    if not text.strip():
        raise InputError(f"data: {path} {'has only white space' if text else 'is empty'}; give a file with text in it")
    return text


def download_verdict() -> Path:
    """Return the book's story in the user's cache, downloaded once and verified by its hash.

    Raises RunError, with the URL for a manual download, if it fails.
    """
    return cached(VERDICT_FILE, "the-verdict.txt", f"data: {VERDICT}", "--data")


def split_text(text: str, train_ratio: float = 0.9, test_ratio: float = 0.0) -> tuple[str, str, str]:
    """Split into training, validation and test text by characters; training ends at int(train_ratio * length).

    Raises InputError unless 0 < train_ratio, 0 <= test_ratio, and their sum is below 1.
    """
    train_ratio, test_ratio = real_number("train_ratio", train_ratio), real_number("test_ratio", test_ratio)
    if not (0 < train_ratio < 1 and 0 <= test_ratio < 1 and train_ratio + test_ratio < 1):
        raise InputError(
            f"split: train_ratio {train_ratio} and test_ratio {test_ratio} must be > 0 and >= 0, with a sum below 1"
        )
    first, second = int(train_ratio * len(text)), len(text) - int(test_ratio * len(text))
    return text[:first], text[first:second], text[second:]
