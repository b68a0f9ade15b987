# %% [markdown]
"""Where does the time of a training step go?  Into a few kernels, each limited by the processor or by memory.

You will see every kernel of a step with its time, and the least time that this machine could do it in, measured too;
and the share that is left for Python.  Takes about 10 s; --fast: 6 s.
"""

# %%
from argparse import ArgumentParser

from _deep_dive import DeepDive

# isort: split
from nanograd_gpt import GPTModel
from nanograd_gpt.bench.machine import Machine, measured_machine
from nanograd_gpt.bench.profile import profiled_step
from nanograd_gpt.bench.step import TrainStep, random_batch
from nanograd_gpt.bench.table import COLUMNS, OVERHEAD, profile_cells, profile_metadata
from nanograd_gpt.rng import Generator
from nanograd_gpt.tables import aligned
from nanograd_gpt.training.config import preset
from nanograd_gpt.viz.palette import BLUE, GREEN, ORANGE
from nanograd_gpt.viz.plots import new_figure, style

LARGE, SMALL_LIMIT, LARGE_LIMIT = 100_000_000, 0.10, 0.01  # parameters; shares of a step
WARM_UP, ROUNDS, FAST_ROUNDS = 2, 7, 3


def add_preset(parser: ArgumentParser) -> None:
    parser.add_argument("--preset", metavar="NAME", default="tiny", help="as in nanograd-gpt train [%(default)s]")


dive = DeepDive(__doc__, add_arguments=add_preset)

# %%
config = preset(dive.options.preset)
model, batch_size, length = config.model, config.data.batch_size, config.model.context_length
print(f"{model.n_parameters:,} parameters, batch {batch_size} x {length}")

# %% [markdown]
# `profiled_step` times every kernel, every operation and the random numbers.

# %%
step = TrainStep(GPTModel(model, rng=Generator(123)), random_batch(model, batch_size, length))
for _ in range(WARM_UP):  # the first steps allocate memory
    step.run()
profile = profiled_step(step, FAST_ROUNDS if dive.fast else ROUNDS)

# %% [markdown]
# How fast could it be?  The limits are the fastest matrix product seen here, and the memory bandwidth, measured by
# copying arrays larger than the caches.  A kernel on cached arrays can be faster; the table then says "cached".

# %%
facts = profile_metadata(profile, measured_machine("cpu"))
machine = Machine(**facts["machine"])
print(*aligned([COLUMNS, *profile_cells(facts)]), sep="\n")
print(
    f"at best: {machine.flops_per_second / 1e9:.0f} GFLOP/s in matrix products, "
    f"{machine.bytes_per_second / 1e9:.1f} GB/s of memory"
)

# %% [markdown]
# Is the profile complete?  A product y = x W has two in its backward, one per factor: exactly twice the work.

# %%
entries = profile.entries.values()
backward = sum(e.flops for e in entries if e.name.endswith("_backward"))
forward = sum(e.flops for e in entries) - backward
print(f"\nmatrix products: {forward / 1e9:.3f} GFLOP forward, {backward / 1e9:.3f} backward")
dive.claim("backward multiplies twice as much as forward", backward == 2 * forward > 0)

# %% [markdown]
# The time not spent in kernels, arithmetic or random numbers is Python: the overhead of the engine.

# %%
limit = LARGE_LIMIT if model.n_parameters >= LARGE else SMALL_LIMIT
share = profile.overhead_share
print(f"{OVERHEAD}: {1e3 * profile.overhead:.2f} ms of {1e3 * profile.seconds:.2f}")
dive.claim(f"it takes less than {limit:.0%} of a step", 0 <= share < limit)

# %%
with style():
    longest = profile.longest_first()[:12]
    n, seconds = len(longest), [1e3 * e.seconds for e in longest]
    floors = [  # cached: the memory is not a limit
        1e3 * min(e.seconds, machine.lower_bound(e.flops, e.bytes)) for e in longest
    ]
    figure = new_figure(4.4)
    axes = figure.subplots()
    above, below = ([i + shift for i in range(n)] for shift in (-0.2, 0.2))
    axes.barh(above, seconds, 0.4, color=BLUE, label="measured")
    axes.barh(below, floors, 0.4, color=GREEN, label="at best: this machine's processor or memory")
    axes.barh(n, 1e3 * profile.overhead, 0.4, color=ORANGE, label="measured, not in any kernel")
    axes.set_yticks(range(n + 1), [*(e.name for e in longest), OVERHEAD])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set(xlabel="ms in a train step,\nlower is faster")
title = f"{longest[0].name} takes {longest[0].seconds / profile.seconds:.0%} of a step,\n{OVERHEAD} {share:.1%}"
dive.save(figure, "12_where_the_time_goes", title)

# %% [markdown]
# **Try this:**
#
# - After `config = ...`, set batch_size = 1: the kernels have less to do and Python as much as before, so that its
#   share of a step is several times as large, and above the limit.
# - Set model = dataclasses.replace(model, drop_rate=0.0): random numbers and dropout's kernels leave the table.

# %%
dive.end(f"{share:.1%} of a step is the engine's overhead")
