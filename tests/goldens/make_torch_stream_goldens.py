"""Write what PyTorch draws, so that the tests can hold TorchStream against it without PyTorch.

    cd tests && python -m goldens.make_torch_stream_goldens

torch_stream.npz holds

    torch                        the version that drew
    SEED/DRAW                    what DRAWS give after torch.manual_seed(SEED), all in one stream, in this order
    124M/names, 124M/sha256      of each entry of the document's model's state_dict after torch.manual_seed(123)

Long draws are kept as the SHA-256 of their bytes.  Running this twice writes the same bytes.  It has to run on a
processor with AVX2 that is not Intel's, where PyTorch's dropout has a generator of MKL's instead of the Twister.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from oracle.book_model import GPTModel
from torch.nn import functional as F
from torch.utils.data import DataLoader

PATH = Path(__file__).parent / "torch_stream.npz"
SEEDS = (0, 123, 2**32 + 5, 2**63)
SHORT = 1000  # numbers that are kept themselves
GPT_CONFIG_124M = {
    "vocab_size": 50257,
    "context_length": 256,
    "emb_dim": 768,
    "n_heads": 12,
    "n_layers": 12,
    "drop_rate": 0.1,
    "qkv_bias": False,
}


def kept(shape: tuple[int, ...], rate: float) -> torch.Tensor:
    return F.dropout(torch.ones(shape), rate) != 0


def orders(n: int, shuffle: bool) -> torch.Tensor:
    """The order of the items in three passes of one loader."""
    loader = DataLoader(range(n), batch_size=1, shuffle=shuffle)
    return torch.stack([torch.cat(list(loader)) for _ in range(3)])


def weights(rows: int, n: int) -> torch.Tensor:
    """Whole numbers, some of them 0, in no order"""
    return torch.arange(rows * n).reshape(rows, n).mul(7).remainder(11).float()


DRAWS: dict[str, Callable[[], torch.Tensor]] = {
    "5 uniform": lambda: torch.rand(5),
    "3 normal, of two pairs": lambda: torch.randn(3),
    "a uniform scalar between": lambda: torch.rand(()),
    "2 normal, the first left over": lambda: torch.randn(2),
    "uniform in +-0.1": lambda: torch.empty(3, 7).uniform_(-0.1, 0.1),
    "uniform in 3 .. 10": lambda: torch.empty(2, 3, 2).uniform_(3, 10),
    "uniform, a quarter rounded up": lambda: torch.empty(50).uniform_(1, 1 + 2**-22),
    "15 normal": lambda: torch.randn(15),
    "16 normal": lambda: torch.randn(16),
    "35 normal": lambda: torch.randn(5, 7),
    "mask at 0.5": lambda: kept((6, 6), 0.5),
    "mask at 0.1": lambda: kept((2, 3, 20), 0.1),
    "1 normal, left over before the masks": lambda: torch.randn(1),
    "permutation of 1": lambda: torch.randperm(1),
    "permutation of 20": lambda: torch.randperm(20),
    "multinomial": lambda: torch.multinomial(weights(6, 9), 1),
    "orders, shuffled": lambda: orders(11, shuffle=True),
    "orders, as they stand": lambda: orders(5, shuffle=False),
    "many uniform": lambda: torch.empty(1001, 300).uniform_(-1, 1),
    "many normal": lambda: torch.randn(100_003, 3),
    "a large mask": lambda: kept((4, 128, 129), 0.2),
    "a long permutation": lambda: torch.randperm(30_000),
    "the next number": lambda: torch.rand(1),
}


def hashed(tensor: torch.Tensor) -> npt.NDArray[np.uint8]:
    return np.frombuffer(sha256(tensor.detach().numpy().tobytes()).digest(), dtype=np.uint8)


def draws(seed: int) -> dict[str, npt.NDArray[Any]]:
    torch.manual_seed(seed)
    drawn = {name: draw() for name, draw in DRAWS.items()}
    return {name: t.numpy() if t.numel() <= SHORT else hashed(t) for name, t in drawn.items()}


def initial_weights() -> dict[str, npt.NDArray[Any]]:
    torch.manual_seed(123)
    state = GPTModel(GPT_CONFIG_124M).state_dict()
    return {"names": np.array(list(state)), "sha256": np.stack([hashed(t) for t in state.values()])}


def draws_twice_a_number(draw: Callable[[], Any]) -> bool:
    """Whether 10 numbers take 20 draws of the Twister; where they are MKL's they take one, its seed."""
    torch.manual_seed(0)
    draw()
    next_number = torch.rand(1)
    torch.manual_seed(0)
    return bool(torch.rand(21)[20] == next_number)


def masks_are_the_twisters() -> bool:
    return draws_twice_a_number(lambda: kept((10,), 0.5))


def samples_are_the_twisters() -> bool:
    return draws_twice_a_number(lambda: torch.multinomial(torch.ones(10), 1))


def has_our_normal_numbers() -> bool:
    """Whether PyTorch fills them with the kernel whose last bits we reproduce"""
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def main() -> None:
    if not (masks_are_the_twisters() and samples_are_the_twisters() and has_our_normal_numbers()):
        raise SystemExit("failed: PyTorch draws other numbers here; take a processor with AVX2 that is not Intel's")
    arrays = {"torch": np.array(str(torch.__version__))}
    arrays |= {f"{seed}/{name}": array for seed in SEEDS for name, array in draws(seed).items()}
    arrays |= {f"124M/{name}": array for name, array in initial_weights().items()}
    np.savez_compressed(PATH, allow_pickle=False, **arrays)
    print(f"{PATH.name}: {PATH.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
