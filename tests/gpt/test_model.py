"""The model by itself: its sizes and names, what it refuses, causality, dropout, and its state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.config import GPT_CONFIG_124M, PRESETS, GPTConfig
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn import functional as F
from nanograd_gpt.rng import Generator

TINY = GPTConfig(vocab_size=23, context_length=6, emb_dim=8, n_heads=2, n_layers=2, drop_rate=0.0)
BLOCK = [
    "att.W_query.weight",
    "att.W_key.weight",
    "att.W_value.weight",
    "att.out_proj.weight",
    "att.out_proj.bias",
    "ff.layers.0.weight",
    "ff.layers.0.bias",
    "ff.layers.2.weight",
    "ff.layers.2.bias",
    "norm1.scale",
    "norm1.shift",
    "norm2.scale",
    "norm2.shift",
]


class OneForAll(Generator):
    """Arrays that repeat one number without holding it more than once: a model of any size costs no memory."""

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> npt.NDArray[Any]:
        return np.broadcast_to(np.float32(low), shape)

    def normal(self, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        return np.broadcast_to(np.float32(0), shape)


def ids_of(shape: tuple[int, ...], config: GPTConfig = TINY, seed: int = 0) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, config.vocab_size, shape)


def one_line(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# --- sizes and names


@pytest.mark.parametrize(
    ("preset", "context_length", "parameters"),
    [
        ("gpt2-124m", 256, 162_419_712),
        ("gpt2-124m", 1024, 163_009_536),
        ("gpt2-355m", 1024, 406_212_608),
        ("gpt2-774m", 1024, 838_220_800),
        ("gpt2-1558m", 1024, 1_637_792_000),
    ],
)
def test_presets_have_the_published_number_of_parameters(preset: str, context_length: int, parameters: int) -> None:
    # The book counts GPT-2 with its head apart: OpenAI's number, and vocabulary x width once more.
    model = GPTModel(replace(PRESETS[preset], context_length=context_length), rng=OneForAll())
    assert model.n_parameters == parameters


def test_the_documents_configuration_is_124m_at_a_context_of_256() -> None:
    assert GPT_CONFIG_124M == {
        "vocab_size": 50257,
        "context_length": 256,
        "emb_dim": 768,
        "n_heads": 12,
        "n_layers": 12,
        "drop_rate": 0.1,
        "qkv_bias": False,
    }
    assert GPTConfig.of(GPT_CONFIG_124M) == PRESETS["gpt2-124m"]


def test_124m_has_173_entries_with_the_books_masks_and_161_without() -> None:
    model = GPTModel(GPT_CONFIG_124M, rng=OneForAll())
    book = model.book_state_dict()
    assert len(book) == 173
    assert len(model.state_dict()) == 161
    assert [name for name in book if name not in model.state_dict()] == [f"trf_blocks.{i}.att.mask" for i in range(12)]


def test_names_are_the_books_in_pytorchs_order() -> None:
    expected = ["tok_emb.weight", "pos_emb.weight"]
    expected += [f"trf_blocks.{i}.{name}" for i in range(2) for name in BLOCK]
    expected += ["final_norm.scale", "final_norm.shift", "out_head.weight"]
    assert list(GPTModel(TINY).state_dict()) == expected


def test_qkv_bias_adds_a_bias_to_each_projection_and_nothing_else() -> None:
    without, with_bias = (GPTModel(replace(TINY, qkv_bias=b)) for b in (False, True))
    added = [name for name in with_bias.state_dict() if name not in without.state_dict()]
    assert added == [f"trf_blocks.{i}.att.W_{part}.bias" for i in range(2) for part in ("query", "key", "value")]
    assert with_bias.n_parameters - without.n_parameters == 2 * 3 * TINY.emb_dim


def test_the_books_mask_is_one_above_the_diagonal_and_comes_before_its_attention() -> None:
    book = GPTModel(TINY).book_state_dict()
    names = list(book)
    mask = book["trf_blocks.1.att.mask"]
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask, np.triu(np.ones((6, 6)), k=1))
    assert names[names.index("trf_blocks.1.att.mask") + 1] == "trf_blocks.1.att.W_query.weight"


def test_weights_start_as_pytorchs_do() -> None:
    config = GPTConfig(vocab_size=500, context_length=64, emb_dim=64, n_heads=4, n_layers=1)
    state = GPTModel(config, rng=Generator(1)).state_dict()
    for name, array in state.items():
        assert array.dtype == np.float32
        if name.endswith("_emb.weight"):
            assert abs(array.mean()) < 0.05
            assert abs(array.std() - 1) < 0.05
        elif name.endswith("scale"):
            assert (array == 1).all()
        elif name.endswith("shift"):
            assert (array == 0).all()
        else:
            bound = 1 / np.sqrt(256 if name.startswith("trf_blocks.0.ff.layers.2") else 64)
            assert 0.9 * bound < np.abs(array).max() <= np.float32(bound)
            assert abs(array.std() / (bound / np.sqrt(3)) - 1) < 4 * np.sqrt(0.2 / array.size)  # 4 standard errors


def test_a_seed_decides_the_weights() -> None:
    first, again, other = (GPTModel(TINY, rng=Generator(seed)).state_dict() for seed in (7, 7, 8))
    assert all((first[name] == again[name]).all() for name in first)
    assert not (first["out_head.weight"] == other["out_head.weight"]).any()


def test_no_two_weight_matrices_start_alike() -> None:
    matrices = [a.ravel()[:8].tolist() for a in GPTModel(TINY).state_dict().values() if a.ndim == 2]
    assert len({tuple(m) for m in matrices}) == len(matrices)


def test_repr_shows_the_parts_by_name_and_shape() -> None:
    lines = repr(GPTModel(TINY)).splitlines()
    assert lines[0] == "GPTModel("
    assert lines[-1] == ")"
    assert lines[1:4] == ["  tok_emb: Embedding(", "    weight: float32[23, 8]", "  )"]
    assert "        W_query: Linear(" in lines
    assert "          weight: float32[8, 8]" in lines
    assert "    1: TransformerBlock(" in lines


# --- what the configuration refuses


@pytest.mark.parametrize("name", ["vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"])
@pytest.mark.parametrize("value", [0, -1, True, 2.0, "12", None])
def test_a_size_that_is_no_whole_number_above_0_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InputError) as error:
        GPTConfig.of(TINY.to_dict() | {name: value})
    assert one_line(error) == f"{name}: {value!r} is not allowed; choose a whole number >= 1"


def test_an_emb_dim_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(InputError) as error:
        replace(TINY, emb_dim=10, n_heads=3)
    assert one_line(error) == "emb_dim: 10 cannot be shared among n_heads = 3; use a multiple"


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan"), float("inf")])
def test_a_drop_rate_outside_0_to_1_is_refused(rate: float) -> None:
    with pytest.raises(InputError) as error:
        replace(TINY, drop_rate=rate)
    assert one_line(error) == f"drop_rate: {rate} is not allowed; choose a number in [0, 1)"


@pytest.mark.parametrize(("name", "value"), [("drop_rate", "0.1"), ("drop_rate", None), ("qkv_bias", "no")])
def test_a_value_of_another_type_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}: ") as error:
        GPTConfig.of(TINY.to_dict() | {name: value})
    assert repr(value).strip("'") in one_line(error)


@pytest.mark.parametrize("rate", [0, 0.0, 0.5, 0.999])
def test_a_drop_rate_of_0_to_below_1_is_allowed(rate: float) -> None:
    assert replace(TINY, drop_rate=rate).drop_rate == rate


def test_an_unknown_key_is_refused_with_the_likely_one() -> None:
    with pytest.raises(InputError) as error:
        GPTModel(TINY.to_dict() | {"n_head": 2})
    assert one_line(error) == "model configuration: 'n_head' is unknown; did you mean 'n_heads'?"


def test_an_unknown_key_that_resembles_none_is_refused_with_all_there_are() -> None:
    with pytest.raises(InputError) as error:
        GPTConfig.of({"zzz": 2})
    assert one_line(error) == (
        "model configuration: 'zzz' is unknown; choose one of "
        "vocab_size, context_length, emb_dim, n_heads, n_layers, drop_rate, qkv_bias"
    )


def test_a_configuration_survives_its_dictionary() -> None:
    assert GPTConfig.of(TINY.to_dict()) == TINY
    assert GPTConfig.of(TINY) is TINY


# --- what ids the model refuses


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros(4, dtype=np.int64), "ids: expected integers of shape (B, T), got int64 of shape (4,)"),
        (np.zeros((1, 2, 2), dtype=np.int64), "ids: expected integers of shape (B, T), got int64 of shape (1, 2, 2)"),
        (np.zeros((1, 2)), "ids: expected integers of shape (B, T), got float64 of shape (1, 2)"),
        (np.zeros((1, 2), dtype=bool), "ids: expected integers of shape (B, T), got bool of shape (1, 2)"),
        (np.zeros((1, 7), dtype=np.int64), "ids: 7 tokens are more than context_length = 6"),
        (np.array([[0, 23]]), "ids: 0 .. 23 reach outside the vocabulary, 0 .. 22"),
        (np.array([[-1, 3]]), "ids: -1 .. 3 reach outside the vocabulary, 0 .. 22"),
    ],
)
def test_ids_that_do_not_fit_are_refused(ids: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        GPTModel(TINY)(ids)
    assert one_line(error) == message


@pytest.mark.parametrize("shape", [(1, 0), (0, 3)])
def test_the_loss_of_no_tokens_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError):
        GPTModel(TINY).loss(ids_of(shape), ids_of(shape))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint16, np.int64])
def test_ids_of_any_integer_dtype_give_the_same_logits(dtype: Any) -> None:
    model, ids = GPTModel(TINY), ids_of((2, 5))
    np.testing.assert_array_equal(model(ids.astype(dtype)).data, model(ids).data)


def test_targets_of_another_shape_are_refused() -> None:
    with pytest.raises(InputError) as error:
        GPTModel(TINY).loss(ids_of((2, 5)), ids_of((2, 4)))
    assert one_line(error) == "targets: shape (2, 4) differs from the ids' (2, 5)"


@pytest.mark.parametrize("bad", [-1, 23, -100])
def test_targets_outside_the_vocabulary_are_refused(bad: int) -> None:
    ids = ids_of((2, 5))
    targets = ids.copy()
    targets[1, 2] = bad
    with pytest.raises(InputError, match="outside the vocabulary"):
        GPTModel(TINY).loss(ids, targets)


# --- what it computes


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (3, 4)])
def test_logits_have_a_row_of_the_vocabulary_for_each_token(shape: tuple[int, int]) -> None:
    logits = GPTModel(TINY)(ids_of(shape))
    assert logits.shape == (*shape, TINY.vocab_size)
    assert logits.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_later_token_changes_no_bit_of_earlier_logits(dtype: Any) -> None:
    config = replace(TINY, context_length=16, qkv_bias=True)
    model = GPTModel(config).to(dtype=dtype)
    ids = ids_of((2, 16), config)
    before = model(ids).data
    for t in range(16):
        changed = ids.copy()
        changed[:, t] = (changed[:, t] + 1) % config.vocab_size
        after = model(changed).data
        np.testing.assert_array_equal(after[:, :t], before[:, :t])
        assert (after[:, t] != before[:, t]).any()


def test_an_earlier_token_changes_all_later_logits() -> None:
    model, ids = GPTModel(TINY).to(dtype=np.float64), ids_of((1, 6))
    changed = ids.copy()
    changed[0, 0] = (changed[0, 0] + 1) % TINY.vocab_size
    assert (model(ids).data != model(changed).data).any(axis=-1).all()


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    model, ids = GPTModel(TINY), ids_of((3, 6))
    before = model(ids).data
    ids[1] = (ids[1] + 1) % TINY.vocab_size
    after = model(ids).data
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    assert (after[1] != before[1]).any()


def test_a_tokens_place_changes_its_logits() -> None:
    logits = GPTModel(TINY)(np.full((1, 6), 3)).data[0]
    assert len(np.unique(logits[:, 0])) == 6


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (3, 6)])
def test_loss_is_the_cross_entropy_of_the_logits_and_so_are_its_gradients(shape: tuple[int, int]) -> None:
    model, ids, targets = GPTModel(TINY).to(dtype=np.float64), ids_of(shape), ids_of(shape, seed=1)
    losses, gradients = [], []
    for loss in (model.loss(ids, targets), F.cross_entropy(model(ids).flatten(0, 1), targets.ravel())):
        loss.backward()
        losses.append(loss.item())
        gradients.append([p.grad for p in model.parameters()])
        for p in model.parameters():
            p.zero_grad()
    assert losses[0] == pytest.approx(losses[1], rel=1e-13)
    scale = max(np.linalg.norm(g) for g in gradients[1])
    assert max(np.linalg.norm(a - b) for a, b in zip(*gradients, strict=True)) < 1e-13 * scale


def test_loss_over_more_tokens_than_one_chunk_is_still_the_cross_entropy_of_the_logits() -> None:
    config = GPTConfig(vocab_size=50257, context_length=50, emb_dim=2, n_heads=1, n_layers=1, drop_rate=0.0)
    model = GPTModel(config).to(dtype=np.float64)  # 83 rows of this vocabulary make a chunk
    ids, targets = ids_of((2, 50), config), ids_of((2, 50), config, seed=1)
    loss = model.loss(ids, targets)
    loss.backward()
    logits = model(ids).data.reshape(100, -1)
    probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    rows = np.arange(100), targets.ravel()
    assert loss.item() == pytest.approx(-np.log(probabilities[rows]).mean(), rel=1e-13)
    probabilities[rows] -= 1
    expected = probabilities.T @ model.features(ids).data.reshape(100, -1) / 100
    assert np.linalg.norm(model.out_head.weight.grad - expected) < 1e-13 * np.linalg.norm(expected)


def test_every_parameter_gets_a_gradient() -> None:
    model = GPTModel(TINY)
    model.loss(ids_of((2, 6)), ids_of((2, 6), seed=1)).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_unused_tokens_and_places_get_a_gradient_of_0() -> None:
    model = GPTModel(TINY)
    ids = np.array([[1, 2, 2]])
    model.loss(ids, ids).backward()
    used = [i for i, row in enumerate(model.tok_emb.weight.grad) if row.any()]
    places = [i for i, row in enumerate(model.pos_emb.weight.grad) if row.any()]
    assert (used, places) == ([1, 2], [0, 1, 2])


# --- dropout


def noisy(seed: int = 0, rate: float = 0.3) -> GPTModel:
    return GPTModel(replace(TINY, drop_rate=rate), rng=Generator(seed))


def test_training_draws_new_masks_each_time_and_evaluation_none() -> None:
    model, ids = noisy(), ids_of((2, 6))
    training = [model.train()(ids).data for _ in range(2)]
    evaluation = [model.eval()(ids).data for _ in range(2)]
    assert (training[0] != training[1]).any()
    np.testing.assert_array_equal(*evaluation)
    assert (training[0] != evaluation[0]).any()


def test_evaluation_draws_nothing_from_the_stream() -> None:
    rng = Generator(3)
    model = GPTModel(replace(TINY, drop_rate=0.3), rng=rng).eval()
    before = rng.state()
    model(ids_of((2, 6)))
    assert rng.state() == before
    model.train()(ids_of((2, 6)))
    assert rng.state() != before


def test_evaluation_equals_a_model_without_dropout() -> None:
    with_dropout, without = noisy(), GPTModel(TINY)
    without.load_state_dict(with_dropout.state_dict())
    np.testing.assert_array_equal(with_dropout.eval()(ids_of((2, 6))).data, without.train()(ids_of((2, 6))).data)


def test_one_seed_gives_one_series_of_training_losses_and_another_seed_another() -> None:
    ids, targets = ids_of((2, 6)), ids_of((2, 6), seed=1)
    weights = noisy().state_dict()

    def losses(seed: int) -> list[float]:
        model = noisy(seed)
        model.load_state_dict(weights)
        return [model.loss(ids, targets).item() for _ in range(3)]

    assert losses(5) == losses(5)
    assert losses(5) != losses(6)


def test_dropout_falls_on_attention_weights_both_residual_branches_and_embeddings_alone() -> None:
    class Recording(Generator):
        shapes: list[tuple[int, ...]]

        def keep_mask(self, shape: tuple[int, ...], rate: float) -> npt.NDArray[np.bool_]:
            self.shapes.append(shape)
            assert rate == 0.3
            return super().keep_mask(shape, rate)

    rng = Recording()
    rng.shapes = []
    GPTModel(replace(TINY, drop_rate=0.3), rng=rng)(ids_of((3, 5)))
    hidden, attention = (3, 5, 8), (3, 2, 5, 5)
    assert rng.shapes == [hidden] + 2 * [attention, hidden, hidden]


def test_the_mean_over_many_dropout_masks_of_the_embeddings_is_the_value_without() -> None:
    model = noisy(rate=0.5)
    tokens = np.full((64, 6), 4)
    embedded = model.tok_emb(tokens) + model.pos_emb(np.arange(6))
    dropped = model.drop_emb(embedded).data
    assert 0.45 < (dropped == 0).mean() < 0.55
    kept = dropped != 0
    np.testing.assert_array_equal(dropped[kept], 2 * embedded.data[kept])


# --- state


def test_a_loaded_state_gives_the_same_logits() -> None:
    source, target = (GPTModel(TINY, rng=Generator(seed)) for seed in (1, 2))
    ids = ids_of((2, 6))
    assert (source(ids).data != target(ids).data).any()
    target.load_state_dict(source.state_dict())
    np.testing.assert_array_equal(source(ids).data, target(ids).data)


def test_loading_copies_so_that_two_models_stay_apart() -> None:
    source, target = GPTModel(TINY, rng=Generator(1)), GPTModel(TINY, rng=Generator(2))
    target.load_state_dict(source.state_dict())
    before = target.out_head.weight.data.copy()
    source.out_head.weight.data += 1
    np.testing.assert_array_equal(target.out_head.weight.data, before)


def test_the_books_state_loads_and_its_masks_are_passed_over() -> None:
    source, target = (GPTModel(TINY, rng=Generator(seed)) for seed in (1, 2))
    target.load_state_dict(source.book_state_dict())
    for name, array in source.state_dict().items():
        np.testing.assert_array_equal(target.state_dict()[name], array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"out_head.weight": None}, "state_dict: out_head.weight (23, 8) is missing"),
        (
            {"out_head.weight": np.zeros((24, 8))},
            "state_dict: out_head.weight has shape (24, 8), this model's is (23, 8)",
        ),
        ({"extra": np.zeros((1, 2))}, "state_dict: extra (1, 2) is not a part of this model"),
        (
            {"out_head.weight": np.zeros((23, 8), dtype=np.int64)},
            "state_dict: out_head.weight is of int64; floating-point numbers are expected",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: dict[str, Any], message: str) -> None:
    model, other = (GPTModel(TINY, rng=Generator(seed)) for seed in (1, 2))
    before = {name: a.copy() for name, a in model.state_dict().items()}
    state = {name: a for name, a in (other.state_dict() | change).items() if a is not None}
    with pytest.raises(InputError) as error:
        model.load_state_dict(state)
    assert one_line(error) == message
    assert all((model.state_dict()[name] == a).all() for name, a in before.items())


def test_to_a_dtype_keeps_the_values_and_computes_in_it() -> None:
    model, ids = GPTModel(TINY), ids_of((2, 6))
    single = model(ids).data
    assert model.to(dtype=np.float64) is model
    double = model(ids).data
    assert {a.dtype for a in model.state_dict().values()} == {np.dtype(np.float64)}
    assert double.dtype == np.float64
    assert np.linalg.norm(double - single) < 1e-6 * np.linalg.norm(double)


def test_a_tied_head_counts_once() -> None:
    model = GPTModel(TINY)
    separate = model.n_parameters
    model.out_head.weight = model.tok_emb.weight
    assert model.n_parameters == separate - TINY.vocab_size * TINY.emb_dim
    assert len(model.parameters()) == len(list(model.named_parameters())) - 1


def test_a_tied_head_sums_the_gradients_of_both_its_uses() -> None:
    ids, targets = ids_of((2, 6)), ids_of((2, 6), seed=1)
    apart = GPTModel(TINY).to(dtype=np.float64)
    apart.out_head.weight.data[...] = apart.tok_emb.weight.data
    apart.loss(ids, targets).backward()
    tied = GPTModel(TINY).to(dtype=np.float64)
    tied.load_state_dict(apart.state_dict())
    tied.out_head.weight = tied.tok_emb.weight
    tied.loss(ids, targets).backward()
    expected = apart.tok_emb.weight.grad + apart.out_head.weight.grad
    assert np.linalg.norm(tied.tok_emb.weight.grad - expected) < 1e-13 * np.linalg.norm(expected)
