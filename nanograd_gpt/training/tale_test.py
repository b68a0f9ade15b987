"""Tales that a model writes during its training, and their score, which tells what a loss does not."""

from __future__ import annotations

import tiktoken

from ..errors import counted
from ..generation.generate import generate_batch
from ..generation.sampling import Sampling
from ..gpt.model import GPTModel
from ..nn.inference_mode import inference_mode
from ..rng import Generator, RandomStream
from ..tales.checker import Score, score
from ..tales.grammar import OPENING
from ..tokenizer.encoding import encode, padding_ids
from .corpus import TALES
from .metrics import Event
from .run import Run

N_TALES = 50
TEMPERATURE = 0.5
TALES_STREAM = 2  # its own, so that a run's updates do not depend on the test


class TaleTest:
    """The test of a run's model: it writes tales, from the same random numbers each time, and they are judged."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.known = frozenset(run.train_text.splitlines())

    def score(self, n: int = N_TALES) -> Score:
        """Judge n tales of the model as it is now; its mode is left as it was."""
        rng = Generator(self.run.config.training.seed, TALES_STREAM)
        return score(model_tales(self.run.model, self.run.tokenizer, n, rng), self.known)


def tale_test(run: Run) -> TaleTest | None:
    """The test for a run on tales; None for a run on another text."""
    return TaleTest(run) if run.config.data.data == TALES else None


def model_tales(
    model: GPTModel, tokenizer: tiktoken.Encoding, n: int, rng: RandomStream, temperature: float = TEMPERATURE
) -> list[str]:
    """n tales sampled from a model in one batch, each up to its newline or to the end of the context."""
    opening, newline = encode(OPENING, tokenizer), encode("\n", tokenizer)[-1]
    context, padding = model.config.context_length, padding_ids(tokenizer, model.config.vocab_size)
    longest = context - len(opening) + 1  # the last token, which may be the newline, need not fit the context
    with inference_mode(model):
        tales = generate_batch(model, [opening] * n, longest, context, Sampling(temperature), newline, rng, padding)
    return [tokenizer.decode(ids.tolist()) for ids in tales]


def score_line(found: Event) -> str:
    """A score, as an event of metrics.jsonl, in words."""
    copies = found["copies"]
    return (
        f"{counted(found['tales'], 'tale')} by the model: {_share(found['grammatical'], found['sentences'])} sentences "
        f"are grammatical, {_share(found['consistent'], found['tested'])} agree with who is where and who holds what, "
        f"{counted(copies, 'tale')} {'is a copy' if copies == 1 else 'are copies'} of training text"
    )


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}{f' ({part / whole:.0%})' if whole else ''}"
