"""Check the gradients of operations and of a whole GPT.

They are compared with the complex step.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from time import perf_counter

import numpy as np

from ..errors import InputError, RunError, did_you_mean
from ..gpt.config import GPTConfig
from ..gpt.model import GPTModel
from ..gradcheck import GradientError, check_function, check_hessian_symmetry
from ..gradcheck.cases import Case, cases
from ..gradcheck.messages import KINKS
from ..tensor import Tensor

WHOLE = "GPT"
TINY = GPTConfig(vocab_size=11, context_length=6, emb_dim=8, n_heads=2, n_layers=2, drop_rate=0.0, qkv_bias=True)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"operations to check, such as Tanh or LayerNorm, or {WHOLE} [all]"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the operations, and check nothing")
    parser.epilog = "Each error is relative to the norm of the whole gradient; the limit is 1e-12."


def run(options: Namespace) -> int:
    by_operation = {name: list(group) for name, group in groupby(sorted(cases(), key=_name), key=_name)}
    if options.list:
        print(*by_operation, WHOLE, sep="\n")
        return 0
    chosen = _chosen(options.names, [*by_operation, WHOLE])
    started, failures = perf_counter(), 0
    print(f"checking {Path(__file__).parents[1]}")
    print(f"{'operation':<20} {'cases':>5}  worst error")
    for name, group in by_operation.items():
        if name in chosen:
            failures += _line(name, group)
    if WHOLE in chosen:
        failures += _model_lines()
    seconds = perf_counter() - started
    if failures:
        raise RunError(f"gradcheck: {failures} of the checks above failed ({seconds:.1f} s)")
    print(f"checked: every gradient agrees to 1e-12 or better ({seconds:.1f} s)")
    return 0


def _name(case: Case) -> str:
    return case.op.__name__


def _chosen(names: list[str], known: list[str]) -> list[str]:
    """The names as they are spelled, in whatever case they were typed; all of them where none is given."""
    spelled = {name.lower(): name for name in known}
    for name in names:
        if name.lower() not in spelled:
            hint = did_you_mean(name.lower(), list(spelled)) or "; nanograd-gpt gradcheck --list names all"
            raise InputError(f"gradcheck: {name!r} is unknown{hint}")
    return [spelled[name.lower()] for name in names] or known


def _line(name: str, group: list[Case]) -> int:
    """Check and print one operation; returns the number of its cases that failed."""
    worst, failures = 0.0, 0
    for case in group:
        try:
            error = case.check()
        except GradientError as failure:
            if not failures:  # the others of a wrong rule say much the same
                reason = str(failure).replace(KINKS, "").removeprefix(f"{name}, {case.what}: ")
                print(f"{name:<20} FAILED {case.what}: {reason}")
            failures += 1
        else:
            worst = max(worst, error) if case.method == "complex step" and not case.is_empty else worst
    if failures > 1:
        print(f"{'':<20} and {failures - 1} more of its {len(group)} cases")
    if not failures:
        print(f"{name:<20} {len(group):>5}  {worst:.1e}")
    return failures


def _model_lines() -> int:
    model = GPTModel(TINY)
    ids = np.random.default_rng(0).integers(0, TINY.vocab_size, (2, TINY.context_length + 1))
    leaves = dict(model.named_parameters())

    def loss() -> Tensor:
        return model.loss(ids[:, :-1], ids[:, 1:])

    checks: dict[str, Callable[[], float]] = {
        f"GPT, each of {model.n_parameters:,}": lambda: check_function(loss, leaves, exhaustive=True),
        "GPT, Hessian symmetric": lambda: check_hessian_symmetry(loss, leaves),
    }
    failures = 0
    for what, check in checks.items():
        try:
            print(f"{what:<26}  {check():.1e}")
        except GradientError as failure:
            print(f"{what:<26}  FAILED {failure}")
            failures += 1
    return failures
