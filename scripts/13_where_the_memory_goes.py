# %% [markdown]
"""Where does the memory of training go?  Most of it holds what forward saves, until backward has read it.

You will see the bytes in use rise through the forward pass of a GPT and fall through the backward pass, block by block;
what a block saves, counted by hand; and the peak of several models beside its prediction.  Takes about 4 s;
--fast: 3 s.
"""

# %%
import tracemalloc

from _deep_dive import DeepDive

# isort: split
import numpy as np

from nanograd_gpt import AdamW, GPTConfig, GPTModel
from nanograd_gpt.autograd import Function
from nanograd_gpt.bench.estimate import memory_bytes
from nanograd_gpt.bench.step import random_batch
from nanograd_gpt.gpt.config import PRESETS
from nanograd_gpt.nn import functional as F
from nanograd_gpt.rng import Generator
from nanograd_gpt.tensor import apply
from nanograd_gpt.viz.palette import BLUE, GREEN, INK, ORANGE
from nanograd_gpt.viz.plots import new_figure, style

dive = DeepDive(__doc__)
MIB = 2**20

# %% [markdown]
# **A probe.** NumPy tells Python's tracemalloc of every array that it makes and frees.  An operation that does nothing
# reads it where it stands: once on the way forward, and once on the way back.

# %%
places, live, peaks = [], [], []


def note(place):
    """Note the bytes in use now, and the most since the last note."""
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    places.append(place)
    live.append(now)
    peaks.append(peak)


class Probe(Function):
    """The identity, which notes the memory in forward and in backward."""

    def forward(self, x, *, place):
        self.saved = place
        note(f"forward, {place}")
        return x[...]

    def backward(self, dy):
        note(f"backward, {self.saved}")
        return (dy,)


def one_update(config, batch_size):
    """The first update of a model: forward, backward and AdamW, with a probe after each block."""
    for notes in (places, live, peaks):
        notes.clear()
    ids, targets = random_batch(config, batch_size, config.context_length)
    tracemalloc.start()
    model = GPTModel(config, rng=Generator(123))
    optimizer = AdamW(model.parameters())
    note("model and AdamW")
    x = model.drop_emb(model.tok_emb(ids) + model.pos_emb(np.arange(config.context_length)))
    x = apply(Probe, x, place="embedding")
    for i, block in enumerate(model.trf_blocks):
        x = apply(Probe, block(x), place=f"block {i}")
    x = model.final_norm(x).reshape(-1, config.emb_dim)
    loss = F.linear_cross_entropy(x, model.out_head.weight, targets.reshape(-1))
    del x
    note("forward, loss")
    loss.backward()
    note("backward, all")
    optimizer.step()
    note("AdamW's update")
    tracemalloc.stop()
    return model.n_parameters


# %% [markdown]
# **One update**, of the model that `nanograd-gpt train` trains by default.

# %%
config, BATCH = PRESETS["tiny"], 8
n_parameters = one_update(config, BATCH)
now, most, names = np.array(live) / MIB, np.array(peaks) / MIB, list(places)
print("MiB:                    in use   most before")
for place, a, b in zip(names, now, most, strict=True):
    print(f"  {place:20} {a:8.2f}   {b:8.2f}  {'#' * round(a)}")
state = 4 * 4 * n_parameters
print(f"\n{n_parameters:,} weights, their gradients and AdamW's two means, 4 bytes each: {state / MIB:.2f} MiB")
dive.claim("that is what is in use before and after the passes", max(abs(now[[0, -1]] * MIB / state - 1)) < 0.05)
top, bottom = names.index("forward, loss"), names.index("backward, embedding")
passes = (np.diff(now[: top + 1]) > 0).all() and (np.diff(now[top : bottom + 1]) < 0).all()
dive.claim("it only grows in forward, and only shrinks in backward through the blocks", passes)
largest = names[int(most.argmax())]
dive.claim(
    f"the peak is at the loss, where all is saved: before '{largest}'", "loss" in largest or "block 3" in largest
)

# %% [markdown]
# **What a block saves**, in numbers per token.  All but the masks are of 4 bytes; a mask takes 1 byte.

# %%
T, C, H = config.context_length, config.emb_dim, config.n_heads
floats = {
    "norm1: its input": C,
    "queries, keys, values: the projections' input": C,
    "attention: queries, keys, values": 3 * C,
    "attention: log-sum-exp of each head's scores": H,
    "out_proj: its input": C,
    "norm2: its input": C,
    "feed-forward, widening: its input": C,
    "GELU: its derivative": 4 * C,
    "feed-forward, narrowing: its input": 4 * C,
    "both norms: mean and deviation": 4,
}
masks = {"attention: dropout's mask": H * T, "both shortcuts: dropout's masks": 2 * C}
print()
for what, numbers in {**floats, **masks}.items():
    print(f"  {what:46} {numbers:5}")
by_hand = BATCH * T * (4 * sum(floats.values()) + sum(masks.values())) / MIB
grown = np.diff(now[names.index("forward, embedding") : names.index("forward, block 3") + 1])
print(f"by hand {by_hand:.3f} MiB a block; measured {', '.join(f'{g:.3f}' for g in grown)}")
dive.claim("each block saves that, within 2%", np.abs(grown / by_hand - 1).max() < 0.02)

# %% [markdown]
# **Predicted.** Summed up, that is what `nanograd-gpt train` expects before it starts: the state, all that is saved,
# and the largest temporary arrays.

# %%
MODELS = {
    "default": (config, BATCH),
    "without dropout,\nbatch of 16": (GPTConfig(769, 64, 160, 5, 4, 0.0), 16),
    "longer context": (GPTConfig(769, 256, 64, 4, 2, 0.1), 4),
    "large vocabulary": (GPTConfig(5000, 64, 128, 4, 2, 0.1), 8),
}
measured, predicted = [], []
print("\npeak in MiB:                    measured  predicted")
for name, (sizes, batch_size) in MODELS.items():
    one_update(sizes, batch_size)
    measured.append(max(peaks) / MIB)
    predicted.append(memory_bytes(sizes, batch_size) / MIB)
    print(f"  {name.replace(chr(10), ' '):30} {measured[-1]:7.1f}   {predicted[-1]:7.1f}")
worst = max(abs(p / m - 1) for p, m in zip(predicted, measured, strict=True))
dive.claim(f"each is predicted within 5%: at worst {worst:.1%}", worst < 0.05)

# %%
with style():
    figure = new_figure(6.4)
    upper, lower = figure.subplots(2, height_ratios=(3, 2))
    at = np.arange(len(names))
    upper.step(at, most, where="mid", color=ORANGE, linestyle=":", label="most since the point before")
    upper.plot(at, now, "o-", color=BLUE, label="in use")
    upper.axhline(predicted[0], color=INK, linestyle="--", linewidth=1.2, label="peak, predicted")
    upper.axhline(state / MIB, color=GREEN, linestyle="-.", linewidth=1.2, label="weights, gradients, AdamW's means")
    upper.set_xticks(at, names, rotation=90)
    upper.set(ylabel="Memory (MiB)", ylim=(0, None))
    rows = np.arange(len(MODELS))
    lower.barh(rows - 0.2, measured, 0.4, color=BLUE, label="peak, measured")
    lower.barh(rows + 0.2, predicted, 0.4, color=ORANGE, label="peak, predicted from the sizes")
    lower.set_yticks(rows, list(MODELS))
    lower.invert_yaxis()
    lower.grid(False, axis="y")
    lower.set(xlabel="Memory (MiB)")
dive.save(figure, "13_where_the_memory_goes", "Forward fills the memory block by block,\nand backward frees it")

# %% [markdown]
# **Try this:**
#
# - Set BATCH = 32: what blocks save is four times as much, and the state is as large as before.
# - Replace AdamW(model.parameters()) by AdamW([model.out_head.weight]): before the passes, memory is a third
#   of what it was, and backward makes room for the other gradients as it goes.

# %%
dive.end(f"peak {measured[0]:.1f} MiB, predicted {predicted[0]:.1f}")
