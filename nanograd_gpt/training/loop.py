"""The training loop: a generator that yields a StepResult after every update; its caller decides what to do with it.

`train_model_simple` prints as the book does; the command line writes metrics, figures and checkpoints.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import isfinite
from typing import Any

import tiktoken

from ..arguments import whole_number
from ..backend.contract import Array, Ints
from ..backend.cpu.allocator import keep_freed_memory
from ..backend.select import Device
from ..errors import InputError
from ..generation.generate import generate_text
from ..gpt.model import GPTModel
from ..nn.inference_mode import inference_mode
from ..optim import AdamW
from ..parallel.ranks import ALONE, Ranks
from ..tokenizer.encoding import padding_ids
from ..tokenizer.tokenizer import text_to_token_ids, token_ids_to_text
from .data import Batch, DataLoader
from .layer_scales import LayerScales, with_layer_scales
from .loss import Evaluation, calc_loss_batch, evaluate_model
from .replay import Note, ReplayedUpdates, Update, UpdateResult
from .schedule import Schedule
from .weights import weights_hash

SAMPLE_TOKENS = 50  # generated after an epoch, as in the book


@dataclass
class Progress:
    """Position in a training run: together with the weights and the random streams, all that resuming needs."""

    epoch: int = 0  # epochs completed
    batch: int = 0  # batches done in the current epoch
    global_step: int = -1  # number of the last update; the first one is 0, as in the book
    tokens_seen: int = 0
    epoch_stream: dict[str, Any] | None = None  # the loader's stream before this epoch's order was drawn
    best_step: int | None = None  # number of the update after which the validation loss was lowest
    best_val_loss: float | None = None

    def note_best(self, step: int, val_loss: float) -> None:
        """Keep the step and the loss of an evaluation if it is the best so far."""
        if isfinite(val_loss) and (self.best_val_loss is None or val_loss < self.best_val_loss):
            self.best_step, self.best_val_loss = step, val_loss


@dataclass(frozen=True)
class StepResult:
    """The result of one update.  Arrays stay on the device; reading one synchronises."""

    epoch: int  # from 1
    global_step: int
    tokens_seen: int
    loss: Array  # ()
    lr: float
    grad_norm: Array | None  # () before clipping; None without clipping
    evaluation: Evaluation | None
    epoch_ended: bool
    skipped: bool = False  # the loss or the gradient was not finite, and nothing was updated
    layers: LayerScales | None = None  # of the updates that are watched


def training_steps(
    model: GPTModel,
    train_loader: DataLoader,
    val_loader: DataLoader,
    optimizer: AdamW,
    device: Device,
    *,
    num_epochs: int,
    eval_freq: int,
    eval_iter: int,
    watch_every: int = 0,
    max_steps: int | None = None,
    schedule: Schedule | None = None,
    max_norm: float | None = None,
    clip_from: int = 0,
    accumulate: int = 1,
    progress: Progress | None = None,
    skip_nonfinite: bool = False,
    replay_note: Note | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[StepResult]:
    """Train for num_epochs passes over train_loader, or max_steps updates; yield a StepResult after every update.

    An evaluation over eval_iter batches follows update 0 and every eval_freq-th after it.  Each update accumulates the
    gradients of `accumulate` batches, clipped to the global norm max_norm from update clip_from on.
    Update 0 and every watch_every-th after it is measured by layer; with 0, none is.
    `schedule` sets optimizer.lr before each update; without one it is left alone.
    `progress` says where to start, and is updated in place.
    With `skip_nonfinite`, updates whose loss or gradient is nan or infinite change nothing; a GPU is waited for then.
    With `replay_note`, updates on a GPU are replayed from a CUDA graph; it is called with the reason if they are not.
    With `ranks`, each of several processes takes its rows of every batch, and all get the same results.
    """
    if len(train_loader) == 0:
        raise InputError("training data: too short for one batch; use more text, a shorter context or a smaller batch")
    num_epochs, eval_freq = whole_number("num_epochs", num_epochs, 0), whole_number("eval_freq", eval_freq, 1)
    watch_every = whole_number("watch_every", watch_every, 0)
    eval_iter, accumulate = whole_number("eval_iter", eval_iter, 1), whole_number("accumulate", accumulate, 1)
    own = {id(p) for p in model.parameters()}
    if not all(id(p) in own for p in optimizer.parameters):
        raise InputError("optimizer: it has parameters of another model; make it with AdamW(model.parameters())")
    max_steps = None if max_steps is None else whole_number("max_steps", max_steps, 0)
    progress = progress or Progress()
    keep_freed_memory()
    update = make_update(model, optimizer, device, replay_note, skip_nonfinite, ranks)
    for epoch in range(progress.epoch, num_epochs):
        model.train()
        order = _epoch_order(train_loader, progress)
        batches = train_loader.batches(order, first=progress.batch)
        while group := [*islice(batches, accumulate)]:
            if max_steps is not None and progress.global_step + 1 >= max_steps:
                return
            ranks.at_update(progress.global_step + 1, partial(state_of, model, train_loader, optimizer, progress))
            if schedule is not None:
                optimizer.lr = schedule(progress.global_step + 1)
            clipped = progress.global_step + 1 >= clip_from
            taken = list(optimizer.steps)
            watched = watch_every > 0 and (progress.global_step + 1) % watch_every == 0
            take = partial(update, group, max_norm if clipped else None, watched)
            (loss, grad_norm), layers = with_layer_scales(model, take) if watched else (take(), None)
            progress.tokens_seen += ranks.size * sum(inputs.size for inputs, _ in group)
            progress.global_step += 1
            progress.batch += len(group)
            epoch_ended = progress.batch == len(train_loader)
            if epoch_ended:
                progress.epoch, progress.batch, progress.epoch_stream = epoch + 1, 0, None
            evaluation = None
            if progress.global_step % eval_freq == 0:
                evaluation = evaluate_model(model, train_loader, val_loader, device, eval_iter, ranks=ranks)
                progress.note_best(progress.global_step, evaluation.val_loss)
            yield StepResult(
                epoch=epoch + 1,
                global_step=progress.global_step,
                tokens_seen=progress.tokens_seen,
                loss=loss,
                lr=optimizer.lr,
                grad_norm=grad_norm,
                evaluation=evaluation,
                epoch_ended=epoch_ended,
                skipped=optimizer.steps == taken,
                layers=layers,
            )


def _epoch_order(loader: DataLoader, progress: Progress) -> Ints:
    """Draw the order of a new epoch, or redraw that of a resumed one and restore the stream."""
    if progress.epoch_stream is None:
        progress.epoch_stream = loader.rng.state()
        return loader.draw_order()
    now = loader.rng.state()
    loader.rng.set_state(progress.epoch_stream)
    order = loader.draw_order()
    loader.rng.set_state(now)
    return order


def state_of(model: GPTModel, loader: DataLoader, optimizer: AdamW, progress: Progress) -> dict[str, str]:
    """The state that all ranks share before an update, by the names that people are told."""
    return {
        "the position": str((progress.global_step, progress.epoch, progress.batch)),
        "the model's random stream": str(model.rng.state()),
        "the loader's random stream": str(loader.rng.state()),
        "the optimizer's settings": str([dict(group.settings) for group in optimizer.param_groups]),
        "a parameter": weights_hash(model),
    }


def make_update(
    model: GPTModel,
    optimizer: AdamW,
    device: Device,
    replay_note: Note | None,
    skip_nonfinite: bool = False,
    ranks: Ranks = ALONE,
) -> Update:
    """Make the function that takes an optimizer step; on a GPU, with replay_note, it is a ReplayedUpdates."""
    gradients = partial(_add_gradients, model, optimizer, device, ranks)
    if replay_note is not None and model.device == "cuda" and ranks.size > 1:
        replay_note("graph: updates are not replayed, since several ranks exchange their gradients")
    elif replay_note is not None and model.device == "cuda" and not skip_nonfinite:
        return ReplayedUpdates(model, optimizer, gradients, replay_note)

    def update(batches: Sequence[Batch], max_norm: float | None, watched: bool = False) -> UpdateResult:
        del watched  # each of these updates is computed here
        loss = gradients(batches)
        if skip_nonfinite:
            norm, _ = ranks.clip_scale(optimizer, max_norm or 1.0)
            if not (isfinite(loss) and isfinite(norm)):
                return loss, norm
        return loss, ranks.step(optimizer, max_norm)

    return update


def _add_gradients(model: GPTModel, optimizer: AdamW, device: Device, ranks: Ranks, batches: Sequence[Batch]) -> Array:
    """Zero the gradients, and add those of the mean loss of some batches, of all ranks; returns that loss ()."""
    optimizer.zero_grad()
    total, parts = None, len(batches) * ranks.size
    for i, (input_batch, target_batch) in enumerate(batches, 1):
        loss = calc_loss_batch(input_batch, target_batch, model, device)
        if parts > 1:
            loss = loss * (1 / parts)
        ranks.backward(loss, optimizer, last=i == len(batches))
        total = loss.data if total is None else total + loss.data
    assert total is not None  # a group of batches is never empty
    ranks.sum_gradients(optimizer)
    return ranks.sum(total)


def train_model_simple(
    model: GPTModel,
    train_loader: DataLoader,
    val_loader: DataLoader,
    optimizer: AdamW,
    device: Device,
    num_epochs: int,
    eval_freq: int,
    eval_iter: int,
    start_context: str,
    tokenizer: tiktoken.Encoding,
) -> tuple[list[float], list[float], list[int]]:
    """Train as the book does, printing losses and, after every epoch, a sample text.

    Returns training losses, validation losses (both nats per token) and tokens seen, a list each, one entry per
    evaluation.

    model               GPTModel: new, or from load_pretrained or load_model to continue from its weights
    train_loader        DataLoader with at least one batch; see create_dataloader_v1
    val_loader          DataLoader; without batches the validation loss is nan
    optimizer           AdamW over model.parameters()
    device              "cpu" or "cuda": the book's argument; the model's own device is used
    num_epochs          int >= 0: passes over train_loader
    eval_freq           int >= 1: updates from one evaluation to the next; the first update is followed by one
    eval_iter           int >= 1: batches of each loader per evaluation
    start_context       str, not empty: text that the samples continue
    tokenizer           tiktoken.Encoding with at most vocab_size ids

    Raises InputError for values out of range and a start_context or tokenizer that does not fit, before the first
    update.  On a GPU, updates are replayed from a CUDA graph; a RuntimeWarning says so if that is not possible.
    Source: book section 5.2.

    >>> import nanograd_gpt as ng
    >>> from nanograd_gpt.tokenizer.tokenizer import train_tokenizer
    >>> text = "The cat sat on the mat.  The dog sat on the cat.  " * 8
    >>> tokenizer = train_tokenizer(text, n_merges=30)
    >>> loader = ng.create_dataloader_v1(text, batch_size=4, max_length=8, stride=4, tokenizer=tokenizer)
    >>> config = ng.GPTConfig(tokenizer.n_vocab, context_length=8, emb_dim=16, n_heads=2, n_layers=2, drop_rate=0.0)
    >>> model = ng.GPTModel(config, rng=ng.Generator(123))
    >>> optimizer = ng.AdamW(model.parameters(), lr=0.02)
    >>> losses, _, tokens_seen = train_model_simple(
    ...     model, loader, loader, optimizer, "cpu", num_epochs=2, eval_freq=10, eval_iter=2,
    ...     start_context="The cat", tokenizer=tokenizer,
    ... )  # doctest: +ELLIPSIS
    Ep 1 (Step 000000): Train loss 4.6..., Val loss 4.6...
    The cat sat ...
    Ep 2 (Step 000010): Train loss 0.7..., Val loss 0.6...
    The cat sat on the ...
    >>> tokens_seen
    [32, 352]
    """
    check_sample_prompt(tokenizer, model.config.vocab_size, start_context)
    train_losses, val_losses, track_tokens_seen = [], [], []
    for report in training_steps(
        model,
        train_loader,
        val_loader,
        optimizer,
        device,
        num_epochs=num_epochs,
        eval_freq=eval_freq,
        eval_iter=eval_iter,
        replay_note=partial(warnings.warn, category=RuntimeWarning, stacklevel=2),
    ):
        if report.evaluation is not None:
            train_losses.append(report.evaluation.train_loss)
            val_losses.append(report.evaluation.val_loss)
            track_tokens_seen.append(report.tokens_seen)
            print(evaluation_line(report.epoch, report.global_step, report.evaluation))
        if report.epoch_ended:
            generate_and_print_sample(model, tokenizer, device, start_context)
    return train_losses, val_losses, track_tokens_seen


def evaluation_line(epoch: int, global_step: int, evaluation: Evaluation) -> str:
    """Format an evaluation as the book prints it."""
    return (
        f"Ep {epoch} (Step {global_step:06d}): "
        f"Train loss {evaluation.train_loss:.3f}, Val loss {evaluation.val_loss:.3f}"
    )


def generate_and_print_sample(
    model: GPTModel, tokenizer: tiktoken.Encoding, device: Device, start_context: str
) -> None:
    """Print 50 greedy tokens after the context, on one line; the model is in training mode afterwards."""
    print(sample_line(model, tokenizer, start_context))


def check_sample_prompt(tokenizer: tiktoken.Encoding, vocab_size: int, start_context: str) -> None:
    """Raise InputError for a start context that samples cannot continue: empty, or not decodable."""
    padding_ids(tokenizer, vocab_size)
    ids = text_to_token_ids(start_context, tokenizer)
    if not ids.size:
        raise InputError("prompt: the prompt is empty; give a text for samples to continue")
    token_ids_to_text(ids, tokenizer)


def sample_line(model: GPTModel, tokenizer: tiktoken.Encoding, start_context: str) -> str:
    """The context and 50 greedy tokens, newlines shown as spaces; the model is in training mode afterwards."""
    prompt = text_to_token_ids(start_context, tokenizer)
    padding = padding_ids(tokenizer, model.config.vocab_size)
    with inference_mode(model):
        text = generate_text(model, prompt, SAMPLE_TOKENS, context_size=model.config.context_length, padding=padding)
    model.train()
    return token_ids_to_text(text, tokenizer).replace("\n", " ")
