"""The parts of README and benchmarks/README.md on GPUs, from results/gpu_check.jsonl."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from speed_parts import markdown

from nanograd_gpt.bench.statistics import paired_ratio

RESULTS = Path(__file__).parent / "results" / "gpu_check.jsonl"
NOT_YET = "Not yet measured."
LABELS = {
    "ours fp32": "nanograd_gpt, float32",
    "ours tf32": "nanograd_gpt, TF32",
    "ours bf16": "nanograd_gpt, bf16",
    "ours fp32 replayed": "nanograd_gpt, float32, replayed",
    "ours bf16 replayed": "nanograd_gpt, bf16, replayed",
    "eager": "PyTorch, the book's code, float32",
    "best fp32": "PyTorch, best eager, float32",
    "best bf16": "PyTorch, best eager, bf16",
    "cudnn bf16": "PyTorch, eager with cuDNN's attention, bf16",
    "compiled bf16": "PyTorch, compiled, bf16",
}
WRITERS = {
    "ours fp32": "nanograd_gpt, greedy, float32",
    "ours tf32": "nanograd_gpt, greedy, TF32",
    "ours fp32, top-k and top-p": "nanograd_gpt, sampled by top-k and top-p, float32",
    "cached fp32": "PyTorch with a cache, greedy, float32",
    "cached tf32": "PyTorch with a cache, greedy, TF32",
}
PRECISIONS = {"float32": "fp32", "tf32": "tf32", "bf16": "bf16"}  # of a product, as the command line names them
BESIDE = {  # whom each contender is compared with, in this order where it was timed
    "eager": ["ours fp32 replayed", "ours fp32"],
    "best fp32": ["ours fp32 replayed", "ours fp32"],
    "best bf16": ["ours bf16 replayed", "ours bf16"],
    "cudnn bf16": ["ours bf16 replayed", "ours bf16"],
    "compiled bf16": ["ours bf16 replayed", "ours bf16"],
}


def results() -> list[dict[str, Any]]:
    """All lines of real runs, oldest first, each with the machine that was described last before it."""
    if not RESULTS.exists():
        return []
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    versions, gpu = {}, {}
    for line in lines:
        versions = line if line.get("what") == "versions" else versions
        gpu = line if line.get("what") == "gpu" else gpu
        line["machine"] = _machine(gpu, versions)
    return [line for line in lines if not line.get("dry_run")]


def _machine(gpu: dict[str, Any], versions: dict[str, Any]) -> str:
    packages = {name: version for name, version in versions.get("packages", {}).items() if version}
    cupy = next((f"CuPy {version}" for name, version in packages.items() if name.startswith("cupy")), "no CuPy")
    torch, driver = packages.get("torch", "missing"), versions.get("driver", 0)
    return f"{gpu.get('name')}, {cupy}, PyTorch {torch}, driver for CUDA {driver // 1000}.{driver % 1000 // 10}."


def runs_of(step: str, stopped: bool = False) -> Iterator[list[dict[str, Any]]]:
    """The lines of each run of a step that ended by itself, or, if `stopped`, at its limit; the newest first."""
    lines: list[dict[str, Any]] = []
    found = []
    for line in results():
        if line["step"] != step:
            continue
        lines.append(line)
        if "ended" in line:
            found.append((line["code"] == 0 or (stopped and line["late"]), lines))
            lines = []
    return (lines for usable, lines in reversed(found) if usable)


def newest(step: str, what: str) -> dict[str, Any] | None:
    """The newest result of this name."""
    return next((line for line in reversed(results()) if line["step"] == step and line.get("what") == what), None)


def train_step_lines() -> list[dict[str, Any]]:
    """The newest run's results of the train step."""
    return [line for line in next(runs_of("train_step"), []) if line.get("what") == "train step"]


def train_steps() -> dict[tuple[int, int], dict[str, list[float]]]:
    """By batch and length, each contender's samples in ms."""
    lines = train_step_lines()
    return {
        size: {line["contender"]: line["samples"] for line in of_size}
        for size, of_size in groupby(lines, key=lambda line: (line["B"], line["T"]))
    }


def train_step() -> str:
    """A table for each size, with the ratio of our time to each of PyTorch's."""
    parts = [_table(size, samples) for size, samples in train_steps().items()]
    return "\n\n".join([*parts, train_step_lines()[0]["machine"]]) if parts else NOT_YET


def _table(size: tuple[int, int], samples: dict[str, list[float]]) -> str:
    rows = []
    for name, times in samples.items():
        ours = _beside(name, samples)
        ratio = str(paired_ratio(samples[ours], times)) if ours else ""
        tokens = size[0] * size[1] / (sorted(times)[len(times) // 2] / 1e3)
        rows.append([LABELS[name], f"{sorted(times)[len(times) // 2]:,.1f}", f"{tokens:,.0f}", ratio])
    return markdown([f"124M, batch {size[0]} x {size[1]}, dropout 0.1, clipped", "ms", "tokens/s", "ours / it"], rows)


def _beside(name: str, samples: dict[str, list[float]]) -> str | None:
    """Our contender that another is compared with."""
    return next((ours for ours in BESIDE.get(name, []) if ours in samples), None)


def headline() -> str:
    """Train steps and generated tokens beside PyTorch's."""
    rows = []
    for (B, T), samples in train_steps().items():
        for name in BESIDE:
            ours = _beside(name, samples)
            if name in samples and ours:
                what = f"{LABELS[ours].partition(', ')[2]}, batch {B} x {T} / {LABELS[name]}"
                rows.append([what, str(paired_ratio(samples[ours], samples[name]))])
    rows += [
        [f"generation in float32, batch {B}, {n} tokens / PyTorch with a cache", str(paired_ratio(*samples))]
        for (B, n), samples in generated().items()
    ]
    lines = [*train_step_lines(), *generation_lines()]
    table = markdown(["the 124M model on a GPU, a train step and text: our time / PyTorch's", "ratio"], rows)
    return f"{table}\n\n{lines[0]['machine']}" if rows else NOT_YET


def agreement() -> str:
    """The losses of 50 updates beside PyTorch's, and the bits of two runs."""
    losses, twice = newest("agreement", "losses beside PyTorch's"), newest("agreement", "two runs")
    tests = newest("correctness", "tests")
    if losses is None or twice is None or tests is None:
        return NOT_YET
    same = "the same bits" if twice["equal"] else "different bits"
    return (
        f"From the same weights, the losses of {losses['updates']} updates of the 124M model in float32 differ from "
        f"PyTorch's by at most {losses['worst']:.1e} nats. Two runs with dropout end with {same}. Of the tests that "
        f"need a GPU, {tests['passed']:,} passed and {tests.get('failed', 0)} failed.{sanitized()}"
        f"\n\n{losses['machine']}"
    )


def sanitized() -> str:
    """Findings of compute-sanitizer in the tests of kernels, by tool; empty if it did not run."""
    lines = [line for line in next(runs_of("sanitizer", stopped=True), []) if "kernel" in line]
    tools = [f"{tool} of {n}" for tool, n in Counter(line["what"] for line in lines).items()]
    found = [f"{line['what']} in {line['kernel']}" for line in lines if line.get("code") != 0]
    said = f"an error by {', '.join(found)}" if found else "nothing"
    return f" compute-sanitizer found {said}, in the tests of kernels: {', '.join(tools)}." if lines else ""


def memory() -> str:
    """The memory that each contender takes to train, and ours beside it."""
    lines = [line for line in next(runs_of("memory"), []) if line.get("what") == "memory" and "bytes" in line]
    taken = {line["contender"]: line["bytes"] for line in lines}
    rows = []
    for name, size in taken.items():
        ours = next((other for other in BESIDE.get(name, []) if other in taken), None)
        rows.append([LABELS[name], f"{size / 1e9:.1f}", f"{taken[ours] / size:.2f}" if ours else ""])
    table = markdown(["124M, batch 8 x 1024", "GB", "ours / it"], rows)
    return f"{table}\n\n{lines[0]['machine']}" if rows else NOT_YET


def generation_lines() -> list[dict[str, Any]]:
    """The newest run's results of generation, of the sizes that every contender was timed with."""
    lines = [line for line in next(runs_of("generation", stopped=True), []) if line.get("what") == "generation"]
    timed = Counter((line["B"], line["n"]) for line in lines)
    return [line for line in lines if timed[line["B"], line["n"]] == max(timed.values())]


def generated() -> dict[tuple[int, int], tuple[list[float], list[float]]]:
    """By batch and length, our samples and PyTorch's in ms, of greedy tokens in float32."""
    samples = {(line["contender"], line["B"], line["n"]): line["samples"] for line in generation_lines()}
    sizes = sorted({(B, n) for _, B, n in samples})
    return {size: (samples["ours fp32", *size], samples["cached fp32", *size]) for size in sizes}


def generation() -> str:
    """Tokens per second by batch and length, ours beside PyTorch's with a cache."""
    lines = generation_lines()
    sizes = list(dict.fromkeys((line["B"], line["n"]) for line in lines))
    speed = {(line["contender"], line["B"], line["n"]): f"{line['tokens_per_second']:,.0f}" for line in lines}
    rows = [
        [WRITERS[name], *(speed[name, B, n] for B, n in sizes)] for name in dict.fromkeys(name for name, *_ in speed)
    ]
    heads = ["124M, tokens/s, a prompt of 4", *(f"batch {B}, {n} tokens" for B, n in sizes)]
    return f"{markdown(heads, rows)}\n\n{lines[0]['machine']}" if rows else NOT_YET


def kernels() -> str:
    """Each kernel's time, and its ratio to the lower bound by the ceilings of the same machine."""
    lines = [line for line in next(runs_of("kernels"), []) if "ms" in line]
    if not lines or not (ceilings := measured_ceilings(lines[0]["machine"])):
        return NOT_YET
    rows, seen = [], set()
    for line in lines:
        name = f"{line['what']}, {line['precision']}"
        again = name in seen
        seen.add(name)
        bound = 1e3 * max(line["bytes"] / ceilings["bytes"], line["flops"] / ceilings[line["precision"]])
        rows.append([name + (" (another size)" if again else ""), f"{line['ms']:.3f}", f"{line['ms'] / bound:.1f}"])
    table = markdown(["kernel, batch 8 x 1024", "ms", "ratio to its lower bound"], rows)
    return f"{table}\n\n{lines[0]['machine']}"


def measured_ceilings(machine: str) -> dict[str, float]:
    """Per second, on this machine: the bytes of a copy, and the operations of a product in each precision."""
    lines = [line for line in next(runs_of("ceilings"), []) if line["machine"] == machine]
    found = {PRECISIONS[line["kind"]]: 1e12 * line["tflops"] for line in lines if line.get("what") == "product"}
    for line in lines:
        if line.get("what") == "copy":
            found["bytes"] = 1e9 * line["gb_per_second"]
    return found


def ceilings() -> str:
    """Products of 8192 in each arithmetic, and a copy of 1 GiB."""
    lines = next(runs_of("ceilings"), [])
    rows = [
        [f"product of {d['n']}, {d['kind']}", f"{d['tflops']:,.0f} TFLOP/s"]
        for d in lines
        if d.get("what") == "product"
    ]
    rows += [
        ["copy of 1 GiB, read and write", f"{d['gb_per_second']:,.0f} GB/s"] for d in lines if d.get("what") == "copy"
    ]
    return f"{markdown(['ceiling', 'measured'], rows)}\n\n{lines[0]['machine']}" if rows else NOT_YET


IN_README: dict[str, Callable[[], str]] = {"gpu": headline}
IN_BENCHMARKS: dict[str, Callable[[], str]] = {
    "gpu train step": train_step,
    "gpu memory": memory,
    "gpu agreement": agreement,
    "gpu generation": generation,
    "gpu ceilings": ceilings,
    "gpu kernels": kernels,
}
