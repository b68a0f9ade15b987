"""An attention kernel in four steps, on a simulated GPU: the same numbers from fewer and fewer bytes of memory."""

import sys
from itertools import pairwise

from _deep_dive import DeepDive, run

# isort: split
import numpy as np
from _attention_steps import (
    OPTIONS,
    QUERIES,
    SOURCE,
    STEPS,
    WARP,
    Counts,
    arrays_for,
    bytes_of,
    count,
    formula,
    launch,
    missing_compiler,
    pairs,
    random_inputs,
    relative_error,
    simulated_module,
)

from nanograd_gpt.backend.cuda_probe import cuda_problem
from nanograd_gpt.errors import RunError
from nanograd_gpt.viz.palette import BLUE, GREEN, INK, ORANGE, PURPLE
from nanograd_gpt.viz.plots import new_figure, style

LENGTHS, FAST_LENGTHS, RAGGED = (64, 128, 256, 512), (64, 128), 77
LIMITS = {"float32": 1e-6, "bfloat16": 3e-3}  # relative errors, by norms
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
GPU_HEADS, GPU_LENGTH, GPU_ROUNDS = 96, 1024, 20

# An H100 SXM by its data sheet: bytes a second of its memory, and FLOPs a second of products in each type.
H100_BYTES, H100_FLOPS = 3.35e12, {"float32": 67e12, "bfloat16": 989e12}


def main(argv: list[str] | None = None) -> int:
    dive = DeepDive(__doc__, argv)
    if missing := missing_compiler():
        raise RunError(f"{missing}; kernels run here as C++, on a simulated GPU")
    lengths = FAST_LENGTHS if dive.fast else LENGTHS
    T = lengths[-1]
    print("Attention is two products and a softmax.  Why is a fast kernel for it so much longer than its formula?")

    # The kernels are in an_attention_kernel.cu, to be read beside this.  A C++ compiler and the simulator in
    # tests/cusim run them on any machine: slowly, but with every access to memory checked, and counted.
    module = simulated_module()

    # All four steps are the same function.  Step 4 rounds the weights to bfloat16, which has 8 bits of precision.
    print(f"\nrelative errors against the formula in float64, T = {T} and {RAGGED}:")
    for step in STEPS:
        errors = []
        for length in (T, RAGGED):
            inputs = random_inputs(1, length)
            errors.append(relative_error(launch(step, module, arrays_for(step, inputs)), formula(inputs)))
        limit = LIMITS[step.dtype]
        dive.claim(f"{step.name:17}  {max(errors):.1e}, below {limit:.0e}, {step.dtype}", max(errors) < limit)

    # Where they differ is in how often they ask memory for the same number.  The limit of an H100 is the roofline: its
    # memory's speed times the FLOPs for each byte, until the arithmetic is the slower one.
    counts = {step.name: {length: count(step, module, length) for length in lengths} for step in STEPS}
    moved = {name: {length: total_bytes(c) for length, c in of.items()} for name, of in counts.items()}
    flops = {name: {length: sum(c.flops for c in of[length]) for length in of} for name, of in counts.items()}
    print(f"\nglobal memory, counted at every access; T = {T}, {pairs(T):,} pairs of a query and a key:")
    print(f"  {'':17}  {'bytes':>11}  {'a pair':>7}  {'FLOPs':>10}  {'a byte':>6}  an H100, at most")
    for step in STEPS:
        n, products = moved[step.name][T], flops[step.name][T]
        at_most = min(H100_FLOPS[step.dtype], products / n * H100_BYTES) / 1e12
        per_pair, per_byte = f"{n / pairs(T):.1f}", f"{products / n:.2f}"
        print(f"  {step.name:17}  {n:11,}  {per_pair:>7}  {products:10,}  {per_byte:>6}  {at_most:6.1f} TFLOP/s")
    for step in STEPS:
        as_expected = all(
            (moved[step.name][length], flops[step.name][length]) == (step.bytes(length), step.flops(length))
            for length in lengths
        )
        dive.claim(f"{step.name}: bytes and FLOPs are those of its formulas, for every T", as_expected)
    fewer = [moved[a.name][T] / moved[b.name][T] for a, b in pairwise(STEPS)]
    dive.claim(f"each step moves fewer bytes: {', '.join(f'{f:.1f}' for f in fewer)} times fewer", min(fewer) > 2)

    # After step 2, most of the bytes left are the scores': written, read three times for the softmax, written and read
    # again.  Step 3 uses a score where it is computed, so that no array grows with T squared.
    naive, tiled, online, tensor_cores = STEPS
    scores = [bytes_of("s", step, counts[step.name][T]) for step in STEPS]
    share = scores[1] / moved[tiled.name][T]
    print(f"\nthe {T} x {T} array of scores:")
    dive.claim(f"it is {share:.0%} of the bytes of step 2, and not in 3 and 4", share > 0.4 and scores[2:] == [0, 0])

    # Step 4 multiplies no less, but a warp's instruction does 2,048 multiplications where fmaf does 32.
    before = sum(c.fused for c in counts[online.name][T]) // WARP
    fused, tensor = (sum(getattr(c, kind) for c in counts[tensor_cores.name][T]) for kind in ("fused", "tensor"))
    print(f"\ninstructions that multiply, for all warps: {before:,} in step 3, {tensor:,} in step 4")
    dive.claim("in step 4 tensor cores do all products", fused == 0 < tensor < before / 32)

    on_a_gpu(dive)
    draw(dive, moved, flops, T)
    print(
        f"\ntry this: a block of step 4 shares the keys that it fetches among {QUERIES} queries.  How many bytes a pair"
    )
    print("will be left if it has 128?  Change QUERIES in the .cu and in _attention_steps.py, and see what is counted.")
    dive.end(f"from {moved[naive.name][T]:,} bytes to {moved[tensor_cores.name][T]:,}, and the same numbers")
    return 0


def total_bytes(counts: list[Counts]) -> int:
    return sum(of_launch.bytes for of_launch in counts)


def on_a_gpu(dive: DeepDive) -> None:
    """Run and time the same kernels on this machine's GPU, if it has one."""
    if problem := cuda_problem():
        print(f"\nno times, for no GPU can be used: {problem}")
        return
    import cupy  # once it is known to work

    module = cupy.RawModule(
        code=SOURCE.read_text(encoding="utf-8"),
        options=OPTIONS,
        name_expressions=sorted({one.kernel for step in STEPS for one in step.launches(1, 1)}),
    )
    inputs = random_inputs(GPU_HEADS, GPU_LENGTH)
    exact = formula({name: array[:2] for name, array in inputs.items()})
    print(f"\non this GPU, {GPU_HEADS} heads, T = {GPU_LENGTH}, median of {GPU_ROUNDS}:")
    for step in STEPS:
        arrays, times = arrays_for(step, inputs, cupy.asarray), []
        error = relative_error(launch(step, module, arrays)[:2].get(), exact)  # also compiles
        for _ in range(GPU_ROUNDS):
            start, end = cupy.cuda.Event(), cupy.cuda.Event()
            start.record()
            launch(step, module, arrays)
            end.record()
            end.synchronize()
            times.append(cupy.cuda.get_elapsed_time(start, end))
        ms = float(np.median(times))
        rate = 4 * GPU_HEADS * pairs(GPU_LENGTH) * inputs["q"].shape[-1] / ms / 1e9
        print(f"  {step.name:17}  {ms:8.3f} ms, {rate:6.1f} TFLOP/s without the masked pairs")
        dive.claim(f"{step.name}: {error:.1e} from the formula", error < LIMITS[step.dtype])


def draw(dive: DeepDive, moved: dict[str, dict[int, int]], flops: dict[str, dict[int, int]], T: int) -> None:
    """Draw bytes by length, counted and by the formula; and each step under the roofline of an H100."""
    with style():
        figure = new_figure(6.4)
        upper, lower = figure.subplots(2)
        for step, colour in zip(STEPS, COLOURS, strict=True):
            lengths = list(moved[step.name])
            upper.plot(lengths, [step.bytes(n) / 1e6 for n in lengths], "-", color=colour)
            upper.plot(lengths, [n / 1e6 for n in moved[step.name].values()], "o", color=colour, label=step.name)
            intensity = flops[step.name][T] / moved[step.name][T]
            at_most = min(H100_FLOPS[step.dtype], intensity * H100_BYTES) / 1e12
            lower.plot([intensity], [at_most], "o", color=colour)
        x = np.geomspace(0.1, 1000, 200)
        for dtype, line in (("float32", "--"), ("bfloat16", ":")):
            roof = np.minimum(H100_FLOPS[dtype], x * H100_BYTES) / 1e12
            lower.plot(x, roof, line, color=INK, linewidth=1.2, label=f"an H100's memory, then its products in {dtype}")
        upper.set(xlabel="Tokens T (points: counted, lines: formulas)", ylabel="Bytes of memory\nin a head (MB)")
        lower.set(xlabel=f"FLOPs for each byte, T = {T}", ylabel="TFLOP/s, at most", ylim=(0.2, 2000))
        for axes in (upper, lower):
            axes.set(xscale="log", yscale="log")
            for axis in (axes.xaxis, axes.yaxis):  # not as powers: their exponents are too small to read
                axis.set_major_formatter(lambda value, _: f"{value:g}")
        upper.set_xticks(lengths)
        upper.minorticks_off()
    title = "Each step of the kernel asks for fewer bytes,\nso the same memory can feed more arithmetic"
    dive.save(figure, "an_attention_kernel", title)


if __name__ == "__main__":
    sys.exit(run(main))
