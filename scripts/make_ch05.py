"""Write ch05.ipynb from ch05.py: execute its cells in this process and store what they print and show.

    python scripts/make_ch05.py [--data the-verdict.txt]   # executes everything; the training takes minutes
    python scripts/make_ch05.py --keep-trained             # keeps the stored outputs of the training and what needs it
    python scripts/make_ch05.py --check                    # likewise, and compares with the stored outputs instead

Exits with 1, naming the cell, where --check finds another output or --keep-trained a cell that has changed.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import re
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from _one_line import Parser

from nanograd_gpt.training import corpus

SOURCE = Path(__file__).with_name("ch05.py")
NOTEBOOK = SOURCE.with_suffix(".ipynb")
NUMBER = re.compile(r"\d+(?:\.(\d*))?(?:e([+-]\d+))?")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class Cell(NamedTuple):
    """A cell of the source."""

    id: str
    kind: str  # "code", "markdown", or "trained": code that trains the model or needs it trained
    text: str


class Tee(io.StringIO):
    """Printed text, kept and passed on at once to the stdout of its making."""

    def __init__(self) -> None:
        super().__init__()
        self.stdout = sys.stdout

    def write(self, text: str) -> int:
        print(text, end="", file=self.stdout, flush=True)
        return super().write(text)


def cells_of(source: str) -> list[Cell]:
    """The cells of a source in the percent format; text before the first is left out."""
    _, *parts = re.split(r"^# %% ([\w-]+)(?: \[(\w+)\])?\n", source, flags=re.MULTILINE)
    cells = []
    for name, kind, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if kind == "markdown":
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        cells.append(Cell(name, kind or "code", text.strip()))
    return cells


def executed(cells: list[Cell], stored: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each cell as the notebook has it; outputs of a cell in `stored` are taken from there, others by executing it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for cell in cells:
        document: dict[str, Any] = {"id": cell.id, "metadata": {}, "source": cell.text.splitlines(keepends=True)}
        if cell.kind == "markdown":
            yield {"cell_type": "markdown", **document}
            continue
        count += 1
        if cell.kind == "trained":
            document["metadata"] = {"tags": ["trained"]}
        outputs = stored[cell.id] if cell.id in stored else outputs_of(cell, names, count)
        yield {"cell_type": "code", **document, "execution_count": count, "outputs": outputs}


def outputs_of(cell: Cell, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Execute a cell in a namespace: its printed text, and the value of its last expression unless that is None."""
    tree, shown, value = ast.parse(cell.text), Tee(), None
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(shown):
        exec(compile(tree, cell.id, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), cell.id, "eval"), names)
    outputs: list[dict[str, Any]] = []
    if shown.getvalue():
        lines = shown.getvalue().splitlines(keepends=True)
        outputs.append({"name": "stdout", "output_type": "stream", "text": lines})
    if value is not None:
        data: dict[str, Any] = {"text/plain": [repr(value)]}
        if hasattr(value, "_repr_png_"):
            data["image/png"] = base64.b64encode(value._repr_png_()).decode()
        outputs.append({"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"})
    return outputs


def differs(new: str, old: str) -> bool:
    """Whether two texts differ by more than one unit of the last digit printed of each of their numbers."""
    if NUMBER.sub("#", new) != NUMBER.sub("#", old):
        return True
    pairs = zip(NUMBER.finditer(new), NUMBER.finditer(old), strict=True)
    return any(abs(float(a[0]) - float(b[0])) > 1.01 * max(unit(a), unit(b)) for a, b in pairs if a[0] != b[0])


def unit(number: re.Match[str]) -> float:
    """One in the last digit of a printed number; 0 for a whole one, which has to be exact."""
    decimals, exponent = number.groups()
    return 0.0 if not decimals else 10.0 ** (int(exponent or 0) - len(decimals))


def printed(cell: dict[str, Any]) -> str:
    """The text that a cell of a notebook printed."""
    return "".join(line for output in cell.get("outputs", []) for line in output.get("text", []))


def kept(cells: list[Cell], notebook: dict[str, Any]) -> dict[str, Any]:
    """The stored outputs of the cells that need the training, by id.  Raises ValueError for one that has changed."""
    stored = {cell["id"]: cell for cell in notebook["cells"]}
    outputs = {}
    for cell in cells:
        if cell.kind == "trained":
            if cell.id not in stored or "".join(stored[cell.id]["source"]) != cell.text:
                raise ValueError(f"{cell.id}: this cell has changed; write the notebook without --keep-trained")
            outputs[cell.id] = stored[cell.id]["outputs"]
    return outputs


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the-verdict.txt, where it cannot be downloaded")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--keep-trained", action="store_true", help="keep the outputs of the training and what needs it")
    which.add_argument("--check", action="store_true", help="compare with the stored outputs; write nothing")
    options = parser.parse_args(argv)
    if options.data is not None:
        path = options.data.resolve()
        corpus.download_verdict = lambda: path
    cells = cells_of(SOURCE.read_text(encoding="utf-8"))
    stored: dict[str, Any] = {}
    if options.keep_trained or options.check:
        notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
        try:
            stored = kept(cells, notebook)
        except ValueError as error:
            print(error)
            return 1
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        new = list(executed(cells, stored))
    if options.check:
        for cell, old in zip_longest(new, notebook["cells"], fillvalue={}):
            if any(cell.get(name) != old.get(name) for name in ("id", "cell_type", "metadata", "source")):
                print(f"{cell.get('id') or old['id']}: the cell has changed; write the notebook anew")
                return 1
            if differs(printed(cell), printed(old)):
                print(f"{cell['id']}: printed\n{printed(cell)}but stored is\n{printed(old)}")
                return 1
        executed_here = sum(cell.kind == "code" for cell in cells)
        print(f"checked: {executed_here} cells print what is stored")
        return 0
    document = {"cells": new, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    NOTEBOOK.write_text(json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    print(f"wrote {NOTEBOOK}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
