# %% [markdown]
"""Why does initialisation matter?  Each layer multiplies signals and gradients, and only some weights by about 1.

You will see activations vanish and explode through a plain stack of layers, as a formula foretells; the same GPT with
four initialisations, with its activations, gradients and update-to-weight ratios block by block; and how each then
learns.  Takes about 12 s; --fast: 5 s.
"""

# %%
from itertools import chain, islice, repeat

from _deep_dive import DeepDive

# isort: split
import numpy as np

from nanograd_gpt import AdamW, GPTConfig, GPTModel, Tensor, create_dataloader_v1, set_threads, train_tokenizer
from nanograd_gpt.nn import functional as F
from nanograd_gpt.rng import Generator
from nanograd_gpt.training.corpus import load_text
from nanograd_gpt.viz.palette import BLUE, GREEN, INK, ORANGE, PURPLE
from nanograd_gpt.viz.plots import new_figure, style

dive = DeepDive(__doc__)
set_threads(1)  # a second one would mostly wait in products as small as these, and more so on a busy machine


def rms(array):
    """Root of the mean square: the size of a signal."""
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


# %% [markdown]
# **A plain stack** of layers, ReLU(W x) with d inputs each.  If the weights have variance g / d, a sum of d products
# has g times the mean square of x, and ReLU halves it: each layer multiplies the signal by sqrt(g / 2), and backward
# the gradient by the same.  Only g = 2 keeps both (He et al. 2015).

# %%
DEPTH, WIDTH, GAINS = 16, 256, (1, 2, 4)
stack = {}
print(f"size of the signal after 1, 8 and {DEPTH} layers; of the gradient back at the input:")
for gain in GAINS:
    rng = np.random.default_rng(123)
    x = Tensor(rng.standard_normal((512, WIDTH)), requires_grad=True)
    h, sizes = x, []
    for _ in range(DEPTH):
        h = F.relu(F.linear(h, rng.standard_normal((WIDTH, WIDTH)) * np.sqrt(gain / WIDTH)))
        sizes.append(rms(h.data))
    h.backward(rng.standard_normal(h.shape))
    stack[gain] = np.array(sizes)
    print(f"  g = {gain}   {sizes[0]:8.3g} {sizes[7]:8.3g} {sizes[-1]:8.3g}   {rms(x.grad):8.3g}")
    forward, backward, formula = (
        (sizes[-1] / sizes[0]) ** (1 / (DEPTH - 1)),
        rms(x.grad) ** (1 / DEPTH),
        np.sqrt(gain / 2),
    )
    what = f"a layer multiplies by {forward:.2f}, backward by {backward:.2f}, the formula says {formula:.2f}"
    dive.claim(what, abs(forward / formula - 1) < 0.05 and abs(backward / formula - 1) < 0.05)

# %% [markdown]
# **A GPT** is not a plain stack: each block adds to a residual stream, and LayerNorm rescales what each layer reads.
# So it forgives more.  Still, compare four initialisations of its matrices: uniform in +-1/sqrt(d), PyTorch's default;
# N(0, 0.02), with 1/sqrt(2 L) of that where a layer writes to the stream, GPT-2's; 10 times smaller; 25 times larger.

# %%
LAYERS, N_UPDATES = 6, 40 if dive.fast else 120
text = load_text("story")[:8000]
tokenizer = train_tokenizer(text, 128)
config = GPTConfig(tokenizer.n_vocab, context_length=32, emb_dim=64, n_heads=4, n_layers=LAYERS, drop_rate=0.0)
INITS = {"PyTorch's default": None, "GPT-2's, 0.02": 0.02, "too small, 0.002": 0.002, "too large, 0.5": 0.5}


def batches():
    return create_dataloader_v1(text, 8, 32, 32, tokenizer=tokenizer, rng=Generator(123))


def initialised(std):
    """A model with N(0, std) in its matrices and no biases; with None, as the package makes it."""
    model, rng = GPTModel(config, rng=Generator(123)), np.random.default_rng(123)
    for name, p in model.named_parameters() if std is not None else ():
        writes = name.endswith(("out_proj.weight", "layers.2.weight")) and std == 0.02
        if p.ndim == 2:
            p.data[...] = rng.standard_normal(p.shape) * (std / np.sqrt(2 * LAYERS) if writes else std)
        elif name.endswith("bias"):
            p.data[...] = 0
    return model


def signals(model, ids, targets):
    """Sizes of the residual stream before and after each block, and of the loss's gradient there: block by block."""
    inputs, outputs = (
        [Tensor((model.tok_emb(ids) + model.pos_emb(np.arange(ids.shape[1]))).data, requires_grad=True)],
        [],
    )
    for block in model.trf_blocks:
        outputs.append(block(inputs[-1]))
        inputs.append(Tensor(outputs[-1].data, requires_grad=True))  # a new leaf, which keeps its gradient
    logits = model.out_head(model.final_norm(inputs[-1]))
    F.cross_entropy(logits.reshape(-1, config.vocab_size), targets.reshape(-1)).backward()
    for output, following in zip(reversed(outputs), reversed(inputs), strict=False):
        output.backward(following.grad)  # gives the gradient of this block's input
    return [rms(x.data) for x in inputs], [rms(x.grad) * ids.size for x in inputs]


def matrices(model, i):
    return np.concatenate([p.data.ravel() for p in model.trf_blocks[i].parameters() if p.ndim == 2])


def ratios_and_losses(model):
    """The last update over the weights in each block, by size; the first loss, and the mean of the last ten."""
    optimizer, losses = AdamW(model.parameters(), lr=1e-3), []
    for ids, targets in islice(chain.from_iterable(repeat(batches())), N_UPDATES):
        loss = model.loss(ids, targets)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        before = [matrices(model, i) for i in range(LAYERS)] if len(losses) == N_UPDATES else []
        optimizer.step(max_norm=1.0)
    ratios = [rms(matrices(model, i) - before[i]) / rms(before[i]) for i in range(LAYERS)]
    return ratios, [losses[0], np.mean(losses[-10:])]


# %%
streams, gradients, ratios, losses = {}, {}, {}, {}
print(f"\n{'':18} residual stream     its gradient        update /  loss     after")
print(f"{'':18} first     last      first     last      weights   first    {N_UPDATES} updates")
for name, std in INITS.items():
    model = initialised(std)
    streams[name], gradients[name] = a, g = signals(model, *next(iter(batches())))
    ratios[name], losses[name] = r, (first, last) = ratios_and_losses(model)
    columns = [f"{size:<9.3g}" for size in (a[0], a[-1], g[0], g[-1], np.mean(r))]
    print(f"{name:18} {' '.join(columns)} {first:<8.3f} {last:.3f}")

# %%
good, large, small = list(INITS)[:2], "too large, 0.5", "too small, 0.002"
uniform = np.log(config.vocab_size)
print(f"\na model that knows nothing has the loss log {config.vocab_size} = {uniform:.3f}:")
dive.claim(
    "good weights start close to it, large ones far above",
    max(losses[name][0] for name in good) < uniform + 0.3 and losses[large][0] > uniform + 3,
)
dive.claim(
    "with good weights the gradient is alike in all blocks",
    all(max(gradients[n]) < 2 * min(gradients[n]) for n in good),
)
dive.claim("with large ones it explodes on its way back", gradients[large][0] > 100 * gradients[large][-1])
dive.claim(
    "AdamW moves all weights alike: the smaller the weights, the larger the ratio",
    max(ratios[large]) < min(ratios[good[0]]) and max(ratios[good[1]]) < min(ratios[small][1:]),
)
dive.claim(
    f"both good ones learn faster than both bad ones, in {N_UPDATES} updates",
    max(losses[name][-1] for name in good) < min(losses[small][-1], losses[large][-1]),
)

# %%
with style():
    figure = new_figure(6.6)
    upper, middle, lower = figure.subplots(3)
    for gain, line in zip(GAINS, (":", "--", "-"), strict=True):
        upper.plot(
            range(1, DEPTH + 1), stack[gain], line, color=INK, label=f"plain stack, weights of variance {gain}/d"
        )
    for name, colour, line in zip(INITS, (BLUE, GREEN, PURPLE, ORANGE), ("-", "--", "-.", ":"), strict=True):
        middle.plot(gradients[name], line, color=colour, label=f"GPT, {name}")
        lower.plot(ratios[name], line, color=colour)
    upper.set_xticks((1, 4, 8, 12, 16))
    upper.set(xlabel="Layer", ylabel="Size of\nthe signal")
    middle.set(xlabel="Blocks passed (0: the embedding)", ylabel="Size of\nthe gradient")
    lower.set(xlabel="Block", ylabel="Update /\nweights")
    for axes in figure.axes:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")  # not as powers: their exponents are too small to read
    figure.align_ylabels()
dive.save(figure, "09_signal_propagation", "Good weights keep signals and gradients\nof one size through all layers")

# %% [markdown]
# **Try this:**
#
# - Replace F.relu by F.gelu in the stack: GELU lets less through than ReLU, so that g = 2 vanishes too.
# - Give the too small matrices 0.1 in place of 0.002: they are good weights then, and learn as fast as the others.

# %%
dive.end(f"{len(GAINS)} stacks of {DEPTH} layers, {len(INITS)} initialisations of {model.n_parameters:,} weights")
