"""A clock for checkpoints: it tells when the next one is due."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

MOST_SHARE = 0.015  # of a run's time, for saving


class CheckpointClock:
    """Checkpoints some minutes apart, and further apart where saving would take more than 1.5% of the time.

    minutes             float >= 0: 0 means none by the clock
    cost                seconds that a checkpoint has taken already, such as the one before the first update [0]
    """

    def __init__(self, minutes: float, cost: float = 0.0) -> None:
        self.seconds = 60 * minutes
        self.last, self.cost = perf_counter(), cost  # when the last checkpoint was written, and how long that took

    def is_due(self) -> bool:
        return self.seconds > 0 and perf_counter() - self.last >= max(self.seconds, self.cost / MOST_SHARE)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measure the saving of a checkpoint in this block."""
        begun = perf_counter()
        yield
        self.last = perf_counter()
        self.cost = self.last - begun
