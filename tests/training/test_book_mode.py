"""Training with PyTorch's random numbers: a single stream, PyTorch's order of draws, exact resume."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.small import BYTES, TEXT

from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn.layers import Dropout
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import TorchStream
from nanograd_gpt.tokenizer.tokenizer import text_to_token_ids, token_ids_to_text
from nanograd_gpt.training.config import RunConfig, TrainingConfig, book, preset
from nanograd_gpt.training.corpus import split_text
from nanograd_gpt.training.data import create_dataloader_v1
from nanograd_gpt.training.find_checkpoint import find_checkpoint
from nanograd_gpt.training.loop import StepResult, train_model_simple
from nanograd_gpt.training.run import Run, streams

SIZES = {"n_merges": 10, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 1, "drop_rate": 0.2}
COURSE = {"batch_size": 10, "epochs": 2, "schedule": "flat", "max_norm": 0.0, "eval_freq": 3, "eval_iter": 2}


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """5 batches an epoch."""
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return preset("tiny").replace({**SIZES, **COURSE, "data": str(path), "random": "torch"})


def facts(report: StepResult) -> tuple[Any, ...]:
    return report.global_step, float(report.loss), report.evaluation


# --- one stream


def test_the_books_settings_ask_for_pytorchs_numbers_and_others_do_not() -> None:
    assert book().training.random == "torch"
    assert preset("gpt2-124m").training.random == preset("tiny").training.random == "own"


def test_model_dropout_and_both_loaders_share_one_stream(config: RunConfig) -> None:
    run = Run(config, "cpu")
    dropouts = [run.model.drop_emb]
    for block in run.model.trf_blocks:
        dropouts += [block.att.dropout, block.drop_shortcut]
    assert all(isinstance(module, Dropout) and module.rng is run.model.rng for module in dropouts)
    assert isinstance(run.model.rng, TorchStream)
    assert run.data_rng is run.train_loader.rng is run.val_loader.rng is run.model.rng


def test_own_numbers_come_in_two_streams(config: RunConfig) -> None:
    model, data = streams(TrainingConfig(random="own"))
    assert model is not data
    assert model.state() != data.state()


@pytest.mark.parametrize("seed", [0, 123])
def test_the_model_is_what_is_drawn_first(config: RunConfig, seed: int) -> None:
    run, stream = Run(config.replace({"seed": seed}), "cpu"), TorchStream(seed)
    model = GPTModel(run.config.model, rng=stream)
    for (name, array), (_, expected) in zip(run.model.state_dict().items(), model.state_dict().items(), strict=True):
        np.testing.assert_array_equal(array, expected, err_msg=name)
    assert run.data_rng.state() == stream.state()


def test_an_epoch_draws_an_order_then_masks_step_by_step_and_two_orders_an_evaluation(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    keep_mask, epoch_order = TorchStream.keep_mask, TorchStream.epoch_order

    def mask(self: TorchStream, shape: tuple[int, ...], rate: float) -> Any:
        drawn.append(shape)
        return keep_mask(self, shape, rate)

    def order(self: TorchStream, n: int, shuffle: bool) -> Any:
        drawn.append("train" if shuffle else "validation")
        return epoch_order(self, n, shuffle)

    run = Run(config, "cpu")
    monkeypatch.setattr(TorchStream, "keep_mask", mask)
    monkeypatch.setattr(TorchStream, "epoch_order", order)
    list(run.steps())
    forward = [(10, 8, 8), (10, 2, 8, 8), (10, 8, 8), (10, 8, 8)]  # embeddings, attention, and both residuals
    evaluation = ["train", "validation"]
    first = ["train", *forward, *evaluation, *forward * 3, *evaluation, *forward]  # after steps 0 and 3
    second = ["train", *forward * 2, *evaluation, *forward * 3, *evaluation]  # after steps 6 and 9
    assert drawn == first + second


# --- resuming


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 6, 9], ids=lambda k: f"after {k} of 10 updates")
def test_a_run_resumed_within_or_after_an_epoch_goes_on_to_the_last_bit(
    config: RunConfig, tmp_path: Path, stop: int
) -> None:
    whole, first, second = (Run(config, "cpu") for _ in range(3))
    assert len(whole.train_loader) == 5
    expected = [facts(report) for report in whole.steps()]
    assert len(expected) == 10

    got = [facts(report) for report in islice(first.steps(), stop)]
    first.save(tmp_path)
    second.data_rng.normal((3,))  # wherever its stream was
    second.load(find_checkpoint(tmp_path).path)
    assert second.data_rng.state() == second.model.rng.state() == first.data_rng.state()
    got += [facts(report) for report in second.steps()]
    assert got == expected
    assert second.optimizer.flat.data.tobytes() == whole.optimizer.flat.data.tobytes()
    assert second.data_rng.state() == whole.data_rng.state()


def test_the_state_in_a_checkpoint_is_the_streams(config: RunConfig, tmp_path: Path) -> None:
    run = Run(config, "cpu")
    list(islice(run.steps(), 2))
    run.save(tmp_path)
    saved = json.loads((find_checkpoint(tmp_path).path / "state.json").read_text(encoding="utf-8"))
    assert saved["model_stream"] == saved["data_stream"] == run.data_rng.state()
    continued = TorchStream()
    continued.set_state(saved["data_stream"])
    np.testing.assert_array_equal(continued.uniform((700,)), run.data_rng.uniform((700,)))


# --- a whole training in PyTorch

PROMPT = "the sun"
MODEL = {
    "vocab_size": BYTES.n_vocab,
    "context_length": 16,
    "emb_dim": 64,
    "n_heads": 4,
    "n_layers": 2,
    "drop_rate": 0.1,
    "qkv_bias": False,
}
LOADING = {"batch_size": 2, "max_length": 16, "stride": 16}
LR, EPOCHS, EVAL_FREQ, EVAL_ITER = 1e-2, 2, 5, 3


def trained_in_pytorch(seed: int) -> tuple[list[float], list[float], list[int], list[str], Any]:
    """Run the document's train_model_simple in PyTorch; returns losses, tokens seen, samples and a last draw."""
    torch = pytest.importorskip("torch")
    import oracle.book_model as document
    from goldens.make_torch_stream_goldens import has_our_normal_numbers

    if not has_our_normal_numbers():
        pytest.skip("without AVX2 PyTorch's normal numbers have other last bits")

    def windows(text: str) -> Any:
        ids = BYTES.encode(text)
        starts = range(0, len(ids) - 16, 16)
        inputs, targets = (torch.tensor([ids[i + k : i + k + 16] for i in starts]) for k in (0, 1))
        return torch.utils.data.TensorDataset(inputs, targets)

    def calc_loss_loader(loader: Any, num_batches: int) -> float:
        total_loss, num_batches = 0.0, min(num_batches, len(loader))
        for i, (input_batch, target_batch) in enumerate(loader):
            if i >= num_batches:
                break
            total_loss += document.calc_loss_batch(input_batch, target_batch, model).item()
        return total_loss / num_batches

    train_text, val_text, _ = split_text(TEXT)
    torch.manual_seed(seed)
    model = document.GPTModel(MODEL)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1)
    train_loader, val_loader = (
        torch.utils.data.DataLoader(windows(text), batch_size=2, shuffle=train, drop_last=train)
        for text, train in ((train_text, True), (val_text, False))
    )
    train_losses, val_losses, track_tokens_seen, samples = [], [], [], []
    tokens_seen, global_step = 0, -1
    for _ in range(EPOCHS):
        model.train()
        for input_batch, target_batch in train_loader:
            document.training_step(input_batch, target_batch, model, optimizer)
            tokens_seen += input_batch.numel()
            global_step += 1
            if global_step % EVAL_FREQ == 0:
                model.eval()
                with torch.no_grad():
                    train_losses.append(calc_loss_loader(train_loader, EVAL_ITER))
                    val_losses.append(calc_loss_loader(val_loader, EVAL_ITER))
                model.train()
                track_tokens_seen.append(tokens_seen)
        model.eval()
        ids = document.generate_text(model, torch.from_numpy(text_to_token_ids(PROMPT, BYTES)), 50, 16)
        samples.append(token_ids_to_text(ids.numpy(), BYTES).replace("\n", " "))
        model.train()
    return train_losses, val_losses, track_tokens_seen, samples, torch.rand(3).numpy()


@pytest.mark.parametrize("seed", [123, 2**40 + 1])
def test_a_whole_training_with_dropout_prints_what_pytorchs_prints(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    train_losses, val_losses, tokens_seen, samples, number = trained_in_pytorch(seed)
    from goldens.make_torch_stream_goldens import masks_are_the_twisters  # needs PyTorch too

    stream = TorchStream(seed, "mt19937" if masks_are_the_twisters() else "mcg31")
    model = GPTModel(MODEL, rng=stream)
    train_text, val_text, _ = split_text(TEXT)
    loaders = [
        create_dataloader_v1(text, **LOADING, shuffle=train, drop_last=train, tokenizer=BYTES, rng=stream)  # type: ignore[arg-type]  # mypy reads the dict's values as one type
        for text, train in ((train_text, True), (val_text, False))
    ]
    optimizer = AdamW(model.parameters(), lr=LR, weight_decay=0.1)
    ours = train_model_simple(model, *loaders, optimizer, "cpu", EPOCHS, EVAL_FREQ, EVAL_ITER, PROMPT, BYTES)
    lines = capsys.readouterr().out.splitlines()
    assert len(train_losses) == 8
    assert ours[0] == pytest.approx(train_losses, abs=1e-5)
    assert ours[1] == pytest.approx(val_losses, abs=1e-5)
    assert ours[2] == tokens_seen
    assert train_losses[-1] < train_losses[0] - 1
    assert [line for line in lines if not line.startswith("Ep ")] == samples
    assert all(len({*sample}) > 5 for sample in samples)  # they are not one letter over and over
    np.testing.assert_array_equal(stream.uniform((3,)), number)


@pytest.mark.parametrize(("random", "dropout"), [("torch", "mt19937"), ("torch-mcg31", "mcg31")])
def test_both_published_dropout_streams_can_be_chosen(random: str, dropout: str) -> None:
    model_stream, data_stream = streams(TrainingConfig(random=random))
    assert model_stream is data_stream
    assert model_stream.state()["dropout"] == dropout
