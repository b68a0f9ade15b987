"""Benchmark this machine: train step, generation, memory."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from os.path import lexists
from tempfile import TemporaryFile
from typing import Any

from ..backend.precision import precision
from ..backend.select import gpu_memory_held
from ..bench.machine import measured_machine, peak_memory
from ..bench.profile import profiled_step
from ..bench.statistics import Summary, summary
from ..bench.step import PHASES, TrainStep, random_batch, repeated, token_times
from ..bench.table import COLUMNS, profile_cells, profile_metadata
from ..environment import environment
from ..errors import InputError, counted
from ..files import not_written, writing_named
from ..gpt.config import GPTConfig
from ..gpt.model import GPTModel
from ..rng import Generator
from ..tables import aligned
from .info import gigabytes
from .options import MODEL_HELP, add_device, add_settings, config_from, device_from, user_path

WARM_UP = 2  # steps: the first ones fill caches and allocate memory
PROMPT, NEW = 4, 16  # tokens
PROFILED = 5  # steps


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=user_path, metavar="FILE.json", help="write all samples and the environment to this file [none]"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="X",
        default=20.0,
        help="seconds to measure the step for; generation gets half [20]",
    )
    add_device(parser)
    add_settings(parser, only=(*MODEL_HELP, "batch_size"))


def run(options: Namespace) -> int:
    config, device = config_from(options), device_from(options)
    if not 0 <= options.seconds < float("inf"):
        raise InputError(f"seconds: {options.seconds} is not allowed; choose a finite number >= 0")
    if options.out is not None and options.out.is_file():
        raise InputError(f"out: {options.out} exists already; give a new name")
    if options.out is not None and (options.out.is_dir() or not options.out.absolute().parent.is_dir()):
        raise InputError(f"out: {options.out} cannot be a file; give one in a directory that exists")
    if options.out is not None and not lexists(options.out):
        try:  # now, not after all is measured
            with TemporaryFile(dir=options.out.absolute().parent):
                pass
        except OSError as error:
            raise not_written(options.out, error) from None
    facts: dict[str, Any] = {
        "model": config.model.to_dict(),
        "batch_size": config.data.batch_size,
        "device": device,
        "environment": environment(),
    }
    model = GPTModel(config.model, rng=Generator(config.training.seed)).to(device)
    for name, lines in _measured(model, config.data.batch_size, options.seconds, facts):
        print(name, *(f"  {line}" for line in lines), sep="\n", flush=True)
    if options.out is not None:
        with writing_named(options.out):
            options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return 0


def _measured(
    model: GPTModel, batch_size: int, seconds: float, facts: dict[str, Any]
) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each part of the report as soon as it is measured; `facts` collects all samples."""
    config = model.config
    machine = measured_machine(model.device)
    flops, bandwidth = machine.flops_per_second / 1e9, machine.bytes_per_second / 1e9
    arithmetic = {"fp32": "float32", "tf32": "TF32", "bf16": "bf16"}[precision()]
    limits = f"{flops:,.0f} GFLOP/s in {arithmetic} matrix products, {bandwidth:,.1f} GB/s of memory bandwidth"
    yield f"machine: {model.device}, {limits}", []

    step = TrainStep(model, random_batch(config, batch_size, config.context_length))
    for _ in range(WARM_UP):
        step.run()
    facts["step"] = repeated(step.timed, seconds)
    yield f"train step: {config.n_parameters:,} parameters, batch {batch_size} x {config.context_length}", _step(facts)

    facts["profile"] = profile_metadata(profiled_step(step, PROFILED), machine)
    yield "where a step's time goes", aligned([COLUMNS, *profile_cells(facts["profile"])])

    model.eval()
    facts["generation"] = _generation(model, seconds / 2)
    prompt = counted(facts["generation"]["prompt_tokens"], "token")
    yield f"generation, one text from {prompt}", _generation_lines(facts)

    facts["peak_memory"] = peak_memory()
    if facts["peak_memory"] is not None:
        yield f"peak memory: {gigabytes(facts['peak_memory'])}", []
    if model.device == "cuda":
        facts["gpu_memory"] = gpu_memory_held()
        yield f"GPU memory: {gigabytes(facts['gpu_memory'])}", []


def _step(facts: dict[str, Any]) -> list[str]:
    samples = facts["step"]
    tokens = facts["batch_size"] * facts["model"]["context_length"]
    rows = [["", "median ms", "quartiles"]]
    summaries = {name: summary([s[name] for s in samples]) for name in (*PHASES, "total")}
    rows += [[name, _ms(of.median), _quartiles(of)] for name, of in summaries.items()]
    return [*aligned(rows), f"{tokens / summaries['total'].median:,.0f} tokens/s; {counted(len(samples), 'step')}"]


def _generation(model: GPTModel, seconds: float) -> dict[str, Any]:
    """Samples of the time to the first token, and of the mean time per further token."""
    prompt_tokens, new = _lengths(model.config)
    prompt = random_batch(model.config, 1, prompt_tokens)[0][0]
    token_times(model, prompt, 1)
    texts = repeated(lambda: token_times(model, prompt, new), seconds)
    return {
        "prompt_tokens": prompt_tokens,
        "new_tokens": new,
        "prefill": [first for first, *_ in texts],
        "per_token": [sum(others) / len(others) for _, *others in texts],
    }


def _lengths(config: GPTConfig) -> tuple[int, int]:
    """The lengths of the prompt, at most half the context, and of the continuation, at least 2."""
    prompt = min(PROMPT, max(1, config.context_length // 2))
    return prompt, max(2, min(NEW, config.context_length - prompt))


def _generation_lines(facts: dict[str, Any]) -> list[str]:
    prefill, per_token = (summary(facts["generation"][name]) for name in ("prefill", "per_token"))
    rows = [["", "median ms", "quartiles"]]
    rows += [
        [name, _ms(of.median), _quartiles(of)]
        for name, of in (("prompt and first token", prefill), ("each further token", per_token))
    ]
    return [*aligned(rows), f"{1 / per_token.median:,.0f} tokens/s; {counted(per_token.n, 'text')}"]


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.2f}"


def _quartiles(of: Summary) -> str:
    return f"{_ms(of.lower)} .. {_ms(of.upper)}"
