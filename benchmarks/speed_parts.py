"""The parts of README and benchmarks/README.md on speed and memory, from the files in results/."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tale_scores import shares_of

from nanograd_gpt.bench.statistics import Ratio, paired_ratio, summary
from nanograd_gpt.bench.table import CACHED, COLUMNS, profile_cells

RESULTS = Path(__file__).parent / "results"
COMPARED = ["train_124m.json", "train_small.json", "generation.json"]
AVX2 = "avx2"  # the folder of results without AVX-512
PHASES = ["forward", "backward", "optimizer"]
LABELS = {
    "ours": "nanograd_gpt",
    "document": "PyTorch, the book's code",
    "best": "PyTorch, best eager",
    "compiled": "PyTorch, best compiled",
    "huggingface": "Hugging Face, cached",
}


class Target(NamedTuple):
    """A measured value with its limit and its goal."""

    what: str
    must: float
    aim: float
    value: float
    shown: str
    unit: str = ""

    def row(self) -> list[str]:
        verdict = "goal met" if self.value <= self.aim else "met" if self.value <= self.must else "**missed**"
        aim = f"{self.aim:g}{self.unit}" if self.aim < self.must else ""
        return [self.what, f"{self.must:g}{self.unit}", aim, self.shown, verdict]


def result(name: str, folder: str = "") -> Any:
    """A result file; folder: AVX2, or "" for those with all instructions of the machine."""
    return json.loads((RESULTS / folder / name).read_text(encoding="utf-8"))


# --- README


def targets() -> str:
    """Every target, with the result."""
    rows = [target.row() for target in all_targets()]
    files = [*COMPARED, "memory.json", "profile_124m.json"]
    return _joined(markdown(["", "limit", "goal", "measured", ""], rows), _caveats(files))


def headline() -> str:
    """The ratios alone, without their targets, and those without AVX-512."""
    without = {target.what: target.shown for target in step_targets(AVX2) + generation_targets(AVX2)}
    rows = [[t.what, t.shown, without.get(t.what, "")] for t in all_targets() if " / " in t.what]
    table = markdown(["nanograd_gpt / PyTorch or Hugging Face", "AVX-512", "AVX2"], rows)
    return _joined(table, _caveats([f"{f}{name}" for f in ("", f"{AVX2}/") for name in COMPARED]))


def all_targets() -> list[Target]:
    """The targets, with values from the result files."""
    peaks = {name: max(taken) for name, taken in result("memory.json")["peak_bytes"].items()}
    ours = peaks["train, ours"]
    overhead = {name: 100 * result(f"profile_{name}.json")["overhead_share"] for name in ("124m", "small")}
    largest = peaks["train 355M, ours"] / 1e9
    return [
        *step_targets(),
        *generation_targets(),
        _plain_target("peak memory, 124M / the book's code", 0.75, 0.65, ours / peaks["train, document"]),
        _plain_target("peak memory, 124M / best eager", 0.85, 0.78, ours / peaks["train, best"]),
        Target("engine's own Python, 124M", 1, 1, overhead["124m"], f"{overhead['124m']:.2f}%", "%"),
        Target("engine's own Python, small", 10, 10, overhead["small"], f"{overhead['small']:.1f}%", "%"),
        Target("peak memory, 355M", 8, 8, largest, f"{largest:.1f} GB", " GB"),
    ]


def step_targets(folder: str = "") -> list[Target]:
    large, small = (result(f"train_{size}.json", folder)["samples"] for size in ("124m", "small"))
    return [
        _ratio_target("train step, 124M / the book's code", 0.68, 0.60, large, "document"),
        _ratio_target("train step, 124M / best eager", 0.85, 0.75, large, "best"),
        _ratio_target("train step, small / the book's code", 0.80, 0.65, small, "document"),
        _ratio_target("train step, small / best eager", 0.95, 0.85, small, "best"),
    ]


def generation_targets(folder: str = "") -> list[Target]:
    return [
        _ratio_target(f"{n} new tokens / {what}", must, aim, samples, name)
        for n, samples in [*result("generation.json", folder)["samples"].items()][1:]
        for what, name, must, aim in (
            ("the book's code", "document", 0.18, 0.15),
            ("Hugging Face, cached", "huggingface", 0.50, 0.45),
        )
    ]


def _ratio_target(what: str, must: float, aim: float, samples: Mapping[str, Any], of: str) -> Target:
    ratio = ratio_to(samples, of)
    return Target(what, must, aim, ratio.median, str(ratio))


def _plain_target(what: str, must: float, aim: float, value: float) -> Target:
    return Target(what, must, aim, value, f"{value:.2f}")


def ratio_to(samples: Mapping[str, Any], name: str) -> Ratio:
    """The ratio of our times to another's, round by round."""
    ours, theirs = ([sample["total"] for sample in samples[who]] for who in ("ours", name))
    return paired_ratio(ours, theirs)


def train_step(folder: str = "") -> str:
    """Both train steps by phase."""
    parts = []
    for file in ("train_124m.json", "train_small.json"):
        facts = result(file, folder)
        tokens = facts["setup"]["batch_size"] * facts["setup"]["length"]
        rows = [_step_row(name, samples, facts["samples"], tokens) for name, samples in facts["samples"].items()]
        head = [f"{_sizes(facts['setup'])}, ms", *PHASES, "step (quartiles)", "tokens/s", "ratio"]
        failures = "\n".join(f"Left out, {message}." for message in facts["failures"].values())
        parts.append(_joined(markdown(head, rows), failures, f"{_same_twice(facts)} {_agreement(facts)}"))
    return _joined(*parts, about(facts))


def _step_row(name: str, samples: Sequence[Any], all_samples: Mapping[str, Any], tokens: int) -> list[str]:
    phases = [f"{1e3 * summary([s[phase] for s in samples]).median:,.1f}" for phase in PHASES]
    whole = summary([s["total"] for s in samples])
    step = f"{1e3 * whole.median:,.1f} ({1e3 * whole.lower:,.1f} to {1e3 * whole.upper:,.1f})"
    ratio = "" if name == "ours" else str(ratio_to(all_samples, name))
    return [LABELS[name], *phases, step, f"{tokens / whole.median:,.0f}", ratio]


def generation(folder: str = "") -> str:
    """Time of the prompt, and tokens per second, by each contender."""
    facts = result("generation.json", folder)
    prompt, *lengths = facts["samples"]
    rows = []
    for name in facts["samples"][prompt]:
        medians = {n: summary([s["total"] for s in facts["samples"][n][name]]).median for n in facts["samples"]}
        speeds = [f"{int(n) / medians[n]:,.1f}" for n in lengths]
        ratios = ["" if name == "ours" else str(ratio_to(facts["samples"][n], name)) for n in lengths]
        rows.append([LABELS[name], f"{1e3 * medians[prompt]:,.1f}", *speeds, *ratios])
    head = [_sizes(facts["setup"]), "first token, ms", *(f"{n}: tokens/s" for n in lengths)]
    return _joined(markdown([*head, *(f"{n}: ratio" for n in lengths)], rows), _same_twice(facts), about(facts))


def generation_batches(folder: str = "") -> str:
    """Tokens per second of batches of prompts, ours and Hugging Face's, with the time for the prompts."""
    facts = result("generation_batches.json", folder)
    rows = []
    for batch, samples in facts["batches"].items():
        n = int(batch.split(" x ")[0]) * facts["new"]
        speeds = [f"{n / summary([s['total'] for s in taken]).median:,.1f}" for taken in samples.values()]
        rows.append([f"{batch} tokens", *speeds, str(ratio_to(samples, "huggingface"))])
    names = [f"{LABELS[name]}, tokens/s" for name in next(iter(facts["batches"].values()))]
    table = markdown([f"prompts, each with {facts['new']} new tokens", *names, "ratio"], rows)
    return _joined(table, about(facts))


def profile(name: str) -> str:
    """The time of a step, by operation."""
    facts = result(f"profile_{name}.json")
    flops, bandwidth = (facts["machine"][f"{name}_per_second"] / 1e9 for name in ("flops", "bytes"))
    limits = (
        f"{_sizes(facts['setup'])}. Machine limits: {flops:,.0f} GFLOP/s of float32 matrix products, "
        f"{bandwidth:,.1f} GB/s of memory bandwidth, both measured in the same run; {CACHED}: faster than that memory, "
        "since its arrays are in the processor's caches."
    )
    return _joined(markdown(COLUMNS, profile_cells(facts)), limits + quick(facts))


# --- benchmarks/README.md


def memory() -> str:
    """The peak of each process."""
    facts = result("memory.json")
    rows = []
    for name, peaks in facts["peak_bytes"].items():
        what, who = name.split(", ")
        rows.append([f"{what}, {LABELS[who]}", _sizes(facts["setups"][name]), f"{max(peaks) / 1e6:,.0f}"])
    return _joined(markdown(["process", "model", "peak RSS, MB"], rows), about(facts))


def scaling(folder: str = "") -> str:
    """The time of a step as one size is changed."""
    facts = result("scaling.json", folder)
    rows = []
    for point in facts["points"]:
        ours, best = (1e3 * summary([s["total"] for s in point["samples"][who]]).median for who in ("ours", "best"))
        ratio = ratio_to(point["samples"], "best")
        rows.append([f"{point['axis']} {point['value']}", f"{ours:,.1f}", f"{best:,.1f}", str(ratio)])
    head = ["changed", "nanograd_gpt, ms", "PyTorch, best eager, ms", "ratio"]
    return _joined(markdown(head, rows), f"Base: {_sizes(facts['base'])}. {about(facts)}")


def layers(folder: str = "") -> str:
    """Each layer alone."""
    facts = result("layers.json", folder)
    rows = []
    for layer, samples in facts["samples"].items():
        ours, theirs = samples.values()
        medians = [
            f"{1e3 * summary([s[phase] for s in who]).median:,.2f}" for phase in PHASES[:2] for who in (ours, theirs)
        ]
        ratio = paired_ratio(*([s["total"] for s in who] for who in (ours, theirs)))
        rows.append([layer, *medians, str(ratio)])
    columns = [part for phase in PHASES[:2] for part in (phase, f"{phase}, PyTorch")]
    head = [f"{_sizes(facts['setup'])}, ms", *columns, "ratio"]
    return _joined(markdown(head, rows), about(facts))


def variants(name: str) -> str:
    """Train steps by variants of nanograd_gpt's process."""
    facts = result(name)
    steps = facts["steps"].values()
    first, *others = next(iter(steps))["samples"]
    rows = []
    for variant in [first, *others]:
        cells = []
        for step in steps:
            median = 1e3 * summary([s["total"] for s in step["samples"][variant]]).median
            ratio = paired_ratio(*([s["total"] for s in step["samples"][who]] for who in (variant, first)))
            cells.append(f"{median:,.1f}" + f", {ratio}" * (variant != first))
        rows.append([variant, *cells])
    head = ["", *(f"{step}, ms, and ratio to the first" for step in facts["steps"])]
    return _joined(markdown(head, rows), about(facts))


def blas_kernels() -> str:
    """The 124M step with other kernels of OpenBLAS than its default."""
    facts = result("blas_kernels.json")
    samples = facts["steps"]["124M"]["samples"]
    default, other = list(samples)[:2]
    ratio = paired_ratio(*([s["total"] for s in samples[who]] for who in (other, default)))
    return (
        f"OpenBLAS chooses its kernels by the processor, and others may be faster: with `{other}` in the environment, "
        f"a 124M step takes {ratio} of its time on the {facts['environment']['processor']} measured here, with NumPy "
        f"{facts['environment']['numpy']}. `benchmarks/blas_kernels.py` compares them on yours."
    )


def start_up() -> str:
    """Start-up times."""
    facts = result("startup.json")
    rows = []
    for name, samples in facts["samples"].items():
        of = summary(samples)
        rows.append([f"`{name}`", f"{1e3 * of.median:,.0f}", f"{1e3 * of.lower:,.0f} to {1e3 * of.upper:,.0f}"])
    return _joined(markdown(["process", "median ms", "quartiles"], rows), about(facts))


# --- wording


def _sizes(setup: Mapping[str, Any]) -> str:
    return (
        f"{setup['n_layers']} layers, {setup['emb_dim']} channels, vocabulary {setup['vocab_size']:,}, "
        f"batch {setup['batch_size']} x {setup['length']}"
    )


def about(facts: Mapping[str, Any]) -> str:
    """The machine and the versions of a measurement."""
    about = facts["environment"]
    versions = {"numpy": about["numpy"], **facts.get("versions", {})}
    names = {"numpy": "NumPy", "torch": "PyTorch", "transformers": "Transformers"}
    software = ", ".join(f"{names[package]} {version}" for package, version in versions.items())
    blas = ", ".join(name.split(",")[0] for name in about["blas"])
    avx2 = ", AVX2" * facts.get("avx2", False)
    return f"{about['processor']}, {facts['threads']} threads{avx2}; {software} ({blas}).{quick(facts)}"


def quick(facts: Mapping[str, Any]) -> str:
    return " **From a run with --quick, on very small models: not a measurement.**" if facts["quick"] else ""


def _same_twice(facts: Mapping[str, Any]) -> str:
    samples = facts["same_twice"]
    ratio = paired_ratio(*([s["total"] for s in samples[who]] for who in ("ours", "ours again")))
    verdict = ": **too noisy**" if ratio.too_noisy else ""
    return f"nanograd_gpt against itself: {ratio}{verdict}."


def estimates() -> str:
    """Expected and measured memory and time of `train`."""
    rows = []
    for name, run in result("estimates.json")["runs"].items():
        memory, seconds = run["expected_bytes"] / run["peak_bytes"], run["expected_seconds"] / run["seconds"]
        sizes = [f"{run[key] / 2**20:,.0f}" for key in ("expected_bytes", "peak_bytes")]
        times = [f"{run[key]:.1f}" for key in ("expected_seconds", "seconds")]
        rows.append([name, *sizes, f"{memory:.2f}", *times, f"{seconds:.2f}"])
    head = ["", "MiB expected", "MiB measured", "ratio", "s expected", "s measured", "ratio"]
    return _joined(markdown(head, rows), _caveats(["estimates.json"]))


def saving() -> str:
    """The part of a run's time that checkpoints take."""
    rows = []
    for name, run in result("saving.json")["runs"].items():
        share = (run["in_loop"] + run["beside"]) / run["seconds"]
        times = [f"{run[key]:.1f}" for key in ("seconds", "in_loop", "beside")]
        rows.append([name, str(run["saves"]), *times, f"{share:.1%}"])
    head = ["", "checkpoints", "s of training", "s in the loop", "CPU s beside it", "part"]
    return _joined(markdown(head, rows), _caveats(["saving.json"]))


def tales() -> str:
    """Quality of the tales that trained models write."""
    rows = []
    for name, run in result("tales.json")["runs"].items():
        losses = [f"{run[key]:.3f}" for key in ("train_loss", "val_loss")]
        shares = [f"{share:.1%}" for share in shares_of(run).values()]
        rows.append([name, f"{run['updates']:,}", f"{run['seconds']:.0f}", *losses, *shares])
    head = ["", "updates", "s", "train loss", "val loss", "grammatical", "consistent", "copied"]
    return _joined(markdown(head, rows), _caveats(["tales.json"]))


def tales_in_a_sentence() -> str:
    """The scores of the default run with each seed, and of ten minutes."""
    *default, long = [shares_of(run) for run in result("tales.json")["runs"].values()]
    grammatical, consistent, copied = zip(*(shares.values() for shares in default), strict=True)
    seeds = ", ".join(f"{share:.0%}" for share in consistent)
    return (
        f"Of 200 tales after the default run, with each of three seeds: at least {min(grammatical):.1%} of sentences "
        f"are grammatical, {seeds} agree with what stood before, at most {max(copied):.0%} of tales are copies. After "
        f"ten minutes of training, {long['consistent']:.0%} agree, and {long['copied']:.0%} are copies."
    )


def _agreement(facts: Mapping[str, Any]) -> str:
    """The largest difference of another's loss from ours: far below the tolerance."""
    ours, *others = facts["losses"].values()
    furthest = max((abs(a - b) for other in others for a, b in zip(ours, other, strict=True)), default=0.0)
    return f"The losses before and after one update, {ours[0]:.6f} and {ours[1]:.6f}, agree to {furthest:.1e}."


def _caveats(files: Sequence[str]) -> str:
    """Warnings on files from quick runs, and from machines that were too noisy."""
    all_facts = {name: result(name) for name in files}
    quick = [name for name, facts in all_facts.items() if facts["quick"]]
    noisy = [name for name, facts in all_facts.items() if facts.get("too_noisy")]
    lines = [f"**From runs with --quick, on very small models: {', '.join(quick)}.**"] if quick else []
    lines += [f"**Too noisy, as nanograd_gpt against itself shows: {', '.join(noisy)}.**"] if noisy else []
    return "\n".join(lines)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


IN_README: dict[str, Callable[[], str]] = {
    "headline": headline,
    "blas kernels": blas_kernels,
    "tales": tales_in_a_sentence,
}
IN_BENCHMARKS: dict[str, Callable[[], str]] = {
    "targets": targets,
    "train step": train_step,
    "profile 124M": lambda: profile("124m"),
    "generation": generation,
    "generation batches": generation_batches,
    "memory": memory,
    "scaling": scaling,
    "layers": layers,
    "train step avx2": lambda: train_step(AVX2),
    "generation avx2": lambda: generation(AVX2),
    "generation batches avx2": lambda: generation_batches(AVX2),
    "scaling avx2": lambda: scaling(AVX2),
    "layers avx2": lambda: layers(AVX2),
    "pythons": lambda: variants("pythons.json"),
    "blas kernels": lambda: variants("blas_kernels.json"),
    "profile small": lambda: profile("small"),
    "start-up": start_up,
    "estimates": estimates,
    "saving": saving,
    "tales": tales,
}
