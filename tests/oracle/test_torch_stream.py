"""TorchStream against PyTorch, where it is installed: draw for draw and bit for bit, then whole training steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

torch = pytest.importorskip("torch")

# ruff: noqa: E402  # these import torch too
import oracle.book_model as book
import torch.nn.functional as TF
from goldens import make_torch_stream_goldens as goldens

from nanograd_gpt.generation.generate import generate_text
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn.layers import Dropout, Embedding, Linear
from nanograd_gpt.optim import AdamW
from nanograd_gpt.rng import TorchStream
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.tokenizer.tokenizer import train_tokenizer
from nanograd_gpt.training.data import DataLoader, GPTDatasetV1

torch.set_num_threads(1)
if not goldens.has_our_normal_numbers():
    pytest.skip("without AVX2 PyTorch's normal numbers have other last bits", allow_module_level=True)

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

SEEDS = (0, 123, 2**32 + 5, 2**63)
DROPOUT: Any = "mt19937" if goldens.masks_are_the_twisters() else "mcg31"  # what this processor's PyTorch does
TINY = {
    "vocab_size": 50,
    "context_length": 16,
    "emb_dim": 24,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.1,
    "qkv_bias": False,
}
BOUNDS = [(0, 1), (-1, 1), (-0.1, 0.1), (3, 10), (-5, -4.9), (1e-3, 1e5), (0, 0), (-1e-30, 1e-30)]
ROUNDED_UP_TO = [(1, 1 + 2**-22), (-1, -1 + 2**-22), (-3, 2**24), (0, 2**-140)]  # many are, to the upper bound

samples = pytest.mark.skipif(
    not goldens.samples_are_the_twisters(), reason="PyTorch's samples have another generator on this processor"
)


@pytest.fixture(params=SEEDS)
def stream(request: pytest.FixtureRequest) -> TorchStream:
    return seeded(request.param)


def seeded(seed: int) -> TorchStream:
    """Both streams, from the same seed."""
    torch.manual_seed(seed)
    return TorchStream(seed, DROPOUT)


def assert_same_bits(ours: Array, theirs: Any) -> None:
    theirs = theirs.detach().numpy()
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    assert ours.tobytes() == theirs.tobytes()


def assert_same_place(stream: TorchStream) -> None:
    """As many numbers have been drawn here as there."""
    assert_same_bits(stream.uniform((3,)), torch.rand(3))


# --- what tensors are filled with


@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 5), (2, 0, 3), (1, 1, 1), (32769,), (263, 1009)], ids=str)
@pytest.mark.parametrize(("low", "high"), [*BOUNDS, *ROUNDED_UP_TO])
def test_uniform_numbers_are_equal(stream: TorchStream, shape: Shape, low: float, high: float) -> None:
    assert_same_bits(stream.uniform(shape, low, high), torch.empty(shape).uniform_(low, high))
    assert_same_place(stream)


def test_normal_numbers_are_equal_for_all_sizes_up_to_64_in_one_stream(stream: TorchStream) -> None:
    for n in [*range(65), *range(64, -1, -1)]:
        assert_same_bits(stream.normal((n,)), torch.randn(n))
    assert_same_place(stream)


@pytest.mark.parametrize("n", [1000, 32767, 32768, 32769, 65537, 2**18 - 1, 2**18, 2**18 + 1, 2**18 + 16, 700_001])
def test_normal_numbers_are_equal_across_blocks_and_chunks(stream: TorchStream, n: int) -> None:
    assert_same_bits(stream.normal((n,)), torch.randn(n))
    assert_same_place(stream)


@pytest.mark.parametrize("shape", [(), (1, 1), (2, 0, 3), (3, 5), (4, 4), (5, 7), (3, 11, 13)], ids=str)
def test_normal_numbers_are_equal_for_any_shape(stream: TorchStream, shape: Shape) -> None:
    assert_same_bits(stream.normal(shape), torch.randn(shape))
    assert_same_bits(stream.normal(shape), torch.empty(shape).normal_())
    assert_same_place(stream)


@samples
def test_calls_of_all_kinds_in_any_order_give_equal_numbers(stream: TorchStream) -> None:
    weights = torch.arange(1.0, 13).reshape(3, 4)
    calls: list[tuple[Callable[[int], Array], Callable[[int], Any]]] = [
        (lambda n: stream.uniform((n, 2), -1, 3), lambda n: torch.empty(n, 2).uniform_(-1, 3)),
        (lambda n: stream.normal((n,)), lambda n: torch.randn(n)),
        (lambda n: stream.keep_mask((n, 3), 0.3), lambda n: TF.dropout(torch.ones(n, 3), 0.3) != 0),
        (lambda n: stream.randperm(n), lambda n: torch.randperm(n)),
        (lambda n: stream.multinomial(weights.numpy()), lambda n: torch.multinomial(weights, 1)[:, 0]),
        (
            lambda n: stream.epoch_order(n, shuffle=n % 2 > 0),
            lambda n: torch.tensor([*map(int, torch.utils.data.DataLoader(range(n), shuffle=n % 2 > 0))]),
        ),
    ]
    order = np.random.default_rng(4)
    for _ in range(300):
        ours, theirs = calls[order.integers(len(calls))]
        n = int(order.integers(1, 41))
        assert_same_bits(ours(n), theirs(n))
    assert_same_place(stream)


# --- layers and models


@pytest.mark.parametrize("d_in", [*range(1, 34), 63, 64, 100, 127, 768, 1000, 3072, 10_007])
def test_linear_layers_start_from_equal_weights_and_biases(d_in: int) -> None:
    stream = seeded(123)
    for d_out, bias in ((1, True), (7, False), (16, True)):
        theirs = torch.nn.Linear(d_in, d_out, bias=bias)
        ours = Linear(d_in, d_out, bias=bias, rng=stream)
        assert_same_bits(ours.weight.data, theirs.weight)
        if bias:
            assert_same_bits(ours.bias.data, theirs.bias)
    assert_same_place(stream)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 16), (7, 3), (10, 13), (50, 24), (257, 96)], ids=str)
def test_embeddings_start_from_equal_vectors(stream: TorchStream, shape: tuple[int, int]) -> None:
    theirs = torch.nn.Embedding(*shape)
    assert_same_bits(Embedding(*shape, rng=stream).weight.data, theirs.weight)
    assert_same_place(stream)


@pytest.mark.parametrize("sizes", [{}, {"qkv_bias": True}, {"emb_dim": 6, "vocab_size": 3, "n_layers": 3}], ids=str)
def test_the_whole_initial_state_of_the_documents_model_is_equal(stream: TorchStream, sizes: dict[str, Any]) -> None:
    theirs = book.GPTModel(TINY | sizes).state_dict()
    ours = GPTModel(TINY | sizes, rng=stream).book_state_dict()
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        assert_same_bits(array, theirs[name])
    assert_same_place(stream)


def test_slow_every_tensor_of_the_initial_124m_model_has_an_equal_hash() -> None:
    stream, cfg = seeded(123), goldens.GPT_CONFIG_124M
    theirs = {name: sha256(t.numpy()).hexdigest() for name, t in book.GPTModel(cfg).state_dict().items()}
    place = torch.rand(3)
    ours = {name: sha256(a).hexdigest() for name, a in GPTModel(cfg, rng=stream).book_state_dict().items()}
    assert len(ours) == 173
    assert ours == theirs
    assert_same_bits(stream.uniform((3,)), place)


# --- dropout


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 0.9, 1 / 3])
@pytest.mark.parametrize("shape", [(), (1,), (6, 6), (2, 12, 16, 16), (3, 5, 7), (32769,), (2, 3, 20_011)], ids=str)
def test_dropout_masks_are_equal(shape: Shape, rate: float) -> None:
    stream = seeded(123)
    dropout, theirs = Dropout(rate, rng=stream), torch.nn.Dropout(rate)
    x = np.random.default_rng(5).uniform(1, 2, shape).astype(np.float32)
    for _ in range(2):
        np.testing.assert_allclose(dropout(Tensor(x)).data, theirs(torch.tensor(x)).numpy(), rtol=2e-7)
        if rate:
            assert_same_bits(stream.keep_mask(shape, rate), TF.dropout(torch.ones(shape), rate) != 0)
    assert_same_place(stream)


def test_dropout_draws_nothing_in_evaluation(stream: TorchStream) -> None:
    theirs = torch.nn.Dropout(0.3).eval()
    dropout = Dropout(0.3, rng=stream).eval()
    assert_same_bits(dropout(Tensor(np.ones(9, dtype=np.float32))).data, theirs(torch.ones(9)))
    assert_same_place(stream)


# --- permutations, sampling, loaders


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1000, 65_535, 65_536, 65_537, 100_000])
def test_permutations_are_equal(stream: TorchStream, n: int) -> None:
    assert_same_bits(stream.randperm(n), torch.randperm(n))
    assert_same_place(stream)


@samples
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("vocabulary", [1, 2, 9, 1000, 50_257])
def test_one_sample_a_row_is_equal(vocabulary: int, rows: int, dtype: Any) -> None:
    stream = seeded(123)
    logits = np.random.default_rng(6).normal(size=(rows, vocabulary))
    probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities[:, ::3] *= vocabulary < 3  # a third of them 0, if any are left
    probabilities = (probabilities / probabilities.sum(axis=-1, keepdims=True)).astype(dtype)
    for _ in range(20):
        theirs = torch.multinomial(torch.from_numpy(probabilities), num_samples=1)
        assert_same_bits(stream.multinomial(probabilities), theirs[:, 0])
    assert_same_place(stream)


@samples
@pytest.mark.parametrize(("temperature", "top_k"), [(1.4, 25), (1.0, None), (0.7, 3), (0.1, 10)])
def test_sampled_text_is_equal(temperature: float, top_k: int | None) -> None:
    stream = seeded(123)
    theirs, ours = book.GPTModel(TINY).eval(), GPTModel(TINY, rng=stream).eval()
    prompt = np.array([[3, 1, 4]])
    text = generate_text(ours, prompt, 60, 16, temperature, top_k, rng=stream)
    expected = book.generate_text(theirs, torch.from_numpy(prompt), 60, 16, temperature, top_k)
    np.testing.assert_array_equal(text, expected.numpy())
    assert len(set(text[0].tolist())) > 5
    assert_same_place(stream)


def loaders(stream: TorchStream, n: int, batch_size: int, shuffle: bool, drop_last: bool) -> tuple[DataLoader, Any]:
    """Ours and PyTorch's, of n windows of 2 ids of which the first is the window's number."""
    dataset = GPTDatasetV1("".join(map(chr, range(n + 2))), train_tokenizer("", 0), 2, 1)  # a byte is an id
    items = torch.utils.data.TensorDataset(torch.arange(n)[:, None] + torch.arange(2))
    theirs = torch.utils.data.DataLoader(items, batch_size, shuffle=shuffle, drop_last=drop_last)
    return DataLoader(dataset, batch_size, shuffle, drop_last, rng=stream), theirs


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("n", "batch_size"), [(1, 1), (9, 2), (10, 4), (50, 7), (3, 5)])
def test_loaders_give_equal_batches_over_three_passes_of_both(
    stream: TorchStream, n: int, batch_size: int, shuffle: bool, drop_last: bool
) -> None:
    ours, theirs = loaders(stream, n, batch_size, shuffle, drop_last)
    assert len(ours) == len(theirs)
    for _ in range(3):
        batches = [inputs.tolist() for inputs, _ in ours]
        assert batches == [inputs.tolist() for (inputs,) in theirs]
    assert_same_place(stream)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_pass_left_early_has_drawn_what_pytorchs_has(stream: TorchStream, shuffle: bool) -> None:
    ours, theirs = loaders(stream, 40, 4, shuffle, drop_last=True)
    for batches in (1, 3, 10):
        got = [inputs.tolist() for inputs, _ in islice(ours, batches)]
        assert got == [inputs.tolist() for (inputs,) in islice(theirs, batches)]
        assert_same_place(stream)


# --- the document's model in training


def batch(step: int) -> tuple[Array, Array]:
    ids = np.random.default_rng(step).integers(0, TINY["vocab_size"], (2, 17))
    return ids[:, :-1], ids[:, 1:]


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_a_forward_pass_in_training_has_equal_masks_and_loss(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, cfg = seeded(123), TINY | {"drop_rate": rate}
    theirs, ours = book.GPTModel(cfg).train(), GPTModel(cfg, rng=stream).train()
    masks: list[Array] = []
    drawn = TorchStream.keep_mask

    def recording(self: TorchStream, shape: Shape, rate: float) -> Array:
        masks.append(drawn(self, shape, rate))
        return masks[-1]

    monkeypatch.setattr(TorchStream, "keep_mask", recording)
    their_masks: list[Array] = []

    def hook(module: Any, inputs: tuple[Any], output: Any) -> None:
        x, y = inputs[0].detach().numpy(), output.detach().numpy()
        their_masks.append(np.where(x == 0, -1, y != 0))  # of a 0 (a causal weight) no one can tell

    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.register_forward_hook(hook)
    inputs, targets = batch(0)
    loss = ours.loss(inputs, targets).item()
    their_loss = book.calc_loss_batch(torch.from_numpy(inputs), torch.from_numpy(targets), theirs).item()
    assert loss == pytest.approx(their_loss, rel=1e-5)
    assert len(masks) == len(their_masks) == 1 + 3 * cfg["n_layers"]
    for mask, their_mask in zip(masks, their_masks, strict=True):
        seen = their_mask >= 0
        assert seen.mean() > 0.5
        np.testing.assert_array_equal(mask[seen], their_mask[seen])
    assert_same_place(stream)


@pytest.mark.parametrize("seed", SEEDS)
def test_training_steps_with_dropout_give_equal_losses(seed: int) -> None:
    stream = seeded(seed)
    theirs, ours = book.GPTModel(TINY), GPTModel(TINY, rng=stream)
    optimizer = AdamW(ours.parameters(), lr=4e-3, weight_decay=0.1)
    their_optimizer = torch.optim.AdamW(theirs.parameters(), lr=4e-3, weight_decay=0.1)
    losses, their_losses = [], []
    for step in range(3):
        inputs, targets = batch(step)
        optimizer.zero_grad()
        loss = ours.loss(inputs, targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        x, y = torch.from_numpy(inputs), torch.from_numpy(targets)
        their_losses.append(book.training_step(x, y, theirs, their_optimizer))
    assert losses == pytest.approx(their_losses, rel=1e-5)
    assert_same_place(stream)


# --- state


@pytest.mark.parametrize("normals", [0, 1, 2, 3, 15], ids=lambda n: f"{n} normal numbers before")
def test_a_stream_put_back_by_its_state_goes_on_with_pytorchs_numbers(stream: TorchStream, normals: int) -> None:
    for draw, their_draw in (
        (lambda g: g.uniform((5,)), lambda: torch.rand(5)),
        (lambda g: g.keep_mask((30,), 0.4), lambda: TF.dropout(torch.ones(30), 0.4) != 0),
        (lambda g: g.randperm(40), lambda: torch.randperm(40)),
        (lambda g: g.normal((400, 2)), lambda: torch.randn(400, 2)),
        (lambda g: g.normal((3,)), lambda: torch.randn(3)),
    ):
        assert_same_bits(stream.normal((normals,)), torch.randn(normals))
        continued = TorchStream(1)
        continued.set_state(json.loads(json.dumps(stream.state())))
        stream = continued
        assert_same_bits(draw(stream), their_draw())
    assert_same_place(stream)


# --- the stored goldens


@samples
@pytest.mark.skipif(DROPOUT == "mcg31", reason="PyTorch's masks have another generator on this processor")
def test_the_stored_draws_are_what_their_script_draws() -> None:
    with np.load(goldens.PATH, allow_pickle=False) as file:
        stored = dict(file)
    for seed in goldens.SEEDS:
        for name, drawn in goldens.draws(seed).items():
            np.testing.assert_array_equal(drawn, stored.pop(f"{seed}/{name}"), strict=True)
    assert sorted(stored) == ["124M/names", "124M/sha256", "torch"]
