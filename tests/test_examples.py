"""The examples in docstrings: they run, print what they say, and every public entry point has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import nanograd_gpt

NOT_IMPORTED = "nanograd_gpt.__main__", "nanograd_gpt.backend.cuda"  # runs the command line; needs CuPy
MODULES = sorted(
    found.name
    for found in pkgutil.walk_packages(nanograd_gpt.__path__, "nanograd_gpt.")
    if not found.name.startswith(NOT_IMPORTED)
)

ENTRY_POINTS = [
    "gradcheck.check.check_gradients",
    "generation.beam.beam_search",
    "generation.explain.explain_next",
    "generation.generate.generate_batch",
    "generation.generate.generate_text",
    "generation.sampling.Sampling",
    "generation.streaming.complete",
    "generation.streaming.complete_batch",
    "generation.streaming.complete_stream",
    "gpt.config.GPTConfig",
    "gpt.model.GPTModel",
    "optim.AdamW",
    "optim.clip_grad_norm",
    "tape.attention_weights.attention_weights",
    "tape.logit_lens.logit_lens",
    "tape.recorder.record",
    "tape.token_attribution.token_attribution",
    "training.checkpoint.load_checkpoint",
    "training.checkpoint.save_checkpoint",
    "training.data.create_dataloader_v1",
    "training.evaluation.evaluate_text",
    "training.loop.train_model_simple",
    "training.sources.load_pretrained",
    "weights.save.save_pretrained",
]


def examples_of(module: str) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(importlib.import_module(module)) if test.examples]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_print_what_they_say(module: str) -> None:
    runner, report = doctest.DocTestRunner(verbose=False), list[str]()
    for test in examples_of(module):
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_every_entry_point_has_an_example(name: str) -> None:
    module = f"nanograd_gpt.{name.rsplit('.', 1)[0]}"
    assert f"nanograd_gpt.{name}" in [test.name for test in examples_of(module)]
