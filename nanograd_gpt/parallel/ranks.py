"""The interface of the processes that take part in a training, and the one process that trains alone.

A batch's rows are divided among the ranks.  All have the same parameters, random streams and settings at all times;
they differ in their rows, and in the rows of dropout's masks.  Rank 0 alone uses files and the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import IntEnum
from typing import Protocol, TypeVar

from ..backend.contract import Array
from ..errors import InputError, RunError, counted
from ..optim import AdamW
from ..rng import ALL, Part
from ..tensor import Tensor

T = TypeVar("T")


class Command(IntEnum):
    """An instruction of rank 0 to the other ranks."""

    START = 0  # a training, with what follows
    UPDATE = 1
    EVALUATE = 2
    EVALUATE_WEIGHTS = 3
    SHARE_MOMENTS = 4
    END = 5


class DisagreementError(RunError):
    """A difference between the ranks' states, which all of them see at once."""


class Ranks(Protocol):
    """The processes of a training, as one of them sees them.  Every method is called by all, in the same order."""

    rank: int
    size: int
    sharded: bool  # each holds the optimizer's moments of one part of the parameters alone
    signal: int | None  # the number of one that any rank has received, which stops the training

    @property
    def part(self) -> Part:
        """The part of a batch that this rank takes: (which, of how many)."""
        ...

    def led(self, steps: Iterator[T]) -> Iterator[T]:
        """Iterate over updates on rank 0, and let each follow on the other ranks."""
        ...

    def lead(self, command: Command, code: int = 0) -> None:
        """Tell the other ranks, on rank 0, what all do next; `code` is the exit code of END."""
        ...

    def at_update(self, step: int, state: Callable[[], Mapping[str, str]]) -> None:
        """Begin an update.  From time to time `state` is compared: raises DisagreementError if it differs."""
        ...

    def backward(self, loss: Tensor, optimizer: AdamW, last: bool) -> None:
        """Add the gradients of a loss to this rank's; they may be summed meanwhile if it is the update's last."""
        ...

    def sum_gradients(self, optimizer: AdamW) -> None:
        """Replace the gradients by their sums over the ranks; with `sharded`, in this rank's part alone."""
        ...

    def sum(self, numbers: Array) -> Array:
        """Sum a few numbers over the ranks."""
        ...

    def mean_losses(self, losses: Sequence[float], rows: Sequence[int]) -> list[float]:
        """The mean loss of each batch, from its mean over this rank's rows, of which there may be none."""
        ...

    def clip_scale(self, optimizer: AdamW, max_norm: float) -> tuple[Array, Array]:
        """The norm () of the summed gradients and the factor that clips it to max_norm (), the same on all ranks."""
        ...

    def step(self, optimizer: AdamW, max_norm: float | None) -> Array | None:
        """Update the parameters on all ranks with the summed gradients; see AdamW.step."""
        ...

    def whole_moments(self, optimizer: AdamW) -> AbstractContextManager[None]:
        """Give rank 0 the moments of all parameters in this block, to write them."""
        ...


class Alone:
    """One process, which trains as if there were no ranks."""

    rank, size, sharded, part = 0, 1, False, ALL
    signal: int | None = None

    def led(self, steps: Iterator[T]) -> Iterator[T]:
        return steps

    def lead(self, command: Command, code: int = 0) -> None:
        """Nobody follows."""

    def at_update(self, step: int, state: Callable[[], Mapping[str, str]]) -> None:
        """There is nothing to compare with."""

    def backward(self, loss: Tensor, optimizer: AdamW, last: bool) -> None:
        loss.backward()

    def sum_gradients(self, optimizer: AdamW) -> None:
        """They are the sums."""

    def sum(self, numbers: Array) -> Array:
        return numbers

    def mean_losses(self, losses: Sequence[float], rows: Sequence[int]) -> list[float]:
        return [*losses]

    def clip_scale(self, optimizer: AdamW, max_norm: float) -> tuple[Array, Array]:
        return optimizer.clip_scale(max_norm)

    def step(self, optimizer: AdamW, max_norm: float | None) -> Array | None:
        return optimizer.step(max_norm)

    def whole_moments(self, optimizer: AdamW) -> AbstractContextManager[None]:
        return nullcontext()


ALONE = Alone()


def check_divisible(batch_size: int, size: int) -> None:
    """Raise InputError if a batch's rows cannot be divided equally among the ranks."""
    if batch_size % size:
        larger = -(-batch_size // size) * size
        raise InputError(
            f"batch_size: {counted(batch_size, 'row')} cannot be divided equally among {size} ranks; give "
            f"--batch-size {larger}, or start a number of ranks that divides {batch_size}"
        )
