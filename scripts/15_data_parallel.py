# %% [markdown]
"""How do two processes train one model?  Each takes half of every batch, and their gradients are summed meanwhile.

You will see the losses of two ranks beside those of one process; four plausible mistakes, of which the ranks' own
comparison finds two; and one update by the clock: what is sent when, while the backward pass still goes on.  It starts
its ranks itself, for which it needs mpi4py and mpiexec.  Takes about 10 s; --fast: 6 s.
"""

# %%
from _deep_dive import DeepDive

# isort: split
import numpy as np
from _two_ranks import CLIPPED_FIRST, ONE_EVALUATES, RIGHT, SAME_MASK, UNSUMMED, in_two_ranks, trained

from nanograd_gpt import set_threads
from nanograd_gpt.viz.palette import BLUE, GREEN, INK, ORANGE, PURPLE
from nanograd_gpt.viz.plots import new_figure, style

dive = DeepDive(__doc__)
set_threads(1)  # as each rank has
N_UPDATES, N_LAYERS = (40, 5) if dive.fast else (100, 8)

# %% [markdown]
# **Same seed, same losses.**  All ranks draw the same random numbers and hold the same parameters.  Of each batch, and
# of each dropout mask, a rank takes its rows.  A mean over the batch is the sum of what the ranks compute, each divided
# by their number: of the loss, and so of the gradient.  `_two_ranks.py` has what each rank does.

# %%
DESIGNS = {
    RIGHT: RIGHT,
    "nothing summed": UNSUMMED,
    "rank 0 evaluates": ONE_EVALUATES,
    "one mask for all": SAME_MASK,
    "clipped, then summed": CLIPPED_FIRST,
}
found = in_two_ranks(list(DESIGNS.values()), N_UPDATES, N_LAYERS)
alone = trained(RIGHT, N_UPDATES)
two = {name: found["trainings"][design] for name, design in DESIGNS.items()}
print(f"one process: loss {alone['losses'][0]:.3f}, after {N_UPDATES} updates {alone['losses'][-1]:.3f}, in float64")
apart = {name: np.abs(np.subtract(of["losses"], alone["losses"])) for name, of in two.items()}
evaluated = {name: np.abs(np.subtract(of["evaluations"], alone["evaluations"])).max() for name, of in two.items()}
error = max(apart[RIGHT].max(), evaluated[RIGHT])
dive.claim(f"two ranks have the losses of one process, to {error:.0e}", error < 1e-13)

# %% [markdown]
# **Four mistakes**, each of which trains, and whose loss falls.  `nothing summed`: each rank goes on with its own
# gradient.  `rank 0 evaluates`: an evaluation draws an order of the batches, so that the ranks' streams of random
# numbers part, and the next epoch's batches with them.  `one mask for all`: each rank drops the same places of its own
# rows.  `clipped, then summed`: each rank limits the norm of its part, and not of the sum.  Every 100 updates the
# package compares position, parameters and streams of all ranks.  What does it find?

# %%
print(f"\n{'two ranks':20}  losses differ by  validation losses  the comparison of all ranks")
for name, of in two.items():
    finds = of["says"].partition(", ")[2].partition(" on rank")[0]
    print(f"{name:20}  {apart[name].max():16.1e}  {evaluated[name]:17.1e}  {finds or 'finds nothing'}")
print()
for name in [name for name in two if name != RIGHT]:
    dive.claim(f"{name}: the losses are off by {apart[name].max():.1e}, over 1e-4", apart[name].max() > 1e-4)
says = {name: of["says"] for name, of in two.items()}
dive.claim("comparing parameters finds that nothing was summed", "a parameter on rank 1" in says["nothing summed"])
dive.claim("comparing streams finds that rank 0 evaluates", "random stream on rank 1" in says["rank 0 evaluates"])
unseen = not any(says[name] for name in (RIGHT, "one mask for all", "clipped, then summed"))
dive.claim("the other two mistakes are the same on both ranks: only the losses of one process show them", unseen)

# %% [markdown]
# **One update by the clock.**  The backward pass goes from the last layer to the first.  As soon as 4 MB of the
# gradient are final, their sum begins, and goes on beside the backward pass.  After it the ranks wait for what is left.

# %%
update, parts = found["update"], ("forward", "backward", "wait for the sums", "update")
for rank, of in enumerate(update):
    seconds = np.diff(of["times"])
    print(f"\nrank {rank}: " + ", ".join(f"{part} {1e3 * s:.0f} ms" for part, s in zip(parts, seconds, strict=True)))
    for i, part in enumerate(of["sums"]):
        start, end = (1e3 * (part[at] - of["times"][0]) for at in ("start", "end"))
        print(f"  sum {i + 1}: {part['bytes'] / 1e6:4.1f} MB, from {start:.0f} to {end:.0f} ms")
print()
sent = [[part["bytes"] for part in of["sums"]] for of in update]
dive.claim(f"{len(sent[0])} sums have each of the gradient's bytes once", sum(sent[0]) == update[0]["bytes"])
dive.claim("both ranks begin them in the same order", sent[0] == sent[1])
early = [sum(part["start"] < of["times"][2] for part in of["sums"]) for of in update]
dive.claim(f"{min(early)} begin while the backward pass goes on", min(early) > 1)

# %%
with style():
    figure = new_figure(6.8)
    upper, middle, lower = figure.subplots(3, height_ratios=(2, 3, 2))
    upper.plot(alone["losses"], color=BLUE, label="one process")
    upper.plot(two[RIGHT]["losses"], "o", color=ORANGE, markersize=3, markevery=3, label="two ranks")
    upper.set(xlabel="Updates", ylabel="Loss\n(nats per token)")
    looks = (BLUE, "-"), (INK, ":"), (ORANGE, "-"), (GREEN, "-."), (PURPLE, "--")
    for (name, values), (colour, look) in zip(apart.items(), looks, strict=True):
        middle.plot(np.maximum(values, 1e-16), look, color=colour, label=name)
    middle.set(yscale="log", xlabel="Updates", ylabel="Off one process's loss by\n(nats per token)")
    middle.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")  # powers have small exponents
    begin = min(of["times"][0] for of in update)
    for rank, of in enumerate(update):
        starts, widths = 1e3 * (np.array(of["times"][:-1]) - begin), 1e3 * np.diff(of["times"])
        for part, colour, left, width in zip(parts, (BLUE, ORANGE, INK, GREEN), starts, widths, strict=True):
            lower.barh(3 * rank, width, left=left, color=colour, label=None if rank else part)
        for i, part in enumerate(of["sums"]):
            left, width = 1e3 * (part["start"] - begin), 1e3 * (part["end"] - part["start"])
            at, height = 3 * rank + 0.6 + 0.9 * i / len(of["sums"]), 0.8 / len(of["sums"])
            lower.barh(at, width, height, left=left, color=PURPLE, align="edge", label=None if rank or i else "sums")
    lower.set_yticks([0, 1, 3, 4], ["rank 0", "sums", "rank 1", "sums"])
    lower.invert_yaxis()
    lower.set(xlabel="Time of one update (ms)")
dive.save(
    figure, "15_data_parallel", "Two ranks have the losses of one process,\nand send gradients while they compute"
)

# %% [markdown]
# **Try this:**
#
# - In `_two_ranks.py`, set the dropout rate "drop_rate" to 0.0: one mask for all changes nothing any more.
# - Set MAX_NORM = 1e9 there: nothing is clipped, so that the order of clipping and summing does not matter.

# %%
dive.end(f"{N_UPDATES} updates on one process and on two ranks, and {update[0]['bytes'] / 1e6:.0f} MB summed in one")
