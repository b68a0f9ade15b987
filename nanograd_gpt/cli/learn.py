"""List the deep dives, questions about GPTs, or run one.

The pictures of all that have run are on one page, index.html.
"""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from signal import SIGINT

from ..errors import InputError
from ..files import writing_named
from ..viz.gallery import Exhibit, picture_of, write_gallery
from .deep_dives import DeepDive, deep_dives, find_deep_dive
from .options import user_path

OUT = Path("runs/deep_dives")
PATIENCE = 2.0  # seconds
OF_SOME = {  # options of single deep dives
    "--model": ("MODEL", "06: a model trained on tales, such as runs/tales [one trained there]"),
    "--weights": ("SOURCE", "14: GPT-2's weights, gpt2 or a directory [random weights in the same files]"),
    "--prompt": ("TEXT", "14: the text to read, the last token of which is explained [a sentence on Rome]"),
}


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("dive", nargs="?", metavar="DEEP_DIVE", help="its number or name [list all]")
    parser.add_argument("--fast", action="store_true", help="smaller sizes, for a first look")
    parser.add_argument(
        "--out", type=user_path, metavar="DIRECTORY", default=OUT, help=f"where pictures and page go [{OUT.as_posix()}]"
    )
    parser.add_argument("--page", action="store_true", help="write index.html with the pictures drawn so far")
    for option, (metavar, what) in OF_SOME.items():
        parser.add_argument(option, metavar=metavar, help=what)


def run(options: Namespace) -> int:
    dives = deep_dives()
    given = {option: value for option in OF_SOME if (value := getattr(options, option[2:])) is not None}
    if options.dive is None:
        if given or options.fast:
            first = "--fast" if options.fast else next(iter(given))
            raise InputError(f"learn: {first} is for a deep dive; give its number too: nanograd-gpt learn 6 {first}")
        if options.page:
            _write_page(options.out, dives)
        else:
            _print_list(options.out, dives)
        return 0
    dive = find_deep_dive(options.dive, dives)
    for option in given:
        if not dive.takes(option):
            raise InputError(f"learn: {dive.name} does not take {option}; leave it out")
    arguments = ["--fast"] * options.fast + ["--out", str(options.out)]
    arguments += [f"{option}={value}" for option, value in given.items()]
    sys.stdout.flush()
    code = _exit_code_of([sys.executable, str(dive.script), *arguments])
    if code < 2 and picture_of(options.out, dive.name):  # 1: a claim does not hold, and the picture may show why
        _write_page(options.out, dives)
    return code if code >= 0 else 128 - code  # ended by a signal: as shells have it


def _exit_code_of(command: list[str]) -> int:
    """Run a program to its end.  Ctrl-C goes to the program, too, which reports it."""
    with subprocess.Popen(command) as program:
        try:
            return program.wait()
        except KeyboardInterrupt:
            try:
                return program.wait(PATIENCE)
            except subprocess.TimeoutExpired:  # the signal was for this process alone
                program.send_signal(SIGINT)
                return program.wait()


def _print_list(out: Path, dives: list[DeepDive]) -> None:
    for dive in dives:
        picture = picture_of(out, dive.name)
        print(f"{dive.number:>2}  {dive.question}")
        details = [dive.name, dive.seconds, f"drawn: {picture}" if picture else ""]
        print(f"    {'; '.join(filter(None, details))}")
    print("\nrun one: nanograd-gpt learn NUMBER [--fast]; all pictures on one page: nanograd-gpt learn --page")


def _write_page(out: Path, dives: list[DeepDive]) -> None:
    exhibits = [Exhibit(d.name, d.question, f"nanograd-gpt learn {d.number or d.name}") for d in dives]
    with writing_named(out):
        out.mkdir(parents=True, exist_ok=True)
        print(f"all pictures on one page: {write_gallery(out, exhibits)}")
