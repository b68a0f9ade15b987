"""Notes on settings of a training run that do less in their combination than they seem to."""

from __future__ import annotations

from argparse import Namespace

from ..errors import counted
from ..training.run import Run
from .options import flag_of, given_settings, note


def note_unused_settings(options: Namespace, run: Run) -> None:
    """Print a note for each option given that has no effect in this run, and for what is beyond the run's size."""
    given, data, t = given_settings(options), run.config.data, run.config.training
    ends = f"{counted(run.total_steps, 'update')} in {counted(t.epochs, 'epoch')}"
    enough = -(-t.max_steps // run.steps_per_epoch)  # epochs
    reasons = {
        "n_merges": f"with --tokenizer {data.tokenizer}" if data.tokenizer != "own" else "",
        "warmup_steps": "with --schedule flat" if t.schedule == "flat" else "",
        "min_lr": "with --schedule flat" if t.schedule == "flat" else "",
        "initial_lr": "without --warmup-steps" if t.warmup_steps == 0 else "",
        "max_steps": f"on a run of {ends}; add --epochs {enough}" if t.max_steps > run.total_steps else "",
        "decay": "with --weight-decay 0" if t.weight_decay == 0 else "",
    }
    if t.accumulate > (batches := len(run.train_loader)):
        note(f"--accumulate {t.accumulate} is more than an epoch has: each update takes {counted(batches, 'batch')}")
    if t.schedule != "flat" and not t.decay_steps and t.warmup_steps >= run.total_steps:
        note(
            f"the whole run, {counted(run.total_steps, 'update')}, is warm-up: the rate rises to its peak and does "
            f"not decay; choose --warmup-steps below {run.total_steps}, or train longer"
        )
    if options.graph == "off" and run.device == "cpu":
        note("--graph has no effect on the CPU")
    for name, reason in reasons.items():
        if given.get(name) and reason:
            note(f"{flag_of(name)} has no effect {reason}")
