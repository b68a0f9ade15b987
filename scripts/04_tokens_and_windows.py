# %% [markdown]
"""What does a language model read?  Not letters or words, but tokens, in windows whose targets are one token later.

You will see byte-pair encoding learned merge by merge, in twenty lines that find the package's merges; one sentence as
it is cut with more and more of them; and the windows, with the many predictions that each one holds.  Takes about
4 s; --fast: 2 s.
"""

# %%
from collections import Counter
from itertools import pairwise

from _deep_dive import DeepDive

# isort: split
import numpy as np

from nanograd_gpt import create_dataloader_v1, train_tokenizer
from nanograd_gpt.rng import Generator
from nanograd_gpt.tokenizer.bpe import count_words, learn_merges
from nanograd_gpt.training.corpus import load_text
from nanograd_gpt.viz.palette import BLUE, INK, ORANGE
from nanograd_gpt.viz.plots import new_figure, style

dive = DeepDive(__doc__)
text = load_text("story")

# %% [markdown]
# **Byte-pair encoding.** Begin with the 256 bytes, which can write any text.  Find the pair of neighbours that is most
# frequent, make it a token of its own, and begin again.  Words are counted first, since no token crosses their borders.

# %%
BY_HAND = 32 if dive.fast else 200


def merged(tokens, pair, new):
    """A word's tokens with each pair joined, from the left."""
    joined = []
    for token in tokens:
        if joined and (joined[-1], token) == pair:
            joined[-1] = new
        else:
            joined.append(token)
    return joined


def learned(words, n):
    """The pairs to merge, in order, and how often each occurs when it is merged."""
    cut, merges = {word: list(word) for word in words}, []
    for new in range(256, 256 + n):
        counts = Counter()
        for word, times in words.items():
            for pair in pairwise(cut[word]):
                counts[pair] += times
        best = min(counts, key=lambda pair: (-counts[pair], pair))  # of equally frequent ones, the smaller ids
        merges.append((best, counts[best]))
        cut = {word: merged(tokens, best, new) for word, tokens in cut.items()}
    return merges


words = count_words(text)
merges = learned(words, BY_HAND)
spelled = [bytes([value]) for value in range(256)]
for (left, right), _ in merges:
    spelled.append(spelled[left] + spelled[right])
print(f"{len(text):,} characters, {words.total():,} words, {len(words):,} of them different.  The first merges:")
for m in (*range(8), BY_HAND - 1):
    (left, right), times = merges[m]
    print(f"  {m + 1:3}  {spelled[left]!r:>8} + {spelled[right]!r:8}  {times:5} times")
package = learn_merges(text, 512)
dive.claim(f"the first {BY_HAND} merges are the package's", [pair for pair, _ in merges] == package[:BY_HAND])
dive.claim("a later merge is never more frequent", all(a >= b for (_, a), (_, b) in pairwise(merges)))

# %% [markdown]
# **The same sentence** with more and more merges: frequent words become one token, rare ones stay in pieces.

# %%
SENTENCE = "My grandmother said that the ferry would wait."
SIZES = (0, 16, 64, 256, 512)
tokenizers = {n: train_tokenizer(text, n) for n in SIZES}
print()
for n, tokenizer in tokenizers.items():
    pieces = [tokenizer.decode([i]) for i in tokenizer.encode(SENTENCE)]
    print(f"  {n:3} merges, {len(pieces):2} tokens: {'|'.join(pieces)}")
lengths = {n: len(tokenizer.encode(text)) for n, tokenizer in tokenizers.items()}
per_token = [len(text.encode()) / length for length in lengths.values()]
print(
    "bytes in a token of the whole text: "
    + ", ".join(f"{n} merges {x:.2f}" for n, x in zip(SIZES, per_token, strict=True))
)
dive.claim("each more merge makes the text shorter", all(a > b for a, b in pairwise(lengths.values())))
dive.claim(
    "and every one gives the text back, byte by byte",
    all(t.decode(t.encode(text)) == text for t in tokenizers.values()),
)
dive.claim("the 256 bytes alone are one token each", lengths[0] == len(text.encode()))

# %% [markdown]
# **Windows.** A model reads T tokens at once.  Its target at each place is the next token: the same text, one later.
# So a window holds T predictions, each from the tokens up to there, as the causal mask of attention sees to it.

# %%
T, BATCH = 8, 4
tokenizer = tokenizers[512]
loader = create_dataloader_v1(text, BATCH, T, stride=T, shuffle=False, tokenizer=tokenizer, rng=Generator(123))
inputs, targets = next(iter(loader))
print(f"\nthe first window of {len(loader) * BATCH}, and its {T} predictions:")
for place in range(T):
    seen = tokenizer.decode(inputs[0, : place + 1].tolist())
    print(f"  {seen!r} -> {tokenizer.decode([targets[0, place]])!r}")
ids = np.array(tokenizer.encode(text))
every = [(i, t) for i, t in loader]
all_targets = np.concatenate([t.ravel() for _, t in every])
dive.claim("targets are the inputs, one token later", all((t[:, :-1] == i[:, 1:]).all() for i, t in every))
dive.claim("with a stride of T, each token is a target once", (all_targets == ids[1 : 1 + all_targets.size]).all())
dive.claim("and only what does not fill a batch is left out", 0 <= ids.size - 1 - all_targets.size < BATCH * T)
half = create_dataloader_v1(text, BATCH, T, stride=T // 2, shuffle=False, tokenizer=tokenizer, rng=Generator(123))
print(f"with a stride of T/2 there are {len(half)} batches in place of {len(loader)}, and each token is read twice")
dive.claim("half the stride gives twice the windows", abs(len(half) / len(loader) - 2) < 0.05)

# %%
with style():
    figure = new_figure(5.2)
    upper, lower = figure.subplots(2)
    upper.plot(SIZES, per_token, "o-", color=INK, label="bytes in a token, on average")
    upper.set(xlabel="Merges learned", ylabel="Bytes per token", ylim=(0, None))
    for row in range(BATCH):
        first = "_" if row else ""  # one entry in the legend for all rows
        lower.barh(row - 0.18, T, 0.34, left=row * T, color=BLUE, label=f"{first}a window's inputs")
        lower.barh(row + 0.18, T, 0.34, left=row * T + 1, color=ORANGE, label=f"{first}its targets, one token later")
    lower.set(xlabel="Token of the text", ylabel="Window")
    lower.set_xticks(range(0, BATCH * T + 1, T))
    lower.set_yticks(range(BATCH))
    lower.invert_yaxis()
dive.save(
    figure, "04_tokens_and_windows", "Merges make tokens longer; a window's\ntargets are its inputs, one token later"
)

# %% [markdown]
# **Try this:**
#
# - Write "evaporate" for "wait" in SENTENCE: a word that the text does not have stays in pieces, with all merges.
# - Set the first loader's stride to 2 * T: half of the tokens are never a target, and three claims fail.

# %%
dive.end(f"{BY_HAND} merges by hand, {len(loader) * BATCH} windows of {T}")
