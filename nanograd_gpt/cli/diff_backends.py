"""Compare two backends, kernel by kernel, in a train step.

Each kernel call of one backend is repeated by the other with the same inputs.
The first one out of tolerance is named.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from ..autograd import Leaf
from ..backend.cpu.threads import set_threads
from ..backend.cuda_probe import cuda_problem
from ..backend.precision import set_precision
from ..backend.repeat import BACKENDS, Backend, Call, backend_named, first_difference, repeated
from ..bench.step import random_batch
from ..errors import InputError, RunError, counted, did_you_mean
from ..gpt.model import GPTModel
from ..optim import AdamW
from ..rng import Generator
from ..tables import aligned
from ..training.sources import MODEL_SOURCES, open_model
from .options import (
    MODEL_HELP,
    add_model_path,
    add_settings,
    check_no_settings,
    config_from,
    is_given,
    model_path_if_given,
    note,
)

MAX_NORM = 1.0
BATCHES = 2  # whose gradients are accumulated, so that kernels both overwrite a gradient and add to it
BATCH_SIZE = 2  # of a model that is given


def add_arguments(parser: ArgumentParser) -> None:
    add_model_path(parser, what=f"{MODEL_SOURCES} [a new model with these settings]")
    backends = parser.add_argument_group("backends")
    backends.add_argument(
        "--backends",
        nargs=2,
        metavar=("FIRST", "SECOND"),
        default=["cpu", "plain"],
        help="two of cpu, plain (the formulas on NumPy) and cuda; the step is that of the first [cpu plain]",
    )
    backends.add_argument(
        "--precision", metavar="NAME", default="fp32", help="layers on cuda: fp32, tf32 or bf16 [fp32]"
    )
    backends.add_argument("--threads", metavar="N", help="CPU threads [NANOGRAD_THREADS, or one per processor]")
    add_settings(parser, only=(*MODEL_HELP, "batch_size"), default="tiny")


def run(options: Namespace) -> int:
    first, second = _backends(options)
    model, batch_size = _model(options)
    length = model.config.context_length
    calls = _step(model, first, second, batch_size)
    print(
        f"{first.name} and {second.name}: a step of {model.n_parameters:,} parameters, "
        f"{BATCHES} batches of {batch_size} x {length}"
    )
    print(*aligned(_rows(calls)), sep="\n")
    if (wrong := first_difference(calls)) is not None:
        raise RunError(f"diff-backends: {_described(wrong, calls)}")
    names = {call.kernel for call in calls}
    print(f"checked: {counted(len(calls), 'call')} of {counted(len(names), 'kernel')} agree")
    return 0


def _backends(options: Namespace) -> list[Backend]:
    """The two backends.  Raises InputError for a name that is unknown or twice there, and for a GPU that is not."""
    names = options.backends
    for name in names:
        if name not in BACKENDS:
            raise InputError(f"backends: {name!r} is unknown{did_you_mean(name, list(BACKENDS))}")
    if names[0] == names[1]:
        raise InputError(f"backends: {names[0]} is there twice; choose two of {', '.join(BACKENDS)}")
    set_precision(options.precision)
    if "cuda" not in names and options.precision != "fp32":
        raise InputError(f"--precision: {options.precision} needs cuda, which is not compared; leave it out")
    if "cuda" in names and (problem := cuda_problem()):
        raise InputError(f"backends: 'cuda' cannot be used: {problem}; or choose --backends cpu plain")
    if options.threads is not None:
        set_threads(options.threads)
    return [backend_named(name) for name in names]


def _model(options: Namespace) -> tuple[GPTModel, int]:
    """The model, and the number of windows in a batch."""
    path = model_path_if_given(options)
    if path is not None:
        check_no_settings(options, path, MODEL_HELP)
    if not (options.preset or options.book or options.config or is_given(options, "data")):
        options.preset = "tiny"  # which has dropout, so that masks are compared too
    config = config_from(options)
    if path is None:
        return GPTModel(config.model, rng=Generator(config.training.seed)), config.data.batch_size
    source = open_model(path)
    for damage in source.damaged:
        note(f"{damage}; an earlier checkpoint is used")
    return source.model, config.data.batch_size if is_given(options, "batch_size") else BATCH_SIZE


def _step(model: GPTModel, first: Backend, second: Backend, batch_size: int) -> list[Call]:
    """Take a step on the first backend; returns every kernel call, compared."""
    model.to(first.device).train()
    optimizer = AdamW(model.parameters(), weight_decay=0.1)
    names = {}
    for name, parameter in model.named_parameters():
        names[id(parameter.data)] = name
        if isinstance(parameter.node, Leaf):
            names[id(parameter.node.buffer)] = name
    with repeated(first, second, names) as calls:
        for seed in range(BATCHES):
            model.loss(*random_batch(model.config, batch_size, model.config.context_length, seed)).backward()
        optimizer.step(MAX_NORM)
    return calls


def _rows(calls: Sequence[Call]) -> list[list[str]]:
    """The table: each kernel's number of calls, and its largest difference, in order of their first calls."""
    rows = [["operation", "calls", "largest difference", "of", "where"]]
    for kernel in dict.fromkeys(call.kernel for call in calls):
        own = [call for call in calls if call.kernel == kernel]
        worst = max(own, key=lambda call: call.difference.in_limits)
        found = worst.difference
        shown = f"{found.error:.1e}{'' if found.is_allowed else ' FAILED'}"
        rows.append([kernel, f"{len(own):,}", shown, found.output, worst.where])
    return rows


def _described(wrong: Call, calls: Sequence[Call]) -> str:
    found = wrong.difference
    nth = next(i for i, call in enumerate(calls, 1) if call is wrong)
    return (
        f"the first operation that differs is {wrong.kernel}, {wrong.where} (call {nth} of {len(calls)}): its "
        f"{found.output}, {found.shape} {found.dtype}, by {found.error:.1e}; {found.limit:.0e} is allowed"
    )
