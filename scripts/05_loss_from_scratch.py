# %% [markdown]
"""Where does the loss come from?  It is minus the mean logarithm of the probabilities of the tokens that come next.

You will see the book's six probabilities become its loss and its perplexity, the same loss three ways, and its gradient
with respect to the logits: the probabilities, minus 1 for the token that came.  Takes about 2 s; --fast: 2 s.
"""

# %%
from _deep_dive import DeepDive

# isort: split
import numpy as np

from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.viz.palette import BLUE, GREEN, INK, ORANGE, PURPLE
from nanograd_gpt.viz.plots import new_figure, style

dive = DeepDive(__doc__)

# %%
# Probabilities of the six target tokens of two texts under the book's untrained model (section 5.1.2), and results.
PROBABILITIES = [7.4541e-05, 3.1061e-05, 1.1563e-05, 1.0337e-05, 5.6776e-05, 4.7559e-06]
LOG_OF_FIRST, LOSS, PERPLEXITY = -9.5042, 10.7940, 48725
VOCABULARY, UNTRAINED = 50257, 10.8249


# %% [markdown]
# A good model gives the actual next token a probability near 1.  The probability of a whole text is the product of
# its tokens', which soon underflows: six tokens give 1e-28.  Logarithms turn the product into a sum.

# %%
p = np.array(PROBABILITIES)
print(f"probability of the first target token {p[0]:.4e}, its logarithm {np.log(p[0]):.4f}; of all six {p.prod():.1e}")
dive.claim(f"log 7.4541e-05 = {LOG_OF_FIRST}", abs(np.log(p[0]) - LOG_OF_FIRST) < 5e-5)

# %% [markdown]
# The loss is their mean, so that texts of any length compare, with a minus sign, so that smaller is better.

# %%
loss = -np.log(p).mean()
print(f"\nmean of the six logarithms {np.log(p).mean():.4f}, so the loss is {loss:.4f}")
dive.claim(f"loss = {LOSS:.4f}", abs(loss - LOSS) < 5e-5)

# %% [markdown]
# Perplexity is exp(loss): the number of equally likely tokens with the same loss.  It amplifies the rounding of
# the loss: 10.7940 stands for anything within 0.00005, which is two or three of 48,725 tokens.

# %%
print(f"\nperplexity {np.exp(loss):.0f}; exp(10.7940) = {np.exp(LOSS):.0f}, accurate to {5e-5 * np.exp(LOSS):.1f}")
dive.claim(f"perplexity = {PERPLEXITY} within that rounding", abs(np.exp(loss) / PERPLEXITY - 1) < 5e-5)

# %% [markdown]
# A model without knowledge gives every token 1/V.  Its loss is log V: the value to expect before training.

# %%
print(f"\nuniform probabilities: log {VOCABULARY} = {np.log(VOCABULARY):.4f}")
equal = F.cross_entropy(Tensor(np.zeros((3, VOCABULARY))), np.array([0, 7, VOCABULARY - 1])).item()
dive.claim(f"equal logits give {UNTRAINED}", abs(equal - UNTRAINED) < 5e-5 and abs(equal - np.log(VOCABULARY)) < 1e-12)

# %% [markdown]
# The same as a model computes it: hidden states x, an output head, logits, softmax.

# %%
rng = np.random.default_rng(123)
N, C, V = 5, 4, 7
x, weight = Tensor(rng.standard_normal((N, C)), requires_grad=True), Tensor(rng.standard_normal((V, C)))
targets = np.array([2, 0, 6, 2, 3])
logits = Tensor(x.data @ weight.data.T, requires_grad=True)
powers = np.exp(logits.data)
softmax = powers / powers.sum(axis=1, keepdims=True)  # (N, V): each row sums to 1
by_hand = -np.log(softmax[np.arange(N), targets]).mean()
from_logits, from_head = F.cross_entropy(logits, targets), F.linear_cross_entropy(x, weight, targets)
print(f"\nthe loss of a batch of {N}:")
print(f"  by hand               {by_hand:.15f}")
print(f"  cross_entropy         {from_logits.item():.15f}  (subtracts the largest logit, so that exp cannot overflow)")
print(f"  linear_cross_entropy  {from_head.item():.15f}  (computes the logits in chunks to save memory)")
dive.claim(
    "all three are the same",
    max(abs(from_logits.item() / by_hand - 1), abs(from_head.item() / by_hand - 1)) < 1e-14,
)

# %% [markdown]
# The gradient is simple: probabilities minus one-hot targets, divided by N.  Every wrong logit is pushed down in
# proportion to its probability, the target's up in proportion to 1 minus its probability.

# %%
one_hot = np.eye(V)[targets]
expected = (softmax - one_hot) / N
from_logits.backward()
from_head.backward()
print("\nthe first row      " + "".join(f"{i:>9}" for i in range(V)))
for name, row in (
    ("softmax", softmax[0]),
    ("one-hot target", one_hot[0]),
    ("gradient times N", N * logits.grad[0]),
):
    print(f"  {name:17}" + "".join(f"{value:9.4f}" for value in row))
dive.claim("gradient = (softmax - onehot) / N", np.abs(logits.grad - expected).max() < 1e-14)
dive.claim("and through the head times its weight", np.abs(x.grad - expected @ weight.data).max() < 1e-14)
dive.claim("each row of it sums to 0", np.abs(logits.grad.sum(axis=1)).max() < 1e-14)

# %% [markdown]
# The loss of one token is -log p.  Its derivative with respect to p, -1/p, is steep where p is small; with respect
# to the target's logit it is p - 1, between -1 and 0.

# %%
at = np.concatenate([np.geomspace(1e-6, 0.01, 200), np.linspace(0.01, 1, 300)])
probability = Tensor(at, requires_grad=True)
curve = -probability.log()
curve.sum().backward()
pair = Tensor(np.stack([np.log(at), np.log1p(-at.clip(max=1 - 1e-12))], axis=1), requires_grad=True)  # softmax: at
F.cross_entropy(pair, np.zeros(len(at), dtype=int)).backward()
by_logit = len(at) * pair.grad[:, 0]
print("\nthe derivative of -log p:")
dive.claim("with respect to p it is -1/p", np.abs(probability.grad * at + 1).max() < 1e-14)
dive.claim("with respect to the target's logit it is p - 1", np.abs(by_logit - (at - 1)).max() < 1e-9)

# %%
with style():
    figure = new_figure(6.6)
    upper, lower, bars = figure.subplots(3, height_ratios=(3, 2, 2))
    upper.plot(at, curve.data, color=BLUE, label="loss of one token, \N{MINUS SIGN}log p")
    upper.plot(p, -np.log(p), "o", color=ORANGE, clip_on=False, label=f"the book's six tokens, mean loss {loss:.4f}")
    label = f"all {VOCABULARY:,} tokens equally likely, {equal:.4f}"
    upper.axhline(equal, color=INK, linestyle=":", linewidth=1.2, label=label)
    upper.set(xlabel="Probability p of the target token", ylabel="Loss (nats)", xlim=(0, 1), ylim=(0, 18))
    lower.plot(at, probability.grad, color=PURPLE, label="gradient with respect to p, \N{MINUS SIGN}1/p")
    lower.plot(at, by_logit, "--", color=GREEN, label="gradient with respect to its logit, p \N{MINUS SIGN} 1")
    lower.set(xlabel="Probability p of the target token", ylabel="Gradient\nof the loss", xlim=(0, 1), ylim=(-20, 1))
    bars.bar(np.arange(V) - 0.2, softmax[0], 0.4, color=BLUE, label="softmax of one position's logits, p")
    bars.bar(np.arange(V) + 0.2, N * logits.grad[0], 0.4, color=ORANGE, label="its gradient, p \N{MINUS SIGN} onehot")
    bars.axhline(0, color=INK, linewidth=0.8)
    bars.set(xlabel=f"Token of {V} (the target: {targets[0]})", ylabel="Probability,\ngradient", xticks=range(V))
title = "The loss is steep where p is small; its gradient\nwith respect to the logit is at most 1 in size"
dive.save(figure, "05_loss_from_scratch", title)

# %% [markdown]
# **Try this:**
#
# - Replace the last of PROBABILITIES by 1e-9: one token that the model thinks impossible raises the loss by log of the
#   ratio, over 6, from 10.8 to 12.2, and perplexity fourfold.
# - Take sum in place of mean in `by_hand`: the loss grows with the number of tokens, here 5 times.

# %%
dive.end(f"loss {loss:.4f}, perplexity {np.exp(loss):.0f}, untrained {equal:.4f}")
