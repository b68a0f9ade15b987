# %% [markdown]
"""How does AdamW choose its steps?  Running means of the gradient and of its square, and a decay apart from both.

You will see AdamW in ten lines of NumPy give the same weights as the package's, bit for bit; the use of its bias
correction; Adam with an L2 penalty fail to shrink what decoupled decay shrinks; and a learning rate that warms up and
decays.  Takes about 2 s; --fast: 2 s.
"""

# %%
from _deep_dive import DeepDive

# isort: split
import numpy as np

from nanograd_gpt import AdamW, GPTConfig, GPTModel
from nanograd_gpt.bench.step import random_batch
from nanograd_gpt.rng import Generator
from nanograd_gpt.training.schedule import WarmupCosine
from nanograd_gpt.viz.palette import BLUE, GREEN, INK, ORANGE, PURPLE
from nanograd_gpt.viz.plots import new_figure, style

dive = DeepDive(__doc__)
LR, BETA1, BETA2, EPS, DECAY = 1e-3, 0.9, 0.999, 1e-8, 0.1

# %% [markdown]
# **The rule.** m is the running mean of the gradient g, v that of its square.  Both start from 0, which makes them too
# small at first, by the factors 1 - beta1^t and 1 - beta2^t after t steps: these are divided out.  Then each weight
# moves by about the learning rate, whatever the size of its gradient, and shrinks by a fraction of itself.


# %%
def adamw(p, g, m, v, t, lr=LR, decay=DECAY, l2=0.0, correct=True):
    """One update of a weight p, in float64 or in float32: new p, m and v."""
    number = p.dtype.type  # rounds each factor once, as float32 arithmetic does
    p = p * number(1 - lr * decay)  # decoupled: not a part of the gradient
    g = g + number(l2) * p  # an L2 penalty is a part of it
    m = m + number(1 - BETA1) * (g - m)
    v = v * number(BETA2) + number(1 - BETA2) * (g * g)
    # v's factor multiplies the rate and epsilon in place of dividing v: that is one pass over all weights less.
    root = (1 - BETA2**t) ** 0.5 if correct else 1.0
    size = np.sqrt(v) + number(EPS * root)
    return p - number(lr * root / (1 - BETA1**t) if correct else lr) * (m / size), m, v


# %% [markdown]
# **The same as the package's**, on all weights of a small GPT, for some updates with dropout and a real loss.

# %%
N_STEPS = 10 if dive.fast else 50
config = GPTConfig(vocab_size=64, context_length=16, emb_dim=32, n_heads=4, n_layers=2)
model = GPTModel(config, rng=Generator(123))
optimizer, parameters = AdamW(model.parameters(), LR, (BETA1, BETA2), EPS, DECAY), list(model.parameters())
ours = [(p.data.copy(), np.zeros_like(p.data), np.zeros_like(p.data)) for p in parameters]
worst, largest_moves = 0.0, []
for t in range(1, N_STEPS + 1):
    optimizer.zero_grad()
    model.loss(*random_batch(config, 4, 16, seed=t)).backward()
    before = [p.data * (1 - LR * DECAY) for p in parameters]
    ours = [adamw(p, q.grad, m, v, t) for (p, m, v), q in zip(ours, parameters, strict=True)]
    optimizer.step()
    worst = max(worst, *(np.abs(p - q.data).max() for (p, _, _), q in zip(ours, parameters, strict=True)))
    largest_moves.append(max(np.abs(q.data - b).max() / LR for q, b in zip(parameters, before, strict=True)))
print(f"{model.n_parameters:,} weights, {N_STEPS} updates: largest difference to the package's AdamW {worst:.1e}")
dive.claim("by hand and by the package, every weight has the same bits", worst == 0)
dive.claim(f"no weight moves by more than 1.1 learning rates: {max(largest_moves):.3f}", max(largest_moves) < 1.1)

# %% [markdown]
# **Bias correction.** At t = 1 the corrected m / sqrt(v) is g / |g|: every weight moves by the whole learning rate,
# against the sign of its gradient.  Without the correction it is (1 - beta1) / sqrt(1 - beta2) = 3.16 times that.

# %%
moves = {}
for correct in (True, False):
    p, m, v = np.zeros(1), np.zeros(1), np.zeros(1)
    path = [p]
    for t in range(1, 201):
        p, m, v = adamw(p, np.full(1, -0.01), m, v, t, decay=0, correct=correct)  # a constant gradient
        path.append(p)
    moves[correct] = np.diff(np.array(path)[:, 0]) / LR
print(f"\na constant gradient, without correction: first move {moves[False][0]:.2f}, largest {moves[False].max():.2f}")
dive.claim("corrected, each move is 1", np.abs(moves[True] - 1).max() < 1e-5)
first_move = (1 - BETA1) / np.sqrt(1 - BETA2)
dive.claim(f"uncorrected, the first is {first_move:.2f}", abs(moves[False][0] - first_move) < 1e-4)

# %% [markdown]
# **L2 penalty against decoupled decay.** Weights start at 1; their gradients are noise, of size 10 for some and of 0.1
# for others.  Decoupled decay shrinks both kinds alike, by (1 - lr decay) each update.  An L2 penalty adds decay * p to
# the gradient, and Adam divides it by the gradient's size: it hardly shrinks the first kind, and the second far more.

# %%
PULLS = 4000
rng, sizes_of_noise = np.random.default_rng(123), np.array([[10.0], [0.1]])
noise = sizes_of_noise * rng.standard_normal((PULLS, 2, 200))  # of 200 weights of each kind
shrunk = {}
for name, decay, l2 in (("decoupled decay", DECAY, 0.0), ("L2 penalty", 0.0, DECAY)):
    p, m, v = np.ones((2, 200)), np.zeros((2, 200)), np.zeros((2, 200))
    path = [p.mean(axis=1)]
    for t, g in enumerate(noise, start=1):
        p, m, v = adamw(p, g, m, v, t, decay=decay, l2=l2)
        path.append(p.mean(axis=1))
    shrunk[name] = np.array(path)
expected = (1 - LR * DECAY) ** PULLS
print(
    f"\nmean weight after {PULLS} updates, by the size of the gradients (decoupled decay should give {expected:.3f}):"
)
print(f"  {'':16}    10     0.1")
for name, path in shrunk.items():
    print(f"  {name:16} {path[-1][0]:.3f}   {path[-1][1]:.3f}")
dive.claim("decoupled decay shrinks both alike", np.abs(shrunk["decoupled decay"][-1] - expected).max() < 0.03)
dive.claim("an L2 penalty hardly shrinks weights of large gradients", shrunk["L2 penalty"][-1][0] > 0.5 + expected / 2)
dive.claim("and those of small gradients far more", shrunk["L2 penalty"][-1][1] < expected / 2)

# %% [markdown]
# **Warm-up and cosine.** v is a mean of few squares at first, so the first moves are the least certain: the rate starts
# small.  It ends small too, so that the noise of the last batches is averaged out.

# %%
UPDATES, WARM_UP, LOWEST = 360, 36, LR / 10
schedule = WarmupCosine(peak=LR, total_steps=UPDATES, warmup_steps=WARM_UP, minimum=LOWEST)
rates = np.array([schedule(k) for k in range(UPDATES + 1)])
k = np.arange(UPDATES + 1)
half_wave = LOWEST + (LR - LOWEST) * (1 + np.cos(np.pi * (k - WARM_UP) / (UPDATES - WARM_UP))) / 2
by_hand = np.where(k < WARM_UP, LR * (k + 1) / WARM_UP, half_wave)
print(
    f"\nlearning rate: {rates[0]:.1e} at first, {rates[WARM_UP]:.1e} after {WARM_UP} updates, at last {rates[-1]:.1e}"
)
dive.claim("warm-up and cosine are the package's WarmupCosine", np.abs(rates / by_hand - 1).max() < 1e-12)

# %%
with style():
    figure = new_figure(6.6)
    first, second, third = figure.subplots(3)
    for correct, colour, line in ((True, BLUE, "-"), (False, ORANGE, "--")):
        label = f"{'with' if correct else 'without'} bias correction"
        first.plot(np.arange(1, 201), moves[correct], line, color=colour, label=label)
    first.set(xlabel="Update", ylabel="Move\n(learning rates)", ylim=(0, None))
    looks = [(BLUE, "-"), (GREEN, "--"), (ORANGE, "-"), (PURPLE, "--")]
    curves = [
        (f"{name}, gradients of {size}", path[:, i]) for name, path in shrunk.items() for i, size in ((0, 10), (1, 0.1))
    ]
    for (colour, line), (label, path) in zip(looks, curves, strict=True):
        second.plot(path, line, color=colour, label=label)
    second.set(xlabel="Update", ylabel="Mean weight", ylim=(-0.05, 1.05))
    third.plot(k, 1e3 * rates, color=INK, label="warm-up, then cosine")
    third.set(xlabel="Update", ylabel="Learning rate\n(thousandths)", ylim=(0, None))
    figure.align_ylabels()
dive.save(
    figure,
    "08_adamw_by_hand",
    "AdamW's moves have the learning rate's size;\nits decay ignores the gradient's",
)

# %% [markdown]
# **Try this:**
#
# - Set BETA2 = 0.95, as for GPT-3: without correction the first move is 0.45, smaller and not larger than the rate.
# - Give `sizes_of_noise` the same number twice, 1.0: the L2 penalty then shrinks both kinds of weight alike.

# %%
dive.end(f"{N_STEPS} updates of {model.n_parameters:,} weights, bit for bit")
