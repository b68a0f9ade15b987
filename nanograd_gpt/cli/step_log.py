"""The log of updates: losses are read from a GPU a few at a time, since each reading waits for it."""

from __future__ import annotations

import math
import sys
from typing import Any

from ..backend.select import Device
from ..errors import RunError
from ..training.config import TrainingConfig
from ..training.loop import StepResult, evaluation_line
from ..training.loss import Evaluation
from ..training.metrics import MetricsLog

UPDATES_PER_READING = {"cpu": 1, "cuda": 16}
USUAL_LR = 1e-3  # AdamW's default
MUCH_WARM_UP = 1000  # updates; more rarely helps


class StepLog:
    """Writes updates to metrics.jsonl and to a progress bar, and prints evaluations."""

    def __init__(self, log: MetricsLog, bar: Any, device: Device, training: TrainingConfig) -> None:
        self.log, self.bar, self.training = log, bar, training
        self.at_once = UPDATES_PER_READING[device]
        self.unread: list[tuple[StepResult, float]] = []

    def add(self, report: StepResult, seconds: float) -> None:
        """Note an update, `seconds` after the start.  Raises RunError if a loss is not finite."""
        self.unread.append((report, seconds))
        if len(self.unread) >= self.at_once or report.evaluation is not None:
            self.flush()

    def flush(self) -> None:
        """Write all updates noted so far.  Raises RunError if a loss is not finite."""
        while self.unread:
            self._write(*self.unread.pop(0))

    def add_evaluation(self, report: StepResult, evaluation: Evaluation) -> None:
        """Write and print an evaluation after an update."""
        where = {"step": report.global_step, "epoch": report.epoch, "tokens": report.tokens_seen}
        self.log.write("evaluation", **where, **evaluation._asdict())
        self.bar.write(evaluation_line(report.epoch, report.global_step, evaluation), file=sys.stdout)

    def _write(self, report: StepResult, seconds: float) -> None:
        loss = float(report.loss)
        where = {"step": report.global_step, "epoch": report.epoch, "tokens": report.tokens_seen}
        norm = None if report.grad_norm is None else float(report.grad_norm)
        self.log.write("step", **where, loss=loss, lr=report.lr, grad_norm=norm, seconds=round(seconds, 4))
        if not math.isfinite(loss):
            raise RunError(f"training: the loss is {loss} at step {report.global_step}; {_remedy(self.training)}")
        if report.evaluation is not None:
            self.add_evaluation(report, report.evaluation)
        self.bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self.bar.update()


def _remedy(t: TrainingConfig) -> str:
    """The end of the error about a loss that is not finite: settings to try in a new run, none that is on already."""
    remedies = [f"a lower --lr, such as {min(t.lr / 10, USUAL_LR):g}"]
    if not t.max_norm:
        remedies.append("--max-norm 1")
    if t.schedule == "flat":
        remedies.append("--schedule cosine with --warmup-steps")
    elif t.warmup_steps < MUCH_WARM_UP:
        remedies.append(f"--warmup-steps above {t.warmup_steps}")
    return f"start a new run with {' or '.join(remedies)}"
