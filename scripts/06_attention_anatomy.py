# %% [markdown]
"""What does a head look at?  At the word that decides which comes next, if training has taught it to find that word.

You will see one head's attention computed from scores, mask and softmax; that no token sees a later one, to the last
bit; what each head of a model trained on tales looks at before it says where a thing was found; and that the answer
depends on what one of them sees.  --model runs/tales takes a model that is trained already.
Takes about 45 s; --fast: 12 s.
"""

# %%
from itertools import islice

from _deep_dive import DeepDive

# isort: split
from _attention_picture import LEGIBLE, draw_cells, draw_tale
from _one_line import UsageError
from _tales_that_ask import tales_that_ask

# isort: split
import numpy as np

from nanograd_gpt import GPTModel, attention_weights, load_pretrained, pretrained_tokenizer, record, set_threads
from nanograd_gpt.nn.inference_mode import inference_mode
from nanograd_gpt.rng import Generator
from nanograd_gpt.tales.generator import TALE_TOKENS, write_tales
from nanograd_gpt.tales.grammar import PLACES, SENTENCE_TOKENS
from nanograd_gpt.tokenizer.encoding import encode
from nanograd_gpt.training.config import preset
from nanograd_gpt.training.run import Run
from nanograd_gpt.viz.palette import BLUE, ORANGE
from nanograd_gpt.viz.plots import new_figure, style


def add_arguments(parser):
    parser.add_argument("--model", help="one trained on tales [a model trained here]")


dive = DeepDive(__doc__, add_arguments=add_arguments)
set_threads(1)  # a second one would mostly wait in products as small as these, and more so on a busy machine

# %% [markdown]
# **A model of tales.** Each sentence has four words and a full stop, a token each.  "Anna found milk" can only go on
# with the place where the milk was put last: which place that is stands somewhere in the text before.

# %%
N_UPDATES, N_TALES = (500, 40) if dive.fast else (1400, 100)
text, settings = tales_that_ask() if dive.fast else (None, {"warmup_steps": 100, "lr": 5e-3})
training = Run(preset("tales").replace({**settings, "max_steps": N_UPDATES}), "cpu", text=text)
tokenizer = training.tokenizer
if dive.options.model:
    model, tokenizer = load_pretrained(dive.options.model), pretrained_tokenizer(dive.options.model)
else:
    losses = [float(step.loss) for step in training.steps()]
    model = training.model.eval()
    print(f"{N_UPDATES} updates: loss {losses[0]:.2f}, then {np.mean(losses[-20:]):.2f}")
config = model.config
unseen = write_tales(40_000, seed=1) if dive.fast else training.val_text  # with --fast it has seen many of those
tales = [encode(tale, tokenizer) for tale in islice(unseen.splitlines(keepends=True), N_TALES)]
if {len(tale) for tale in tales} != {TALE_TOKENS} or config.context_length < TALE_TOKENS:
    raise UsageError(f"--model: {dive.options.model} was not trained on tales; nanograd-gpt train --data tales does")
ids = np.array(tales)
words = np.array([[tokenizer.decode([i]).strip() for i in tale] for tale in tales])
untrained = GPTModel(config, rng=Generator(123)).eval()


def questions():
    """Yield each "who found what": its tale, the position of what, and of the word that decides the place."""
    for tale, row in enumerate(words[:, :-1].reshape(N_TALES, -1, SENTENCE_TOKENS)):
        told = {}
        for start, (subject, verb, thing, *_) in zip(range(0, TALE_TOKENS, SENTENCE_TOKENS), row, strict=False):
            if verb == "found":
                yield tale, start + 2, told[thing]
            elif subject == "The" or verb == "left":
                told[verb if subject == "The" else thing] = start + 3


tale, query, key = np.array(list(questions())).T
print(f"{len(query)} questions such as '{' '.join(words[tale[0], query[0] - 2 : query[0] + 1])} ...'")

# %% [markdown]
# **One head, step by step.** Query and key of each token are two linear maps of what the block reads.  A score is their
# product over sqrt(D).  The mask removes the scores of later tokens, and softmax makes each row sum to 1.

# %%
weights = attention_weights(model, ids)  # (L, B, H, T, T)
share = weights[:, tale, :, query, key].mean(0)  # (L, H): of a question's attention, what the deciding word gets
block, head = np.unravel_index(share.argmax(), share.shape)
with inference_mode(model), record(values=["residual"]) as tape:
    model.hidden_states(ids)
x = tape["drop_emb.residual" if block == 0 else f"trf_blocks.{block - 1}.residual"].value
att, D = model.trf_blocks[block].att, config.emb_dim // config.n_heads
part = slice(head * D, (head + 1) * D)
scale, shift = (p.data for p in (model.trf_blocks[block].norm1.scale, model.trf_blocks[block].norm1.shift))
x = x - x.mean(-1, keepdims=True)
h = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * scale + shift
q, k = (h @ layer.weight.data[part].T for layer in (att.W_query, att.W_key))
scores = q @ k.swapaxes(1, 2) / np.sqrt(D)
masked = np.where(np.tri(TALE_TOKENS, dtype=bool), scores, -np.inf)
e = np.exp(masked - masked.max(-1, keepdims=True))
by_hand = e / e.sum(-1, keepdims=True)
a, at = tale[0], query[0]
print(f"\nblock {block}, head {head}, at '{words[a, at]}' of the first question, its five largest weights:")
for i in np.argsort(-by_hand[a, at])[:5]:
    sentence = " ".join(words[a, i // 5 * 5 : i // 5 * 5 + 4])
    print(f"  {words[a, i]:11} score {scores[a, at, i]:+6.2f}, weight {by_hand[a, at, i]:5.1%}   in '{sentence}.'")
error = float(np.abs(by_hand - weights[block, :, head]).max())
dive.claim(f"the formula gives the library's weights, to {error:.1e}", error < 1e-6)
dive.claim("each row sums to 1", np.abs(weights.sum(-1) - 1).max() < 1e-5)

# %% [markdown]
# **Causality.** Each row below is the same tale with one token changed.  Whatever comes before must not notice.

# %%
changed = np.tile(ids[0], (TALE_TOKENS, 1))
before = model(changed).data  # as many rows as below, so that the same kernels run
np.fill_diagonal(changed, (ids[0] + 1) % config.vocab_size)
after = model(changed).data
same = (before == after).all(-1)  # (T, T): whether position j of row i has the same bits
dive.claim("a changed token leaves every earlier output's bits", same[np.tri(TALE_TOKENS, k=-1, dtype=bool)].all())
dive.claim("and changes its own output", not same.diagonal().any())

# %% [markdown]
# **What each head looks at**, when the next word is a place.

# %%
is_place = np.isin(words, PLACES)[tale] & (np.arange(TALE_TOKENS) < query[:, None])
decides = np.arange(TALE_TOKENS) == key[:, None]
own = np.arange(TALE_TOKENS) // 5 == query[:, None] // 5
roles = {"the deciding place": decides, "other places": is_place & ~decides, "its own sentence": own}
rows = np.moveaxis(weights, 1, 2)[:, :, tale, query]  # (L, H, questions, T)
columns = {name: (rows * mask).sum(-1).mean(-1) for name, mask in roles.items()}
print(f"\nblock head  {'  '.join(roles)}  the rest")
for i, j in np.ndindex(share.shape):
    each = [column[i, j] for column in columns.values()]
    print(f"{i:5} {j:4}  " + "  ".join(f"{s:{len(n)}.0%}" for n, s in zip(roles, each, strict=True)), end="")
    print(f"  {1 - sum(each):8.0%}")
random = attention_weights(untrained, ids)[:, tale, :, query, key].mean(0).max()
dive.claim(f"the best head gives the deciding place {share.max():.0%}, over 40%", share.max() > 0.4)
dive.claim(f"that of an untrained model {random:.0%}, under 10%", random < 0.1)

# %% [markdown]
# **Does it matter?** Put another place where the deciding one stood: the answer must follow.  Then remove the head: its
# output no longer reaches the residual stream.

# %%
place_ids = np.array([encode(f" {place}", tokenizer)[0] for place in PLACES])


def answers(rows):
    """The places that the model finds likeliest after each question."""
    with inference_mode(model):
        return place_ids[model(rows).data[np.arange(len(query)), query][:, place_ids].argmax(-1)]


asked, moved = ids[tale], ids[tale]
true = asked[np.arange(len(query)), key]
right = float((answers(asked) == true).mean())
moved[np.arange(len(query)), key] = other = place_ids[(np.searchsorted(np.sort(place_ids), true) + 1) % len(PLACES)]
follow = float((answers(moved) == other).mean())
att.out_proj.weight.data[:, part] = 0
without = float((answers(asked) == true).mean())
print(f"\nplaces that are right: {right:.0%}; if the deciding place is another: {follow:.0%}; ", end="")
print(f"without the head: {without:.0%}; by chance: {1 / len(PLACES):.0%}")
dive.claim("most answers are right", right > 0.6)
dive.claim("most follow the word that decides", follow > 0.6)
dive.claim("without this one head, fewer are right", without < right - 0.1)

# %%
with style():
    figure = new_figure(8.6)
    steps, tale_axes, heads = figure.subfigures(3, height_ratios=(2.2, 5, 3))
    last = slice(at - 12, at + 1)
    three = {"scores": scores, "mask": np.tril(scores), "softmax": by_hand}
    for axes, (name, cells) in zip(steps.subplots(1, 3), three.items(), strict=True):
        draw_cells(axes, cells[a, last, last], np.abs(cells[a, last, last]).max())
        axes.set(title=name, xticks=[], yticks=[], xlabel="looked at", ylabel="looks" if name == "scores" else None)
    axes.barh([0, 0], 0, color=[BLUE, ORANGE], label=["positive scores, and weights", "negative scores"])  # a legend
    draw_tale(axes := tale_axes.subplots(), words[a], by_hand[a, at], at)
    axes.set_title(f"block {block}, head {head}, at the framed word")
    draw_cells(axes := heads.subplots(), LEGIBLE * share)
    for i, j in np.ndindex(share.shape):
        axes.text(j, i, f"{share[i, j]:.0%}", ha="center", va="center")
    axes.set(xticks=range(config.n_heads), yticks=range(config.n_layers), xlabel="Head", ylabel="Block")
    axes.set_title("attention to the place that decides")
dive.save(figure, "06_attention_anatomy", "One head finds the word that decides the next")

# %% [markdown]
# **Try this:**
#
# - Set N_UPDATES = 100: the grammar is learned by then, no head finds the deciding place yet, and four claims fail.
# - In `questions`, take start + 1 in place of start + 3: no head looks at "was", which is before every place.

# %%
dive.end(f"{N_TALES} tales, {len(query)} questions, {config.n_layers} blocks of {config.n_heads} heads")
