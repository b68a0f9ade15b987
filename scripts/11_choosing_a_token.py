# %% [markdown]
"""How is the next token chosen?  By its probability, after a temperature and a filter change the distribution.

You will see one distribution sharpened, flattened and cut off, and many draws from each version of it; and a
sentence that beam search finds where greedy decoding misses it.  Takes about 3 s; --fast: 2 s.
"""

# %%
from _deep_dive import DeepDive

# isort: split
import numpy as np

from nanograd_gpt import GPTConfig, GPTModel
from nanograd_gpt.backend.plain.activation import softmax
from nanograd_gpt.generation.beam import beam_search
from nanograd_gpt.generation.generate import generate_text
from nanograd_gpt.generation.sampling import Sampling, keep_min_p, keep_top_k, keep_top_p, next_tokens
from nanograd_gpt.rng import Generator
from nanograd_gpt.viz.palette import BLUE, GREEN, ORANGE, PURPLE
from nanograd_gpt.viz.plots import new_figure, style

dive = DeepDive(__doc__)

# %%
# The book's example of section 5.3.1: logits of the token after "every effort moves you".
WORDS = ["closer", "every", "effort", "forward", "inches", "moves", "pizza", "toward", "you"]
LOGITS = np.array([[4.51, 0.89, -1.90, 6.75, 1.63, -1.62, -1.89, 6.28, 1.79]])
DRAWN = 20_000 if dive.fast else 100_000
FILTERS = {
    "top-k 3": lambda x: keep_top_k(x, 3),  # a fixed number of tokens
    "top-p 0.9": lambda x: keep_top_p(x, 0.9),  # the likeliest tokens that reach 90% together
    "min-p 0.1": lambda x: keep_min_p(x, 0.1),  # tokens at least a tenth as likely as the likeliest
}


def show(p):
    print("  " + "  ".join(f"{word} {x:.3f}" for word, x in zip(WORDS, p, strict=True)))


def entropy(p):
    """Entropy in nats: 0 if one token is certain, log(9) if all nine are equally likely."""
    return float(-(p * np.log(p)).sum())


def is_drawn_from(sampling, p):
    """Whether each word's frequency is its probability, within 4 standard errors."""
    tokens = next_tokens(np.tile(LOGITS, (DRAWN, 1)), sampling, Generator(123))
    frequencies = np.bincount(tokens, minlength=len(p)) / DRAWN
    return (np.abs(frequencies - p) <= 4 * np.sqrt(p * (1 - p) / DRAWN) + 1 / DRAWN).all()


def is_renormalised(before, after):
    """Whether the remaining tokens keep their proportions, pizza is removed, and probabilities sum to 1."""
    left, p, q = np.isfinite(after[0]), softmax(before, axis=-1)[0], softmax(after, axis=-1)[0]
    proportions = np.allclose(q[left], p[left] / p[left].sum(), rtol=1e-12)
    return q[WORDS.index("pizza")] == 0 and abs(q.sum() - 1) < 1e-12 and proportions


# %% [markdown]
# Greedy decoding always gives the same token.  Sampling draws each with its probability: sometimes "toward".

# %%
p = softmax(LOGITS, axis=-1)[0]
greedy = WORDS[int(next_tokens(LOGITS, Sampling(), Generator(1))[0])]
print(f"greedy: {greedy}.  Probabilities:")
show(p)
dive.claim("the likeliest is 'forward', with 57%", greedy == "forward" and round(100 * p.max()) == 57)
dive.claim("each token is drawn with its probability", is_drawn_from(Sampling(1.0), p))

# %% [markdown]
# Temperature divides the logits: below 1 it sharpens the distribution, above 1 it flattens it.

# %%
print("\ntemperature 0.1, 1 and 5:")
by_temperature = {t: softmax(LOGITS / t, axis=-1)[0] for t in (0.1, 1.0, 5.0)}
for t, q in by_temperature.items():
    show(q)
    dive.claim(f"at {t}, each token is drawn with its probability", is_drawn_from(Sampling(t), q))
entropies = [entropy(q) for q in by_temperature.values()]
grow = entropies == sorted(entropies) and entropies[-1] < np.log(len(WORDS))
dive.claim("entropy grows with temperature: " + " < ".join(f"{e:.2f}" for e in entropies), grow)

# %% [markdown]
# At a high temperature, "pizza" is drawn now and then.  There are three ways to cut off the unlikely tail.

# %%
hot = LOGITS / 2
kept = {name: keep(hot) for name, keep in FILTERS.items()}
print("\nat temperature 2, these are left:")
for name, logits in kept.items():
    left = [word for word, x in zip(WORDS, logits[0], strict=True) if np.isfinite(x)]
    print(f"  {name:10} {', '.join(left)}")
    dive.claim(f"{name} removes pizza, and renormalises the others", is_renormalised(hot, logits))

# %% [markdown]
# They differ where the model is sure or unsure: only top-p and min-p adapt.

# %%
sure, unsure = np.array([[9.0, *np.linspace(0, 1, 8)]]), np.linspace(0, 0.8, 9)[None]
counts = {name: [int(np.isfinite(keep(x)).sum()) for x in (sure, unsure)] for name, keep in FILTERS.items()}
print("\ntokens left of nine, if one is nearly certain, and if all are about equally likely:")
for name, (few, many) in counts.items():
    print(f"  {name:10} {few}  {many}")
adapt = [counts[name] for name in ("top-p 0.9", "min-p 0.1")]
dive.claim("top-k 3 leaves 3 in both cases", counts["top-k 3"] == [3, 3])
dive.claim("top-p and min-p leave 1 in the first case, and most in the second", all(a == 1 and b > 6 for a, b in adapt))

# %%
with style():
    figure = new_figure(4.2)
    axes = figure.subplots()
    shown = {
        "temperature 1: the model's own": p,
        "temperature 5: flatter": by_temperature[5.0],
        "temperature 2, the 3 likeliest (top-k 3)": softmax(kept["top-k 3"], axis=-1)[0],
        "temperature 2, the likeliest 90% (top-p 0.9)": softmax(kept["top-p 0.9"], axis=-1)[0],
    }
    order = np.argsort(-p)
    for i, ((name, q), colour) in enumerate(zip(shown.items(), (BLUE, ORANGE, GREEN, PURPLE), strict=True)):
        axes.barh(np.arange(len(WORDS)) + 0.2 * (i - 1.5), q[order], 0.2, color=colour, label=name)
    axes.set_yticks(range(len(WORDS)), [WORDS[i] for i in order])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set(xlabel="Probability of the next token", ylabel="Next token, likeliest first", xlim=(0, None))
title = "Temperature makes probabilities more equal;\ntop-k and top-p remove the unlikely tokens"
dive.save(figure, "11_choosing_a_token", title)

# %% [markdown]
# Choosing the likeliest word each time need not give the likeliest sentence: a likely word can be followed by many
# unlikely ones.  Beam search keeps several sentences and compares their products of probabilities.

# %%
# A model of sentences: the probability of each next word, given the last one only.
NEXT = {
    "the": {"dog": 0.5, "cat": 0.4, "bird": 0.1},
    "dog": {"barks": 0.4, "runs": 0.35, "sleeps": 0.25},
    "cat": {"sleeps": 0.9, "runs": 0.1},
    "bird": {"sings": 0.7, "sleeps": 0.3},
}
VOCABULARY = [*NEXT, "barks", "runs", "sleeps", "sings"]
IMPOSSIBLE = 1e-9  # probability of a word that is not listed


def sentence_probability(table, ids):
    return float(np.prod(table[ids[:-1], ids[1:]]))


def model_of(table):
    """A GPT that gives the table's probabilities: row i after token i, whatever came before.

    Its blocks add 0 to their input, and its final LayerNorm leaves one-hot vectors unchanged.
    """
    V = len(table)
    config = GPTConfig(vocab_size=V, context_length=3, emb_dim=V, n_heads=1, n_layers=1, drop_rate=0.0)
    model = GPTModel(config, rng=Generator(123)).eval()
    state = {name: np.zeros_like(array) for name, array in model.state_dict().items()}
    state["tok_emb.weight"] = np.eye(V, dtype=np.float32)
    deviation = np.sqrt((V - 1) / V**2 + model.final_norm.eps)  # of a one-hot vector, whose mean is 1 / V
    state["final_norm.scale"] = np.full(V, deviation, dtype=np.float32)
    state["final_norm.shift"] = np.full(V, 1 / V, dtype=np.float32)
    state["out_head.weight"] = np.log(table).T.astype(np.float32)
    model.load_state_dict(state)
    return model


table = np.array([[NEXT.get(a, {}).get(b, IMPOSSIBLE) for b in VOCABULARY] for a in VOCABULARY])
table /= table.sum(axis=1, keepdims=True)
model = model_of(table)
the = VOCABULARY.index("the")
greedy = generate_text(model, [[the]], max_new_tokens=2, context_size=3)[0]
beam = beam_search(model, [the], max_new_tokens=2, context_size=3, n_beams=2)[0].text
every = [np.array([the, i, j]) for i in range(len(VOCABULARY)) for j in range(len(VOCABULARY))]
best = max(every, key=lambda ids: sentence_probability(table, ids))
print("\ntwo words after 'the':")
for name, ids in (("greedy", greedy), ("beam search with 2 beams", beam), (f"best of all {len(every)}", best)):
    sentence = " ".join(VOCABULARY[i] for i in ids)
    print(f"  {name:25} {sentence:15} probability {sentence_probability(table, ids):.2f}")
dive.claim("beam search finds the likeliest of all sentences", np.array_equal(beam, best))
dive.claim("greedy decoding misses it", sentence_probability(table, greedy) < sentence_probability(table, best))


# %% [markdown]
# **Try this:**
#
# - Set n_beams=1: beam search is greedy decoding then, and misses the best sentence as well.
# - Give "pizza" the logit 6: it becomes likely, and no filter removes it; the claims that say so fail.

# %%
dive.end(f"{len(WORDS)} words, {DRAWN:,} draws per distribution")
