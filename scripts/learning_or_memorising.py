"""How does one see that a model has learned something, and has not only stored its text?  By what a loss does not say.

You will see one small GPT store a story: its training loss falls on, and its validation loss rises; and another learn
the rules of tales, which have a grammar and a memory, so that each sentence that it writes is right or wrong.
Takes about 120 s; --fast: 15 s.

Try this: with TEMPERATURE = 1.0 in nanograd_gpt/training/tale_test.py, more sentences contradict, since less likely
words are chosen too.  With CHARACTERS = 60_000 in nanograd_gpt/tales/generator.py, the tales are few enough to store:
their validation loss rises like the story's.
"""

from __future__ import annotations

import sys

from _deep_dive import DeepDive, run

# isort: split
from typing import TYPE_CHECKING, NamedTuple

from _tales_that_ask import tales_that_ask

from nanograd_gpt import set_threads
from nanograd_gpt.tales.checker import Score
from nanograd_gpt.training.config import RunConfig, preset
from nanograd_gpt.training.run import Run
from nanograd_gpt.training.tale_test import tale_test
from nanograd_gpt.viz.palette import BLUE, GREEN, INK, ORANGE, PURPLE
from nanograd_gpt.viz.plots import new_figure, style
from nanograd_gpt.viz.tales import percentage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GOALS = {"grammatical": 95, "consistent": 70, "copies": 20}  # percent
SAME = 0.1  # relative difference of two losses
FAST_STORY = {"emb_dim": 64, "n_heads": 4, "n_layers": 2, "drop_rate": 0.0, "lr": 5e-3, "epochs": 16}
FAST_GOALS = {"grammatical": 90, "consistent": 45}


class Course(NamedTuple):
    """A training's evaluations: epochs seen, both losses, and what the model wrote."""

    epochs: list[float]
    train: list[float]
    val: list[float]
    scores: list[Score]  # on tales


def train(config: RunConfig, text: str | None = None) -> Course:
    """Train a model and print its evaluations; on tales, each with the judgement of fifty tales."""
    training, course = Run(config, "cpu", text=text), Course([], [], [], [])
    test = tale_test(training)
    print(f"\n{config.data.data}: {len(training.text):,} characters, {training.total_steps} updates")
    print("  epoch  train loss  val loss" + "  grammatical  consistent  copies" * (test is not None))
    for report in training.steps():
        last = report.global_step + 1 == training.total_steps
        if report.evaluation is None and not last:
            continue
        evaluation = report.evaluation or training.evaluate()
        course.epochs.append((report.global_step + 1) / training.steps_per_epoch)
        course.train.append(evaluation.train_loss)
        course.val.append(evaluation.val_loss)
        line = f"  {course.epochs[-1]:5.1f}  {evaluation.train_loss:10.3f}  {evaluation.val_loss:8.3f}"
        if test is not None:
            course.scores.append(score := test.score())
            line += f"  {percentage(score.grammatical, score.sentences):10.0f}%"
            line += f"  {percentage(score.consistent, score.tested):9.0f}%  {score.copies:6}"
        print(line, flush=True)
    return course


def main(argv: list[str] | None = None) -> int:
    dive = DeepDive(__doc__, argv)
    text, tales_settings = tales_that_ask() if dive.fast else (None, {})
    goals = GOALS | (FAST_GOALS if dive.fast else {})
    if dive.fast:
        set_threads(1)  # a second one would mostly wait in products as small as these
        tales_settings["eval_freq"] = 50

    # The story is short: twenty passes store it.  Its training loss falls on and on, its validation loss rises again.
    story = train(preset("tiny").replace(FAST_STORY if dive.fast else {}))
    lowest = min(story.val)
    dive.claim(
        f"the story is memorised: validation loss {lowest:.2f} at its lowest, {story.val[-1]:.2f} at the end",
        story.val[-1] > 1.03 * lowest and story.train[-1] < 0.6 * story.val[-1],
    )

    # Tales are many, and all follow the same rules.  Both losses stay together: what helps on one half, helps on both.
    tales = train(preset("tales").replace(tales_settings), text)
    gap = tales.val[-1] / tales.train[-1] - 1
    dive.claim(f"of the tales, the rules are learned: the losses differ by {gap:.0%} at the end", abs(gap) < SAME)

    # A loss cannot tell grammar from memory.  The judge can: grammar comes first, since it needs the last few words.
    # Who is where and who holds what follows later, since it needs words that stand far apart.
    last = tales.scores[-1]
    shares = {
        "grammatical": percentage(last.grammatical, last.sentences),
        "consistent": percentage(last.consistent, last.tested),
        "copies": percentage(last.copies, last.tales),
    }
    print()
    for name in ("grammatical", "consistent"):
        dive.claim(f"{shares[name]:.0f}% of sentences are {name}: {goals[name]}% or more", shares[name] >= goals[name])
    grammar = first_above(90, [percentage(s.grammatical, s.sentences) for s in tales.scores])
    memory = first_above(shares["consistent"] * 0.9, [percentage(s.consistent, s.tested) for s in tales.scores])
    dive.claim("grammar is learned before consistency", grammar < memory)
    dive.claim(
        f"{shares['copies']:.0f}% of tales are copies: {goals['copies']}% or less", shares["copies"] <= goals["copies"]
    )
    dive.save(
        draw(story, tales),
        "learning_or_memorising",
        "A story is stored, and its validation loss rises;\nof tales, the rules are learned",
    )
    dive.end(f"{shares['grammatical']:.0f}% grammatical, {shares['consistent']:.0f}% consistent")
    return 0


def first_above(least: float, shares: list[float]) -> int:
    """Index of the first share of at least this; their number if there is none."""
    return next((i for i, share in enumerate(shares) if share >= least), len(shares))


def draw(story: Course, tales: Course) -> Figure:
    """The losses of both trainings, and what the second model's tales are like."""
    with style():
        figure = new_figure(7)
        rows = figure.subplots(3)
        for axes, course, name in ((rows[0], story, "story"), (rows[1], tales, "tales")):
            axes.plot(course.epochs, course.train, color=BLUE, label="training loss" if axes is rows[0] else None)
            axes.plot(
                course.epochs, course.val, "-.", color=ORANGE, label="validation loss" if axes is rows[0] else None
            )
            axes.set(xlabel="Epochs", ylabel=f"Loss on the {name}\n(nats per token)", ylim=(0, None))
        for name, part, whole, colour in (
            ("grammatical", "grammatical", "sentences", GREEN),
            ("consistent", "consistent", "tested", PURPLE),
            ("copied tales", "copies", "tales", INK),
        ):
            shares = [percentage(getattr(s, part), getattr(s, whole)) for s in tales.scores]
            rows[2].plot(tales.epochs, shares, color=colour, label=name)
        rows[2].set(xlabel="Epochs", ylabel="Sentences and\ntales (%)", ylim=(-3, 103))
        return figure


if __name__ == "__main__":
    sys.exit(run(main))
