# %% [markdown]
"""How does a model learn to write?  First which words follow each other, later what the text before them asks for.

You will see six moments of one training on tales, as a film strip: the five likeliest words after a prompt, what one
head looks at, and how the model goes on; and the same model trained on a short story, where memorising begins early.
Takes about 80 s; --fast: 15 s.
"""

# %%
from _deep_dive import DeepDive

# isort: split
from _attention_picture import draw_cells
from _tales_that_ask import tales_that_ask

# isort: split
import numpy as np

from nanograd_gpt import attention_weights, generate_text, set_threads
from nanograd_gpt.backend.plain.activation import softmax
from nanograd_gpt.nn.inference_mode import inference_mode
from nanograd_gpt.rng import Generator
from nanograd_gpt.tokenizer.encoding import encode
from nanograd_gpt.training.config import preset
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.tale_test import tale_test
from nanograd_gpt.viz.palette import BLUE, GREEN, ORANGE
from nanograd_gpt.viz.plots import new_figure, style
from nanograd_gpt.viz.tales import percentage

dive = DeepDive(__doc__)
set_threads(1)  # a second one would mostly wait in products as small as these, and more so on a busy machine

# %% [markdown]
# **The prompt** can only go on in one way: with the place where the bread was put, twelve words before.

# %%
PROMPT = "Once Anna was downtown. And Ben was upstairs. The bread was outside. The milk was upstairs. Ben found bread"
ANSWER = "outside"
MOMENTS = (0, 1 / 24, 1 / 6, 1 / 3, 2 / 3, 1)  # of the training
CONSISTENT = 45 if dive.fast else 60  # percent, of a model of two blocks and of four; by chance 25


def printable(text):
    """A text without what few fonts can draw: an untrained model chooses any byte."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text.strip())


def trained(run, look):
    """Train, look at each moment; returns epochs seen, training losses and validation losses at evaluations."""
    moments = [round(part * run.total_steps) for part in MOMENTS]
    look(run, 0)
    curve = []
    for step in run.steps():
        done = step.global_step + 1
        if step.evaluation or done == run.total_steps:
            curve.append((done / run.steps_per_epoch, *(step.evaluation or run.evaluate())[:2]))
        if done in moments:
            look(run, done / run.steps_per_epoch)
    return np.array(curve).T


epochs, top, attention, samples, scores = [], [], [], [], []


def look(run, epoch):
    """Note what the model predicts after the prompt, what its heads look at, what it writes, and how that is judged."""
    ids = np.array(encode(PROMPT, run.tokenizer))
    with inference_mode(run.model):
        p = softmax(run.model(ids[None]).data[0, -1], axis=-1)
    new = generate_text(run.model, ids[None], 12, 66, temperature=0.5, rng=Generator(123))[0, len(ids) :]
    epochs.append(epoch)
    top.append(p)
    attention.append(attention_weights(run.model, ids[None])[:, 0])
    samples.append(printable(run.tokenizer.decode(new.tolist())))
    scores.append(tale_test(run).score(25 if dive.fast else 50))


text, settings = tales_that_ask() if dive.fast else (None, {})
settings |= {"eval_freq": 50} if dive.fast else {}
tales = Run(preset("tales").replace(settings), "cpu", text=text)
tokens = [printable(tales.tokenizer.decode([i])) for i in range(tales.tokenizer.n_vocab)]
print(f"tales: {tales.total_steps:,} updates, on one thread")
tales_curve = trained(tales, look)
answer = tokens.index(ANSWER)
key = encode(PROMPT, tales.tokenizer).index(answer)
block, head = np.unravel_index(attention[-1][:, :, -1, key].argmax(), attention[-1].shape[:2])

# %%
grammatical = [percentage(s.grammatical, s.sentences) for s in scores]
consistent = [percentage(s.consistent, s.tested) for s in scores]
print(f"\nafter '... {PROMPT[-43:]}', and the attention of block {block}, head {head} to '{ANSWER}':")
for i, epoch in enumerate(epochs):
    five = "  ".join(f"{tokens[j]} {top[i][j]:.0%}" for j in np.argsort(-top[i])[:5])
    print(f"epoch {epoch:.2f}  {grammatical[i]:3.0f}% grammatical, {consistent[i]:3.0f}% consistent,", end="")
    print(f" attention {attention[i][block, head, -1, key]:4.0%}\n    {five}\n    {samples[i]}")
print()
dive.claim(f"untrained, no word is likelier than 5%: {top[0].max():.1%}", top[0].max() < 0.05)
dive.claim(f"in the end '{ANSWER}' is the likeliest, {top[-1][answer]:.0%}", top[-1].argmax() == answer)
dive.claim(
    "the head learns to look there", attention[-1][block, head, -1, key] > 0.3 > attention[1][block, head, -1, key]
)
goals = (grammatical, 90), (consistent, CONSISTENT)
first = [next((i for i, share in enumerate(shares) if share >= least), 99) for shares, least in goals]
dive.claim(f"90% are grammatical before {CONSISTENT}% are consistent, and both come", first[0] < first[1] < 99)

# %% [markdown]
# **Where memorising begins.** The story has 32,000 characters and no rules to find.  A model of the same size stores
# it: from some epoch on its training loss falls, and its validation loss rises.  That of the tales goes on falling.

# %%
small = {"emb_dim": 64, "n_heads": 4, "drop_rate": 0.0, "lr": 5e-3}
small |= {"epochs": 16, "n_layers": 2} if dive.fast else {}
story_curve = trained(Run(preset("tiny").replace(small), "cpu"), lambda run, epoch: None)
at = int(story_curve[2].argmin())
print(f"story: validation loss {story_curve[2][at]:.2f} at epoch {story_curve[0][at]:.0f}, then up to ", end="")
print(
    f"{story_curve[2][-1]:.2f}, while the training loss falls from {story_curve[1][at]:.2f} to {story_curve[1][-1]:.2f}"
)
turns = story_curve[2][-1] > 1.03 * story_curve[2][at] and story_curve[1][-1] < 0.8 * story_curve[1][at]
dive.claim("the story is memorised from then on", turns)
ratio = tales_curve[2][-1] / tales_curve[1][-1]
dive.claim(f"of the tales, validation loss ends {ratio - 1:+.0%} from training loss, 10% at most", abs(ratio - 1) < 0.1)

# %%
with style():
    figure = new_figure(11.5)
    *strips, lower = figure.subfigures(len(epochs) + 1, height_ratios=[*[1.6] * (len(epochs) - 1), 1.9, 2.2])
    for i, strip in enumerate(strips):
        left, right = strip.subplots(1, 2)
        best = np.argsort(-top[i])[:5]
        left.barh(range(5), 100 * top[i][best], color=[ORANGE if j == answer else BLUE for j in best])
        left.set_yticks(range(5), [tokens[j] or "(space)" for j in best])
        left.invert_yaxis()
        left.set(xlim=(0, 100), xlabel="probability (%)" if i == len(strips) - 1 else None)
        draw_cells(right, attention[i][block, head])
        right.set(xticks=[key], yticks=[right.get_ylim()[0] - 0.5])
        right.set_xticklabels([ANSWER])
        right.set_yticklabels(["bread"])
        strip.suptitle(f"Epoch {epochs[i]:.2g}: {samples[i][:28]}...")
    for axes, curve, name in zip(lower.subplots(1, 2), (tales_curve, story_curve), ("Tales", "Story"), strict=True):
        axes.plot(curve[0], curve[1], color=BLUE, label="training loss" if name == "Tales" else None)
        axes.plot(curve[0], curve[2], "-.", color=GREEN, label="validation loss" if name == "Tales" else None)
        axes.set(title=name, xlabel="Epochs", ylabel="Nats per token" if name == "Tales" else None, ylim=(0, None))
title = "After 'Ben found bread': the likeliest words,\na head's attention, and how the text goes on"
dive.save(figure, "10_learning_to_write", title)

# %% [markdown]
# **Try this:**
#
# - In PROMPT, let the bread be downtown, and change ANSWER: the bars, and the head's column, move.
# - Give the story "drop_rate": 0.3: its training loss falls less far, and its validation loss turns later.

# %%
dive.end(f"{tales.total_steps:,} updates on tales, six moments")
