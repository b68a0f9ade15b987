"""Settings of a training run that were given, but change nothing in this combination."""

from __future__ import annotations

from argparse import Namespace

from ..errors import counted
from ..training.run import Run
from .options import flag_of, given_settings, note


def note_unused_settings(options: Namespace, run: Run) -> None:
    """Print a note for each option given on the command line that has no effect in this run."""
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
    if options.graph == "off" and run.device == "cpu":
        note("--graph has no effect on the CPU")
    for name, reason in reasons.items():
        if given.get(name) and reason:
            note(f"{flag_of(name)} has no effect {reason}")
