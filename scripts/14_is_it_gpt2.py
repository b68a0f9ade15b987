# %% [markdown]
"""Is it GPT-2?  The same arrays in a forward pass of thirty lines of NumPy must give the same numbers, inside too.

You will see how GPT-2's weights are stored; every array loaded under the book's names; logits, attention weights and
the logit lens equal to a plain formula; and what a prediction owes to each word.  --weights gpt2 downloads OpenAI's
weights, or takes a directory that has them; without it, random weights in the same files stand in, and the network is
left alone.  Takes about 5 s; --fast: 3 s.
"""

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

from _deep_dive import DeepDive

# isort: split
from _attention_picture import draw_attention
from _gpt2_files import random_arrays, read, write
from _one_line import UsageError

# isort: split
import numpy as np

from nanograd_gpt import attention_weights, load_pretrained, logit_lens, pretrained_tokenizer, token_attribution
from nanograd_gpt.tokenizer.encoding import encode
from nanograd_gpt.training.sources import local_path
from nanograd_gpt.viz.palette import BLUE, GREEN, INK, ORANGE
from nanograd_gpt.viz.plots import new_figure, style
from nanograd_gpt.weights.gpt2_names import gpt2_mappings

TEXT = "Rome is in Italy, and Paris is in France"


def add_arguments(parser):
    parser.add_argument("--weights", metavar="SOURCE", help="gpt2, or a directory of its files [random weights]")
    parser.add_argument("--prompt", default=TEXT, help="the text that the model reads; its last token is explained")


dive = DeepDive(__doc__, add_arguments=add_arguments)

# %% [markdown]
# **The files.** `config.json` has the sizes.  `model.safetensors` is a JSON header, its length in 8 bytes before it,
# and then the arrays' bytes: `_gpt2_files.py` reads and writes it in a few lines.  Hugging Face's names are GPT-2's
# own: wte and wpe are the embeddings of tokens and positions, h.0 is the first block, and c_attn holds query, key and
# value side by side.

# %%
temporary = TemporaryDirectory()
source = local_path(Path(dive.options.weights or temporary.name))
if dive.options.weights is None:
    write(source, random_arrays(2 if dive.fast else 6, 50257, 64, 48), n_head=4)
file = source / "model.safetensors" if source.is_dir() else source
stored = read(file) if file.exists() else {}
if "wte.weight" not in stored:
    raise UsageError(f"--weights: {source} has no model.safetensors with Hugging Face's names; give such a directory")
model, tokenizer = load_pretrained(source, drop_rate=0.0), pretrained_tokenizer(source)
temporary.cleanup()
config, L = model.config, model.config.n_layers
print(f"{'random weights' if dive.options.weights is None else source}: {len(stored)} arrays, {L} blocks, ", end="")
print(f"{config.n_heads} heads, {model.n_parameters:,} weights")
for name in ("wte.weight", "h.0.attn.c_attn.weight", "h.0.mlp.c_fc.weight", "ln_f.bias"):
    print(f"  {name:24} {stored[name].shape}")

# %% [markdown]
# **Name by name.** A layer of the book's has (out, in) where GPT-2's has (in, out), and query, key and value apart.

# %%
state, equal = model.state_dict(), []
for m in gpt2_mappings(config):
    part = stored[m.gpt2_name]
    part = part if m.qkv_index is None else np.split(part, 3, axis=-1)[m.qkv_index]
    equal.append(np.array_equal(state[m.name], part.T if m.transposed else part))
dive.claim(f"all {len(equal)} parameters of the model have the file's bits", all(equal) and len(equal) == len(state))

# %% [markdown]
# **GPT-2 in plain NumPy**, in float64, from the names in the file.  `scale` multiplies each token's embedding.


# %%
def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * stored[f"{name}.weight"] + stored[f"{name}.bias"]


def linear(x, name):
    return x @ stored[f"{name}.weight"] + stored[f"{name}.bias"]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gpt2(ids, scale):
    """The logits after each block (L, T, V), of which the last are the model's, and attention weights (L, H, T, T)."""
    T, H, lens, attention = len(ids), config.n_heads, [], []
    x = stored["wte.weight"][ids] * scale[:, None] + stored["wpe.weight"][:T]
    for i in range(L):
        q, k, v = np.split(linear(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").reshape(T, 3 * H, -1).swapaxes(0, 1), 3)
        scores = q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1])
        weights = softmax(np.where(np.tri(T, dtype=bool), scores, -np.inf))
        x = x + linear((weights @ v).swapaxes(0, 1).reshape(T, -1), f"h.{i}.attn.c_proj")
        a = linear(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        gelu = 0.5 * a * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3)))
        x = x + linear(gelu, f"h.{i}.mlp.c_proj")
        lens.append(norm(x, "ln_f") @ stored.get("lm_head.weight", stored["wte.weight"]).T)
        attention.append(weights)
    return np.array(lens), np.array(attention)


ids = np.array(encode(dive.options.prompt, tokenizer))
if not 3 <= len(ids) <= config.context_length:
    raise UsageError(f"--prompt: {len(ids)} tokens; give a text of 3 to {config.context_length}")
T, words = len(ids), [tokenizer.decode([i]).replace("\n", "\\n") for i in ids]
lens, attention = gpt2(ids, np.ones(T))
own_lens, own_attention = logit_lens(model, ids[None])[:, 0], attention_weights(model, ids[None])[:, 0]
logits = model(ids[None]).data[0]


def error(own, plain):
    return float(np.abs(own - plain).max() / np.abs(plain).max())


print(f"\nlargest difference from plain NumPy, of '{'|'.join(words)}':")
differences = error(logits, lens[-1]), error(own_attention, attention), error(own_lens, lens)
for name, e in zip(("logits", "attention weights", "logits after each block"), differences, strict=True):
    dive.claim(f"{name}: {e:.1e}, 1e-5 at most", e < 1e-5)
row_error = float(np.abs(own_attention.sum(-1) - 1).max())
dive.claim(f"rows of attention weights sum to 1, to {row_error:.1e}", row_error < 1e-5)

# %% [markdown]
# **The logit lens**: the likeliest next token, were the model to end after each block.

# %%
chosen = softmax(lens[:, -2])
print(f"\nafter '{''.join(words[:-1])}', block by block:   likeliest           {words[-1]!r}")
for i, p in enumerate(chosen):
    print(f"  block {i + 1:2}  {tokenizer.decode([int(p.argmax())])!r:>20} {p.max():6.1%}  {p[ids[-1]]:12.4%}")

# %% [markdown]
# **Attribution**: what the last token's log-probability gains if an earlier token's embedding grows, relative to its
# size.  Backward gives all of these at once; the plain formula, by a central difference, one at a time.

# %%
STEP = 1e-4
own = token_attribution(model, ids[None], T - 1)[0, :-1]


def log_probability(scale):
    return float(np.log(softmax(gpt2(ids[:-1], scale)[0][-1, -1])[ids[-1]]))


numeric = np.array([(log_probability(1 + s) - log_probability(1 - s)) / (2 * STEP) for s in STEP * np.eye(T - 1)])
print(f"\nwhat {words[-1]!r} owes to each token:  backward   difference")
for word, a, b in zip(words[:-1], own, numeric, strict=True):
    print(f"  {word!r:>28}  {a:+10.4f}  {b:+10.4f}")
dive.claim(f"backward agrees with central differences, to {error(own, numeric):.1e}", error(own, numeric) < 1e-3)

# %%
far = own_attention * (np.tri(T, k=-1) * (np.arange(T) > 0))  # neither the first token, on which heads rest, nor itself
block, head = np.unravel_index(far.max((2, 3)).argmax(), far.shape[:2])
with style():
    figure = new_figure(8.2)
    upper, middle, lower = figure.subplots(3, height_ratios=(3, 4, 3))
    upper.plot(chosen.max(1), "-", color=BLUE, marker="o", label="likeliest token after a block")
    upper.plot(chosen[:, ids[-1]], "--", color=ORANGE, marker="s", label=f"the text's: '{words[-1]}'")
    upper.set(xlabel="After block", ylabel="Probability", ylim=(0, None), xticks=range(0, L, 1 + L // 13))
    draw_attention(middle, own_attention[block, head], words)
    middle.set(xlabel="looked at", ylabel=f"Block {block}, head {head}:\ntoken that looks")
    lower.barh(range(T - 1), own, color=GREEN, label="attribution, by backward")
    lower.plot(numeric, range(T - 1), "o", color=INK, label="by central differences")
    lower.set_yticks(range(T - 1), words[:-1])
    lower.invert_yaxis()
    lower.set(xlabel=f"Gain of log p('{words[-1]}')\nas an embedding grows (nats)")
dive.save(
    figure, "14_is_it_gpt2", "Inside GPT-2: a lens after each block, a head,\nand what the last word owes to the others"
)

# %% [markdown]
# **Try this:**
#
# - Run it with --weights gpt2: the lens shows France rising in the last blocks, and the attribution which words matter.
# - Replace 0.044715 by 0.045 in `gelu`: one constant, wrong by 0.6%, and the claims about plain NumPy fail.

# %%
dive.end(f"{len(stored)} arrays, {model.n_parameters:,} weights, {T} tokens")
