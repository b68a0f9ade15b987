"""The log of updates: losses are read from a GPU a few at a time, since each reading waits for it."""

from __future__ import annotations

import math
import sys
from typing import Any

from ..errors import NonFiniteError
from ..training.config import TrainingConfig
from ..training.finite import not_finite_after_backward
from ..training.loop import StepResult, evaluation_line
from ..training.loss import Evaluation
from ..training.metrics import MetricsLog
from ..training.run import Run
from ..training.tale_test import tale_test

UPDATES_PER_READING = {"cpu": 1, "cuda": 16}
MOST_SKIPPED = 100  # updates in a row
USUAL_LR = 1e-3  # AdamW's default
MUCH_WARM_UP = 1000  # updates; more rarely helps


class StepLog:
    """Writes updates to metrics.jsonl and to a progress bar, and prints evaluations.

    In a run on tales, the model writes some at each evaluation, which are judged.
    """

    def __init__(self, log: MetricsLog, bar: Any, run: Run) -> None:
        self.log, self.bar, self.run, self.training = log, bar, run, run.config.training
        self.at_once = UPDATES_PER_READING[run.device]
        self.tales = tale_test(run)
        self.skipped = 0  # updates in a row, the last ones
        self.unread: list[tuple[StepResult, float]] = []

    def add(self, report: StepResult, seconds: float) -> None:
        """Note an update, `seconds` after the start.  Raises NonFiniteError if a loss is not finite."""
        self.unread.append((report, seconds))
        if len(self.unread) >= self.at_once or report.evaluation is not None:
            self.flush()

    def flush(self) -> None:
        """Write all updates noted so far.  Raises NonFiniteError if a loss is not finite."""
        while self.unread:
            self._write(*self.unread.pop(0))

    def add_evaluation(self, evaluation: Evaluation, *, step: int, epoch: int, tokens: int) -> None:
        """Write and print an evaluation after update `step`, in an epoch counted from 1."""
        self.log.write("evaluation", step=step, epoch=epoch, tokens=tokens, **evaluation._asdict())
        self.bar.write(evaluation_line(epoch, step, evaluation), file=sys.stdout)
        if self.tales is not None:
            self.log.write("tales", step=step, epoch=epoch, tokens=tokens, **self.tales.score()._asdict())

    def _write(self, report: StepResult, seconds: float) -> None:
        loss = float(report.loss)
        where = {"step": report.global_step, "epoch": report.epoch, "tokens": report.tokens_seen}
        norm = None if report.grad_norm is None else float(report.grad_norm)
        if report.skipped:
            self._skip(report.global_step, loss)
            return
        self.skipped = 0
        self.log.write("step", **where, loss=loss, lr=report.lr, grad_norm=norm, seconds=round(seconds, 4))
        evaluation = report.evaluation or Evaluation(0.0, 0.0)
        for what, value in (
            ("loss", loss),
            ("gradient norm", norm or 0.0),
            ("training loss in evaluation", evaluation.train_loss),
            ("validation loss", evaluation.val_loss),
        ):
            if not math.isfinite(value):
                raise self._diverged(f"the {what} is {value} at step {report.global_step}")
        if report.layers is not None:
            self.log.write("layers", **where, **report.layers.event())
        if report.evaluation is not None:
            self.add_evaluation(report.evaluation, **where)
        self.bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self.bar.update()

    def _skip(self, step: int, loss: float) -> None:
        """Note an update that changed nothing.  Raises NonFiniteError after many in a row."""
        self.skipped += 1
        self.log.write("skipped", step=step)
        reason = f"its loss is {loss}" if not math.isfinite(loss) else "its gradient is not finite"
        self.bar.write(f"note: step {step} is skipped: {reason}", file=sys.stderr)
        self.bar.update()
        if self.skipped == MOST_SKIPPED:
            raise self._diverged(f"the last {MOST_SKIPPED} updates were skipped")

    def _diverged(self, what: str) -> NonFiniteError:
        first = not_finite_after_backward(self.run.model)
        return NonFiniteError(f"training: {what}{f' ({first})' if first else ''}; {_remedy(self.training)}")


def _remedy(t: TrainingConfig) -> str:
    """The end of the error about a loss that is not finite: settings to try in a new run, none that is on already."""
    remedies = [f"a lower --lr, such as {min(t.lr / 10, USUAL_LR):g}"]
    if not t.max_norm:
        remedies.append("--max-norm 1")
    if t.schedule == "flat":
        remedies.append("--schedule cosine with --warmup-steps")
    elif t.warmup_steps < MUCH_WARM_UP:
        remedies.append(f"--warmup-steps above {t.warmup_steps}")
    return f"start a new run with {', or '.join(remedies)}"
