"""Generation on a GPU, the stand-in's where there is none: the CPU's tokens, few launches, and one wait for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from cusim.checks import needs_compiler
from standin.cupy_standin import installed
from standin.record import Record, deeds

from nanograd_gpt.backend.select import Device
from nanograd_gpt.generation.beam import beam_search
from nanograd_gpt.generation.generate import generate_batch, new_tokens
from nanograd_gpt.generation.sampling import Sampling
from nanograd_gpt.gpt.config import GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.rng import Generator, RandomStream, TorchStream

pytestmark = [needs_compiler, pytest.mark.slow]

CONFIG = GPTConfig(vocab_size=53, context_length=24, emb_dim=32, n_heads=2, n_layers=2, drop_rate=0.1, qkv_bias=True)
PADDING = np.array([50, 51, 52])
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22]]
WAYS = {
    "greedy": Sampling(),
    "sampled": Sampling(1.0),
    "top_k": Sampling(1.0, top_k=5),
    "top_p": Sampling(1.0, top_p=0.9),
    "min_p": Sampling(1.0, min_p=0.05),
    "penalty": Sampling(repetition_penalty=1.5),
    "all": Sampling(0.8, 10, 0.9, 0.02, 1.3),
}
STREAMS: dict[str, Callable[[int], RandomStream]] = {"own": Generator, "torch": TorchStream}


def model_on(device: Device, config: GPTConfig = CONFIG) -> GPTModel:
    """A random model whose blocks' weights are tripled, so that the text does not repeat one token."""
    model = GPTModel(config, rng=Generator(7)).eval()
    for p in model.trf_blocks.parameters():
        p.data *= 3
    return model.to(device)


def texts_on(device: Device, way: str, stream: str, eos_id: int | None = None) -> list[list[int]]:
    """Continuations; the third prompt soon fills its context."""
    rng = STREAMS[stream](5)
    texts = generate_batch(model_on(device), PROMPTS, 8, 24, WAYS[way], eos_id, rng, PADDING)
    return [text.tolist() for text in texts]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("way", WAYS)
def test_the_tokens_are_the_cpus(way: str, stream: str) -> None:
    expected = texts_on("cpu", way, stream)
    with installed():
        assert texts_on("cuda", way, stream) == expected
    assert len({token for text in expected for token in text}) > 20  # and not one again and again


def test_a_row_that_ends_changes_no_token_of_the_others() -> None:
    endless = texts_on("cpu", "sampled", "own")
    eos_id = endless[0][6]
    expected = texts_on("cpu", "sampled", "own", eos_id)
    assert len({len(text) - len(prompt) for text, prompt in zip(expected, PROMPTS, strict=True)}) > 1
    with installed():
        assert texts_on("cuda", "sampled", "own", eos_id) == expected


def test_a_beam_search_finds_what_it_finds_on_the_cpu() -> None:
    expected = beam_search(model_on("cpu"), PROMPTS[0], 6, 24, 3, n_best=3, padding=PADDING)
    with installed():
        found = beam_search(model_on("cuda"), PROMPTS[0], 6, 24, 3, n_best=3, padding=PADDING)
    for got, beam in zip(found, expected, strict=True):
        assert got.text.tolist() == beam.text.tolist()
        assert got.score == pytest.approx(beam.score, rel=1e-5)


class Work(NamedTuple):
    """Counts of the work for a next token."""

    own_kernels: int
    products: int
    cupys: int
    uploads: int
    waits: list[str]


def work_of_a_token(record: Record, way: str, n_layers: int, rows: int = 2) -> Work:
    config = GPTConfig(**{**CONFIG.to_dict(), "n_layers": n_layers})
    prompts = [np.array(prompt) for prompt in PROMPTS[:rows]]
    tokens = new_tokens(model_on("cuda", config), prompts, 4, 24, WAYS[way], Generator(5), ())

    def next_one() -> None:
        for _ in range(rows):
            next(tokens)

    def so_far() -> list[int]:
        counted: list[list[Any]] = [record.launches, record.cublaslt.products, record.operations, record.uploads]
        return [len(entries) for entries in counted]

    next_one()  # the prompt
    next_one()
    before, waits = so_far(), len(record.syncs)
    next_one()
    return Work(*np.subtract(so_far(), before).tolist(), deeds(record.syncs[waits:]))


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_a_token_takes_ten_launches_a_layer_two_uploads_and_one_wait(n_layers: int, rows: int) -> None:
    with installed() as record:
        work = work_of_a_token(record, "greedy", n_layers, rows)
    assert work.own_kernels == 4 * n_layers + 3  # two norms, attention, GELU; embeddings and the last norm
    assert work.products == 4 * n_layers + 1  # Q, K and V are one
    assert work.cupys == 2 * n_layers + 1 + 4  # sums with the residual, and the choice
    assert work.uploads == 2  # ids and slots
    assert work.waits == ["get"]


@pytest.mark.parametrize(("way", "choice"), [("sampled", 14), ("top_k", 19), ("all", 48)])
def test_a_sampled_token_waits_once_too_and_uploads_the_numbers_drawn(way: str, choice: int) -> None:
    with installed() as record:
        work = work_of_a_token(record, way, 1)
    assert work.cupys == 3 + choice
    assert work.uploads == 3 + (way == "all")  # the tokens that came before
    assert work.waits == ["get"]


def test_on_the_gpu_q_k_and_v_lie_side_by_side_again_and_on_the_cpu_a_moved_model_keeps_its_bits() -> None:
    def bases(model: GPTModel) -> list[int]:
        att = model.trf_blocks[0].att
        parts = (att.W_query, att.W_key, att.W_value)
        return [len({id(p.weight.data.base) for p in parts}), len({id(p.bias.data.base) for p in parts})]

    with installed():
        moved = model_on("cuda")
        assert bases(moved) == [1, 1]
        assert bases(moved.to(dtype=np.float64)) == [1, 1]
    converted = GPTModel(CONFIG, rng=Generator(7)).to(dtype=np.float64)
    assert converted.trf_blocks[0].att.W_query.weight.data.base is None
