"""Choosing a token from logits on a GPU, the stand-in's where there is none: the host's choice, and one copy of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from standin.cupy_standin import installed
from standin.record import Record, deeds

from nanograd_gpt.backend.select import to_device
from nanograd_gpt.errors import RunError
from nanograd_gpt.generation.sampling import Sampling, keep_min_p, keep_top_k, keep_top_p, next_tokens
from nanograd_gpt.rng import Generator, RandomStream, TorchStream, index_at

V = 1000
WAYS = {
    "greedy": Sampling(),
    "sampled": Sampling(1.0),
    "cold": Sampling(0.3),
    "top_k of 1": Sampling(1.0, top_k=1),
    "top_k": Sampling(1.0, top_k=40),
    "top_k of all": Sampling(1.0, top_k=V),
    "top_p": Sampling(1.0, top_p=0.9),
    "min_p": Sampling(1.0, min_p=0.05),
    "penalty": Sampling(repetition_penalty=1.3),
    "all": Sampling(0.8, 50, 0.9, 0.02, 1.3),
}
STREAMS: dict[str, Callable[[int], RandomStream]] = {"own": Generator, "torch": TorchStream}


@contextlib.contextmanager
def real_cupy() -> Iterator[None]:
    cupy = pytest.importorskip("cupy")
    if not cupy.is_available():
        pytest.skip("CuPy finds no GPU")
    yield None


@pytest.fixture(params=["stand-in", pytest.param("GPU", marks=pytest.mark.gpu)])
def standin(request: pytest.FixtureRequest) -> Iterator[Record | None]:
    with installed() if request.param == "stand-in" else real_cupy() as record:
        yield record


def logits_of(seed: int, rows: int = 5) -> npt.NDArray[np.float32]:
    logits = 2 * np.random.default_rng(seed).standard_normal((rows, V)).astype(np.float32)
    logits[:, 7::90] = -np.inf  # padding
    return logits


def texts_of(rows: int = 5) -> list[npt.NDArray[np.int64]]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, V, 100 * row + 1) for row in range(rows)]  # with tokens that come again


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("way", WAYS)
def test_the_choice_is_the_hosts(way: str, stream: str, standin: Record | None) -> None:
    on_host, on_gpu = STREAMS[stream](5), STREAMS[stream](5)
    for seed in range(20):
        logits = logits_of(seed)
        expected = next_tokens(logits, WAYS[way], on_host, texts_of())
        got = next_tokens(to_device(logits, "cuda"), WAYS[way], on_gpu, texts_of())
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, expected)
    assert on_gpu.state() == on_host.state()


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize(
    "keep", [lambda x: keep_top_k(x, 9), lambda x: keep_top_p(x, 0.7), lambda x: keep_min_p(x, 0.1)]
)
def test_a_filter_keeps_what_it_keeps_on_the_host(rows: int, keep: Any, standin: Record | None) -> None:
    logits = np.round(logits_of(1, rows))  # with ties
    kept = keep(to_device(logits, "cuda"))
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(kept.get(), keep(logits))


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("way", WAYS)
def test_one_copy_is_all_that_waits_for_the_gpu(way: str, stream: str) -> None:
    with installed() as record:
        logits = to_device(logits_of(1), "cuda")
        record.uploads.clear()
        next_tokens(logits, WAYS[way], STREAMS[stream](5), texts_of())
        assert deeds(record.syncs) == ["get"]
        draws = WAYS[way].temperature > 0 and stream == "own"
        assert len(record.uploads) == draws + (WAYS[way].repetition_penalty != 1)


def test_logits_on_a_gpu_are_not_changed(standin: Record | None) -> None:
    logits = to_device(logits_of(1), "cuda")
    next_tokens(logits, WAYS["all"], Generator(5), texts_of())
    np.testing.assert_array_equal(logits.get(), logits_of(1))


def test_of_equal_logits_the_first_is_the_greedy_choice(standin: Record | None) -> None:
    logits = to_device(np.array([[0, 2, 1, 2], [3, 3, 0, 3]], np.float32), "cuda")
    assert next_tokens(logits, Sampling(), Generator(0)).tolist() == [1, 0]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(bad: float, way: str, stream: str, standin: Record | None) -> None:
    logits = logits_of(1)
    logits[3, 500] = bad
    with pytest.raises(RunError, match="logits are not finite; its training has diverged"):
        next_tokens(to_device(logits, "cuda"), WAYS[way], STREAMS[stream](5), texts_of())


class AddedInParallel(np.ndarray[Any, Any]):
    """Probabilities whose sums fall by a rounding error at index 1, as a GPU's may."""

    def cumsum(self, *args: Any, **kwargs: Any) -> Any:
        edges = np.asarray(self).cumsum(*args, **kwargs)
        edges[:, 1] = np.nextafter(edges[:, 1], 0)
        return edges


def test_sums_that_fall_by_a_rounding_error_let_no_impossible_token_through() -> None:
    probabilities = np.array([[0.5, 0.0, 0.5]]).view(AddedInParallel)
    below = np.nextafter(0.5, 0)
    chosen = [int(index_at(np.array([point]), probabilities)[0]) for point in (0.0, below, 0.5, 1 - 2**-53)]
    assert chosen == [0, 0, 2, 2]
