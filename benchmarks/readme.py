"""Fill README with the results: each part between `<!-- begin NAME -->` and `<!-- end NAME -->`.

    python benchmarks/readme.py [--check]

Fills benchmarks/README.md as well, and draws results/speed.svg and data_parallel.png and .svg.  --check writes nothing,
and exits with 1 if a README is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))
from harness import Parser, run

# isort: split
import data_parallel_parts
import gpu_parts
from speed_parts import IN_BENCHMARKS, IN_README
from tour_parts import tour

from nanograd_gpt.training.tale_test import score_line

RESULTS = Path(__file__).parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite both, or check whether they would change."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if a document would change")
    options = parser.parse_args(argv)
    differ = [path for path in DOCUMENTS if filled(path) != path.read_text(encoding="utf-8")]
    if options.check:
        print(f"run python benchmarks/readme.py: {differ} would change" if differ else "all is up to date")
        return int(bool(differ))
    import data_parallel_figure  # matplotlib is slow to import
    from speed_figure import write_figure

    for path in differ:
        path.write_text(filled(path), encoding="utf-8")
    write_figure(RESULTS / "speed.svg")
    data_parallel_figure.write_figure(RESULTS / "data_parallel")
    return 0


def filled(document: Path) -> str:
    """The text of a document with each marked part regenerated."""
    text = document.read_text(encoding="utf-8")
    for name, make in DOCUMENTS[document].items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{document.name} has no part '<!-- begin {name} -->' ... '<!-- end {name} -->'")
        text = pattern.sub(partial(_between, make()), text)
    return text


def _between(text: str, marks: re.Match[str]) -> str:
    return f"{marks[1]}{text}\n{marks[2]}"


def result(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def default_run() -> str:
    """The output and duration of the default training."""
    facts = result("default_run.json")
    evaluations, sample = facts["evaluations"], facts["samples"][-1]
    chosen = evaluations[0], evaluations[len(evaluations) // 4], evaluations[-1]
    lines = [
        f"Ep {e['epoch']} (Step {e['step']:06d}): Train loss {e['train_loss']:.3f}, Val loss {e['val_loss']:.3f}"
        for e in chosen
    ]
    *first, last = lines  # the last evaluation follows the last sample
    end = [sample["text"], last, score_line(facts["tales"][-1])]
    console = "\n".join([*facts["header"], "...", *first, "...", *end, "..."])
    cpus = facts["environment"]["cpus"]
    return f"```text\n{console}\n```\n\nIt took {facts['seconds']:.0f} s on {cpus} cores, figures and report included."


def gradcheck() -> str:
    """The first and last lines of `nanograd-gpt gradcheck`."""
    lines = (RESULTS / "gradcheck.txt").read_text(encoding="utf-8").splitlines()
    last = re.sub(r" \(.*\)$", "", lines[-1])  # without the seconds, which depend on the machine
    return "\n".join(["```text", *lines[:5], "...", *lines[-3:-1], last, "```"])


def book_numbers() -> str:
    """The published training log with nanograd_gpt's and PyTorch's."""
    ours, theirs = result("book.json"), result("book_pytorch.json")
    rows = ["| step | the book | nanograd_gpt | PyTorch, same machine |", "|---:|:---:|:---:|:---:|"]
    for published, a, b in zip(ours["published"], ours["evaluations"], theirs["evaluations"], strict=True):
        pairs = [f"{x:.3f} / {y:.3f}" for x, y in (published, *((e["train_loss"], e["val_loss"]) for e in (a, b)))]
        rows.append(f"| {a['step']} | {' | '.join(pairs)} |")
    pairs = [*zip(ours["evaluations"], theirs["evaluations"], strict=True)]
    furthest = max(abs(a[k] - b[k]) for a, b in pairs for k in ("train_loss", "val_loss"))
    same = sum(a == b for a, b in zip(ours["samples"], theirs["samples"], strict=True))
    after = (
        f"The largest difference from a loss of PyTorch is {furthest:.1e}; of the {len(ours['samples'])} samples, "
        f"one per epoch, {same} are identical. The last one: *{ours['samples'][-1]}*"
    )
    return "\n".join([*rows, "", after])


def appendix_d() -> str:
    """The agreement with appendix D's published log, and with PyTorch's."""
    ours, theirs = result("appendix_d.json"), result("appendix_d_pytorch.json")
    ours_and_theirs = [[(e["train_loss"], e["val_loss"]) for e in log["evaluations"]] for log in (ours, theirs)]
    printed, printed_by_pytorch = ([[round(x, 3) for x in pair] for pair in pairs] for pairs in ours_and_theirs)
    same = sum(a == b for a, b in zip(printed, printed_by_pytorch, strict=True))
    published = sum(a == b for a, b in zip(printed, ours["published"], strict=True))
    furthest = max(abs(x - y) for a, b in zip(*ours_and_theirs, strict=True) for x, y in zip(a, b, strict=True))
    off = max(abs(x - y) for a, b in zip(printed, ours["published"], strict=True) for x, y in zip(a, b, strict=True))
    samples = sum(a == b for a, b in zip(ours["samples"], theirs["samples"], strict=True))
    return (
        f"Of the {len(printed)} pairs of losses of appendix D's longer trainer, {published} agree with the published "
        f"ones to three decimals (largest difference {off:.3f}) and {same} with PyTorch's on the same machine (largest "
        f"difference {furthest:.1e}); {samples} of the {len(ours['samples'])} samples are identical to PyTorch's."
    )


PARTS: dict[str, Callable[[], str]] = {
    "tour": lambda: tour(result("tour.json")),
    "default run": default_run,
    "gradcheck": gradcheck,
    "book numbers": book_numbers,
    "appendix d": appendix_d,
    **IN_README,
    **gpu_parts.IN_README,
}
DOCUMENTS = {
    Path(__file__).parent.parent / "README.md": PARTS,
    Path(__file__).parent / "README.md": IN_BENCHMARKS | data_parallel_parts.IN_BENCHMARKS | gpu_parts.IN_BENCHMARKS,
}


if __name__ == "__main__":
    sys.exit(run(main))
