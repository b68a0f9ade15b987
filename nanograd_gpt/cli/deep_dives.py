"""The deep dives in scripts/: where they are, what they ask, and how long they take."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError, RunError, did_you_mean

PACKAGE = Path(__file__).parents[1]
PLACES = (PACKAGE / "deep_dives", PACKAGE.parent / "scripts")  # of an installed wheel, and of a clone
NUMBERED = "[0-9][0-9]_*.py"
WITHOUT_NUMBER = ("learning_or_memorising.py",)

QUESTION = re.compile(r"[A-Z][^.?:]*\?")
SECONDS = re.compile(r"Takes about (\d+) s; --fast: (\d+) s\.")


class DeepDive(NamedTuple):
    """A script that answers one question."""

    script: Path
    question: str
    seconds: str  # in full and with --fast; empty where the script does not tell

    @property
    def name(self) -> str:
        return self.script.stem

    @property
    def number(self) -> str:
        """The number without zeros; empty for a deep dive that has none."""
        found = re.match(r"0*(\d+)_", self.name)
        return found[1] if found else ""

    def takes(self, option: str) -> bool:
        """Tell whether the script has an option."""
        return f'"{option}"' in self.script.read_text(encoding="utf-8")


def deep_dives(places: tuple[Path, ...] = PLACES) -> list[DeepDive]:
    """All deep dives, those with a number first.  Raises RunError if the scripts are not installed."""
    for place in places:
        scripts = [*sorted(place.glob(NUMBERED)), *(place / name for name in WITHOUT_NUMBER)]
        if found := [_read(script) for script in scripts if script.is_file()]:
            return found
    where = " nor in ".join(map(str, places))
    raise RunError(f"learn: the scripts of the deep dives are neither in {where}; install the package again")


def find_deep_dive(word: str, dives: list[DeepDive]) -> DeepDive:
    """The deep dive of a number, a name, or a name without its number.  Raises InputError with the nearest one."""
    asked = word.removesuffix(".py").replace("-", "_").lower()
    for dive in dives:
        if asked in (dive.name, dive.name.lstrip("0"), re.sub(r"^\d+_", "", dive.name)):
            return dive
        if asked.isdecimal() and dive.number and int(asked) == int(dive.number):
            return dive
    if asked.isdecimal():
        numbers = [int(dive.number) for dive in dives if dive.number]
        nearest = min(numbers, key=lambda n: abs(n - int(asked[:9])))
        raise InputError(f"learn: {word} is unknown; did you mean {nearest}? They are numbered 1 to {max(numbers)}")
    names = [re.sub(r"^\d+_", "", dive.name) for dive in dives]
    hint = did_you_mean(asked, names) or "; nanograd-gpt learn lists them"
    raise InputError(f"learn: {word!r} is unknown{hint}")


def _read(script: Path) -> DeepDive:
    about = " ".join((ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "").split())
    question, seconds = QUESTION.search(about), SECONDS.search(about)
    return DeepDive(
        script,
        question[0] if question else script.stem.replace("_", " "),
        f"{seconds[1]} s, {seconds[2]} s with --fast" if seconds else "",
    )
