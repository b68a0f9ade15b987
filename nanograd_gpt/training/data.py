"""Windows of tokens and batches of windows, as in the book's chapter 2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import tiktoken

from ..arguments import whole_number
from ..backend.contract import Ints
from ..errors import InputError
from ..rng import ALL, Generator, RandomStream
from ..tokenizer.tokenizer import get_tokenizer, text_to_token_ids

Batch: TypeAlias = tuple[Ints, Ints]  # inputs (B, T) and targets (B, T), the inputs one token later


class GPTDatasetV1:
    """Windows of max_length tokens, one every `stride` tokens, each with the window one token later as its target.

    A text of exactly max_length tokens has no window, since its last target would be missing.
    """

    def __init__(self, txt: str, tokenizer: tiktoken.Encoding, max_length: int, stride: int) -> None:
        max_length, stride = whole_number("max_length", max_length, 1), whole_number("stride", stride, 1)
        ids = text_to_token_ids(txt, tokenizer)[0]
        self.__setstate__((ids, max_length, stride))

    def __getstate__(self) -> tuple[Ints, int, int]:
        """Copy and pickle the tokens once, not every overlapping window."""
        return self.ids, self.max_length, self.stride

    def __setstate__(self, state: tuple[Ints, int, int]) -> None:
        self.ids, self.max_length, self.stride = ids, max_length, stride = state
        if len(ids) <= max_length:
            windows: Ints = np.empty((0, max_length + 1), dtype=np.int64)
        else:
            windows = np.lib.stride_tricks.sliding_window_view(ids, max_length + 1)[::stride]
        self.input_ids: Ints = windows[:, :-1]
        self.target_ids: Ints = windows[:, 1:]

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, i: int) -> Batch:
        return self.input_ids[i], self.target_ids[i]


class DataLoader:
    """Batches of a dataset's windows, reshuffled for every pass if shuffle is set.

    `part` is (which, of how many): the rows of each batch that are given here, all at first.
    """

    def __init__(
        self, dataset: GPTDatasetV1, batch_size: int, shuffle: bool, drop_last: bool, *, rng: RandomStream
    ) -> None:
        self.dataset, self.batch_size = dataset, whole_number("batch_size", batch_size, 1)
        self.shuffle, self.drop_last, self.rng = bool(shuffle), bool(drop_last), rng
        self.part = ALL

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches(self.draw_order())

    def draw_order(self) -> Ints:
        """Draw the order of the windows for the next pass."""
        return self.rng.epoch_order(len(self.dataset), self.shuffle)

    def batches(self, order: Ints, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of a pass in this order, from batch `first` on."""
        for i in range(first, len(self)):
            chosen = order[i * self.batch_size : (i + 1) * self.batch_size]
            which, of = self.part
            chosen = chosen[which * len(chosen) // of : (which + 1) * len(chosen) // of]
            yield self.dataset.input_ids[chosen], self.dataset.target_ids[chosen]


def create_dataloader_v1(
    txt: str,
    batch_size: int = 4,
    max_length: int = 256,
    stride: int = 128,
    shuffle: bool = True,
    drop_last: bool = True,
    num_workers: int = 0,
    *,
    tokenizer: tiktoken.Encoding | None = None,
    rng: RandomStream | None = None,
) -> DataLoader:
    """Cut a text into windows of tokens; returns a DataLoader of batches: inputs (B, T) and targets (B, T).

    txt                 str; shorter than one window it gives no batches
    batch_size          int >= 1 [4]: windows per batch, B
    max_length          int >= 1 [256]: tokens per window, T
    stride              int >= 1 [128]: tokens between the starts of windows
    shuffle             bool [True]: draw a new order for every pass
    drop_last           bool [True]: leave out a last batch that is not full
    num_workers         0: the book's argument; batches are slices of one array and need no workers
    tokenizer           tiktoken.Encoding [get_tokenizer("gpt2")]
    rng                 random stream for the order [Generator()]

    Targets are the inputs one token later.  Raises InputError for sizes below 1 and for workers.
    Source: book section 2.6.

    >>> import nanograd_gpt as ng
    >>> loader = create_dataloader_v1("one two three four five six seven", batch_size=2, max_length=3, stride=3)
    >>> decode = ng.get_tokenizer("gpt2").decode
    >>> for inputs, targets in loader:
    ...     print([decode(row) for row in inputs.tolist()], [decode(row) for row in targets.tolist()])
    ['one two three', ' four five six'] [' two three four', ' five six seven']
    """
    if num_workers:
        raise InputError(f"num_workers: {num_workers} is not supported; leave it at 0")
    dataset = GPTDatasetV1(txt, tokenizer or get_tokenizer("gpt2"), max_length, stride)
    return DataLoader(dataset, batch_size, shuffle, drop_last, rng=rng or Generator())
