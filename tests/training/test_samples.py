"""samples.txt holds each sample once, whatever a run went through."""

from __future__ import annotations

from pathlib import Path

from nanograd_gpt.training.samples import SAMPLES, append_sample, cut_samples


def test_samples_after_the_checkpoint_resumed_from_are_removed_and_a_line_cut_short(tmp_path: Path) -> None:
    for epoch, step in ((1, 4), (2, 9), (3, 14)):
        append_sample(tmp_path, epoch, step, f"text {epoch}")
    with (tmp_path / SAMPLES).open("a", encoding="utf-8") as file:
        file.write("Epoch 4 (step 19): te")
    cut_samples(tmp_path, 9)
    text = (tmp_path / SAMPLES).read_text(encoding="utf-8")
    assert text == "Epoch 1 (step 4): text 1\nEpoch 2 (step 9): text 2\n"


def test_without_samples_there_is_no_file(tmp_path: Path) -> None:
    cut_samples(tmp_path, 0)
    assert not (tmp_path / SAMPLES).exists()
