"""NumPy's numbers give the results and files of Python's; bools, fractions and texts in their place are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.small import BYTES, TEXT, small_loader, small_model

import nanograd_gpt as ng
from nanograd_gpt.arguments import as_python_scalar, flag, for_json, real_number, whole_number
from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn.module import Parameter
from nanograd_gpt.nn.param_groups import decay_groups
from nanograd_gpt.rng import Generator, TorchStream
from nanograd_gpt.tokenizer.tokenizer import train_tokenizer
from nanograd_gpt.training.config import DataConfig, TrainingConfig, preset
from nanograd_gpt.training.corpus import split_text
from nanograd_gpt.training.evaluation import evaluate_text
from nanograd_gpt.training.loop import training_steps
from nanograd_gpt.training.metrics import MetricsLog
from nanograd_gpt.training.schedule import Flat, WarmupCosine
from nanograd_gpt.weights.load import load_weights
from nanograd_gpt.weights.safetensors_file import open_safetensors

SIZES = {"vocab_size": 9, "context_length": 8, "emb_dim": 4, "n_heads": 2, "n_layers": 1}
IDS = np.arange(8)
TEXTS = np.arange(40) % 9
GREEDY = ng.generate_text, ng.generate_text_simple

Call = Callable[[Any], Any]


def gpt(seed: int = 0, **sizes: Any) -> GPTModel:
    return GPTModel({**SIZES, **sizes}, rng=Generator(seed)).eval()


def one_parameter() -> list[Parameter]:
    return [Parameter(np.ones((2, 2), dtype=np.float32))]


def stepped(optimizer: ng.AdamW) -> Any:
    """All that is left of an update."""
    for p in optimizer.parameters:
        (p * 3.0).sum().backward()
    optimizer.step()
    return optimizer.state_dict(), optimizer.flat.data


def trained(**settings: Any) -> Any:
    model = small_model()
    optimizer = ng.AdamW(model.parameters(), lr=0.1)
    settings = {"num_epochs": 1, "eval_freq": 3, "eval_iter": 1, "max_steps": 4, **settings}
    return [vars(r) for r in training_steps(model, small_loader(), small_loader(), optimizer, "cpu", **settings)]


def drawn(rng: Any) -> Any:
    shape = np.uint8(20), np.uint8(20)  # 400 numbers, which no uint8 can count
    return rng.state(), rng.normal(shape), rng.uniform(shape), rng.keep_mask(shape, 0.5), rng.state()


def attention(**settings: Any) -> Any:
    settings = {"d_in": 20, "d_out": 20, "context_length": 20, "num_heads": 20, "dropout": 0.0, **settings}
    made = ng.MultiHeadAttention(**settings, rng=Generator())
    return layer(made), made.context_length, made.num_heads, made.dropout.rate


def trained_simply(**settings: Any) -> Any:
    model = small_model()
    settings = {"num_epochs": 1, "eval_freq": 3, "eval_iter": 1, **settings}
    loaders = small_loader(), small_loader()
    return ng.train_model_simple(
        model, *loaders, ng.AdamW(model.parameters()), "cpu", **settings, start_context="a", tokenizer=BYTES
    )


def clipped(max_norm: Any) -> Any:
    p = Parameter(np.ones((2, 2), dtype=np.float32))
    (p * 3.0).sum().backward()
    return ng.clip_grad_norm([p], max_norm), p.grad


def layer(module: Any) -> Any:
    return [p.data for p in module.parameters()]


# name -> what takes a number of it, and a number that it takes; what it returns is compared
WHOLE: dict[str, tuple[Call, int]] = {
    **{f"GPTConfig {name}": (lambda n, name=name: ng.GPTConfig(**{**SIZES, name: n}).to_dict(), 4) for name in SIZES},
    "GPTModel vocab_size": (lambda n: layer(gpt(vocab_size=n)), 9),
    "Generator seed": (lambda n: drawn(Generator(n)), 123),
    "Generator stream": (lambda n: drawn(Generator(1, n)), 100),
    "TorchStream seed": (lambda n: drawn(TorchStream(n)), 123),
    "TorchStream.manual_seed": (lambda n: (rng := TorchStream(), rng.manual_seed(n), rng.state())[2], 123),
    "Linear d_in": (lambda n: layer(ng.Linear(n, 30, rng=Generator())), 20),
    "Linear d_out": (lambda n: layer(ng.Linear(30, n, rng=Generator())), 20),
    "Embedding n_vectors": (lambda n: layer(ng.Embedding(n, 30, rng=Generator())), 20),
    "Embedding emb_dim": (lambda n: layer(ng.Embedding(30, n, rng=TorchStream())), 20),
    "LayerNorm emb_dim": (lambda n: layer(ng.LayerNorm(n)), 20),
    **{
        f"MultiHeadAttention {name}": (lambda n, name=name: attention(**{name: n}), 20)
        for name in ("d_in", "d_out", "context_length", "num_heads")
    },
    "Sampling top_k": (lambda n: asdict(ng.Sampling(1.0, n)), 3),
    **{f"{f.__name__} max_new_tokens": (lambda n, f=f: f(gpt(), IDS[None], n, 8), 3) for f in GREEDY},
    **{f"{f.__name__} context_size": (lambda n, f=f: f(gpt(), IDS[None], 3, n), 4) for f in GREEDY},
    "generate_text top_k": (lambda n: ng.generate(gpt(), IDS[None], 3, 8, 1.0, n, rng=Generator(1)), 3),
    "generate_text eos_id": (lambda n: ng.generate(gpt(), IDS[None], 3, 8, eos_id=n), 5),
    "generate_batch max_new_tokens": (lambda n: ng.generate_batch(gpt(), [IDS, IDS[:3]], n, 8), 3),
    "generate_batch context_size": (lambda n: ng.generate_batch(gpt(), [IDS, IDS[:3]], 3, n), 4),
    "generate_batch eos_id": (lambda n: ng.generate_batch(gpt(), [IDS, IDS[:3]], 3, 8, eos_id=n), 5),
    "token_attribution position": (lambda n: ng.token_attribution(gpt(), IDS[None], n), 3),
    "complete max_new_tokens": (lambda n: ng.complete(small_model().eval(), "a", BYTES, n), 3),
    "complete context_size": (lambda n: ng.complete(small_model().eval(), "abc", BYTES, 3, context_size=n), 4),
    "complete_stream max_new_tokens": (lambda n: [*ng.complete_stream(small_model().eval(), "a", BYTES, n)], 3),
    "complete_stream context_size": (
        lambda n: [*ng.complete_stream(small_model().eval(), "abc", BYTES, 3, context_size=n)],
        4,
    ),
    "complete_batch max_new_tokens": (lambda n: ng.complete_batch(small_model().eval(), ["a", "b"], BYTES, n), 3),
    "complete_batch context_size": (
        lambda n: ng.complete_batch(small_model().eval(), ["abc", "b"], BYTES, 3, context_size=n),
        4,
    ),
    "beam_search max_new_tokens": (lambda n: ng.beam_search(gpt(), IDS, n, 8, 2), 3),
    "beam_search context_size": (lambda n: ng.beam_search(gpt(), IDS, 3, n, 2), 4),
    "beam_search n_beams": (lambda n: ng.beam_search(gpt(), IDS, 3, 8, n), 3),
    "beam_search n_best": (lambda n: ng.beam_search(gpt(), IDS, 3, 8, 4, n_best=n), 3),
    "beam_search eos_id": (lambda n: ng.beam_search(gpt(), IDS, 3, 8, 2, eos_id=n), 5),
    "explain_next top": (lambda n: ng.explain_next(gpt(), IDS, n), 3),
    "evaluate_text stride": (lambda n: evaluate_text(gpt(), TEXTS, n), 8),
    "evaluate_text batch_size": (lambda n: evaluate_text(gpt(), TEXTS, 4, n), 3),
    "new_cache batch_size": (lambda n: gpt().new_cache(n).memory, 3),
    "new_cache room": (lambda n: gpt().new_cache(2, n).memory, 3),
    "train_tokenizer n_merges": (lambda n: train_tokenizer(TEXT, n)._mergeable_ranks, 20),
    "GPTDatasetV1 max_length": (lambda n: ng.GPTDatasetV1(TEXT, BYTES, n, 4).input_ids, 20),
    "GPTDatasetV1 stride": (lambda n: ng.GPTDatasetV1(TEXT, BYTES, 8, n).input_ids, 20),
    "create_dataloader_v1 batch_size": (lambda n: list(small_loader(batch_size=n)), 20),
    "create_dataloader_v1 max_length": (lambda n: list(small_loader(max_length=n)), 20),
    "create_dataloader_v1 stride": (lambda n: list(small_loader(stride=n)), 20),
    "calc_loss_loader num_batches": (lambda n: ng.calc_loss_loader(small_loader(), small_model(), "cpu", n), 3),
    "evaluate_model eval_iter": (
        lambda n: ng.evaluate_model(small_model(), small_loader(), small_loader(), "cpu", n),
        3,
    ),
    **{
        f"training_steps {name}": (lambda n, name=name: trained(**{name: n}), 2)
        for name in ("num_epochs", "eval_freq", "eval_iter", "max_steps", "accumulate")
    },
    **{
        f"train_model_simple {name}": (lambda n, name=name: trained_simply(**{name: n}), 2)
        for name in ("num_epochs", "eval_freq", "eval_iter")
    },
    "WarmupCosine total_steps": (lambda n: WarmupCosine(0.1, n, 2)(300), 9),
    "WarmupCosine warmup_steps": (lambda n: WarmupCosine(0.1, 300, n)(299), 9),
    **{
        f"settings {name}": (lambda n, name=name: preset("tiny").replace({name: n}).to_toml(), 5)
        for name in ("n_heads", "batch_size", "stride", "n_merges", "epochs", "seed", "warmup_steps", "accumulate")
    },
    "DataConfig batch_size": (lambda n: asdict(DataConfig(batch_size=n)), 5),
    "TrainingConfig eval_freq": (lambda n: asdict(TrainingConfig(eval_freq=n)), 5),
}

REAL: dict[str, tuple[Call, float]] = {
    "GPTConfig drop_rate": (lambda x: ng.GPTConfig(drop_rate=x).to_dict(), 0.1),
    "Dropout rate": (lambda x: ng.Dropout(x, rng=TorchStream(1))(ng.Tensor(np.ones((99, 99)))).data, 0.1),
    "MultiHeadAttention dropout": (lambda x: attention(dropout=x), 0.1),
    **{
        f"AdamW {name}": (lambda x, name=name: stepped(ng.AdamW(one_parameter(), **{name: x})), 0.1)
        for name in ("lr", "eps", "weight_decay")
    },
    "AdamW betas": (lambda x: stepped(ng.AdamW(one_parameter(), betas=(x, x))), 0.1),
    "AdamW group's lr": (lambda x: stepped(ng.AdamW([{"params": one_parameter(), "lr": x}])), 0.1),
    "AdamW.lr": (lambda x: (o := ng.AdamW(one_parameter()), setattr(o, "lr", x), stepped(o))[2], 0.1),
    "param_groups lr": (
        lambda x: (o := ng.AdamW(one_parameter()), o.param_groups[0].update(lr=x), stepped(o))[2],
        0.1,
    ),
    "decay_groups weight_decay": (lambda x: stepped(ng.AdamW(decay_groups(gpt(), x))), 0.1),
    "Sampling temperature": (lambda x: asdict(ng.Sampling(x)), 0.1),
    "Sampling top_p": (lambda x: asdict(ng.Sampling(top_p=x)), 0.1),
    "Sampling min_p": (lambda x: asdict(ng.Sampling(min_p=x)), 0.1),
    "Sampling repetition_penalty": (lambda x: asdict(ng.Sampling(repetition_penalty=x)), 0.1),
    "generate_text temperature": (lambda x: ng.generate(gpt(), IDS[None], 9, 8, x, rng=Generator(1)), 0.7),
    **{
        f"generate_text {name}": (
            lambda x, name=name: ng.generate(gpt(), IDS[None], 9, 8, 1.0, rng=Generator(1), **{name: x}),
            0.3,
        )
        for name in ("top_p", "min_p", "repetition_penalty")
    },
    "beam_search length_penalty": (lambda x: ng.beam_search(gpt(), IDS, 3, 8, 2, x), 0.7),
    "split_text train_ratio": (lambda x: split_text(TEXT * 999, x), 0.1),
    "split_text test_ratio": (lambda x: split_text(TEXT * 999, 0.5, x), 0.1),
    "clip_grad_norm max_norm": (clipped, 0.1),
    "training_steps max_norm": (lambda x: trained(max_norm=x), 0.1),
    "a schedule's rates": (lambda x: trained(schedule=lambda step: x), 0.1),
    "Flat": (lambda x: Flat(x)(1), 0.1),
    "WarmupCosine peak": (lambda x: WarmupCosine(x, 9)(3), 0.1),
    "WarmupCosine minimum": (lambda x: WarmupCosine(0.5, 9, minimum=x)(3), 0.1),
    "Generator.uniform": (lambda x: Generator(1).uniform((9,), x, 0.7), 0.1),
    "TorchStream.uniform": (lambda x: TorchStream(1).uniform((9,), -0.3, x), 0.1),
    "Generator.keep_mask": (lambda x: Generator(1).keep_mask((99, 99), x), 0.1),
    "TorchStream.keep_mask": (lambda x: TorchStream(1).keep_mask((99, 99), x), 0.1),
    **{
        f"settings {name}": (lambda x, name=name: preset("tiny").replace({name: x}).to_toml(), 0.1)
        for name in ("lr", "min_lr", "weight_decay", "max_norm", "drop_rate", "train_ratio")
    },
    "TrainingConfig lr": (lambda x: asdict(TrainingConfig(lr=x)), 0.1),
}

FLAGS: dict[str, Call] = {
    "GPTConfig qkv_bias": lambda b: ng.GPTConfig(qkv_bias=b).to_dict(),
    "GPTConfig tied_head": lambda b: ng.GPTConfig(tied_head=b).to_dict(),
    "settings qkv_bias": lambda b: preset("tiny").replace({"qkv_bias": b}).to_toml(),
    "create_dataloader_v1 shuffle": lambda b: (loader := small_loader(shuffle=b), loader.shuffle, [*loader])[1:],
}


ELSEWHERE = {
    "create_dataloader_v1 num_workers",  # 0, or refused
    *(f"load_pretrained {name}" for name in ("n_heads", "drop_rate")),  # below: they need a file
    "padding_ids vocab_size",  # below: it must be larger than a uint8 can be
    *(f"plot_losses {name}" for name in ("vocab_size", "width")),  # in viz/test_plots.py
    *(f"plot_perplexity {name}" for name in ("vocab_size", "tokens_per_epoch", "width")),
}


def test_every_number_that_a_public_name_takes_is_in_the_tables() -> None:
    asked = {
        f"{name} {parameter.name}"
        for name in ng.__all__
        if callable(getattr(ng, name))
        and name not in ("generate", "InputError", "NonFiniteError", "RunError")  # generate_text's alias
        for parameter in signature(getattr(ng, name)).parameters.values()
        if str(parameter.annotation) in ("int", "float", "int | None", "float | None", "tuple[float, float]")
    }
    assert len(asked) > 50
    assert asked - {*WHOLE, *REAL} == ELSEWHERE


def plain(result: Any) -> Any:
    """For comparing to the bit: arrays as their type, shape and bytes; everything else with its type."""
    if isinstance(result, np.ndarray):
        return str(result.dtype), result.shape, result.tobytes()
    if isinstance(result, dict):
        return {key: plain(value) for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [plain(value) for value in result]
    return type(result), result


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, np.uint64, np.asarray])
@pytest.mark.parametrize(("call", "number"), WHOLE.values(), ids=WHOLE)
def test_numpys_integers_give_what_pythons_give(call: Call, number: int, kind: Callable[[int], Any]) -> None:
    assert plain(call(kind(number))) == plain(call(number))


@pytest.mark.parametrize("wrong", [True, np.True_, 2.0, np.float32(2), "2", np.array([2])], ids=repr)
@pytest.mark.parametrize(("call", "number"), WHOLE.values(), ids=WHOLE)
def test_what_is_no_whole_number_is_refused_in_one_line(call: Call, number: int, wrong: Any) -> None:
    with pytest.raises(InputError) as error:
        call(wrong)
    assert " is not allowed; " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, np.asarray])
@pytest.mark.parametrize(("call", "number"), REAL.values(), ids=REAL)
def test_numpys_floats_give_what_pythons_of_the_same_value_give(
    call: Call, number: float, kind: Callable[[float], Any]
) -> None:
    assert plain(call(kind(number))) == plain(call(float(kind(number))))


@pytest.mark.parametrize("wrong", [True, "0.1", 1j, np.array([0.1]), [0.1]], ids=repr)
@pytest.mark.parametrize(("call", "number"), REAL.values(), ids=REAL)
def test_what_is_no_number_is_refused_in_one_line(call: Call, number: float, wrong: Any) -> None:
    with pytest.raises(InputError) as error:
        call(wrong)
    assert " is not allowed; " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize("call", FLAGS.values(), ids=FLAGS)
def test_numpys_bools_give_what_pythons_give(call: Call, answer: bool) -> None:
    assert plain(call(np.bool_(answer))) == plain(call(answer))
    assert plain(call(np.asarray(answer))) == plain(call(answer))


# --- what is saved


def test_a_model_made_and_trained_with_numpys_numbers_is_saved_as_with_pythons(tmp_path: Path) -> None:
    def saved(name: str, whole: Callable[[int], Any], real: Callable[[float], Any]) -> dict[str, Any]:
        sizes = {name: whole(size) for name, size in SIZES.items()}
        model = GPTModel({**sizes, "drop_rate": real(0.5)}, rng=Generator(whole(1)))
        optimizer = ng.AdamW(model.parameters(), lr=real(0.25), betas=(real(0.5), real(0.75)), eps=real(0.125))
        model.loss(IDS[None], IDS[None]).backward()
        optimizer.step()
        state = {"epoch": whole(3), "losses": [real(0.5)], "done": np.bool_(True) if whole is not int else True}
        path = ng.save_checkpoint(tmp_path / name, model, optimizer, state)
        ng.save_model(path / "alone.safetensors", model)
        ng.load_checkpoint(path, model, optimizer)
        contents = {file.name: file.read_bytes() for file in path.glob("*.json")}
        return {**contents, "the model's own file": open_safetensors(path / "alone.safetensors")[1]}

    python, numpy = saved("python", int, float), saved("numpy", np.int32, np.float32)
    assert python == numpy
    assert json.loads(numpy["state.json"])["done"] is True


@pytest.mark.parametrize(
    ("state", "what"), [({"a": {1, 2}}, "set"), ({"a": np.ones(2)}, "ndarray"), ({(1, 2): 3}, "keys"), ({"a": 1j}, "c")]
)
def test_a_state_that_json_cannot_hold_is_refused_and_nothing_written(tmp_path: Path, state: Any, what: str) -> None:
    model = gpt()
    with pytest.raises(
        InputError, match=rf"^checkpoint: the state cannot be saved \(.*{what}.*\); give what JSON can hold$"
    ):
        ng.save_checkpoint(tmp_path / "step", model, ng.AdamW(model.parameters()), state)
    assert list(tmp_path.iterdir()) == []


def test_metrics_are_logged_as_pythons_numbers(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.write("step", step=np.int64(3), loss=np.float32(0.5), done=np.True_)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"event": "step", "step": 3, "loss": 0.5, "done": true}\n'


def test_n_heads_of_weights_may_be_numpys(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(gpt().state_dict(), tmp_path / "bare.safetensors")
    model = load_weights(tmp_path / "bare.safetensors", n_heads=np.int64(2))
    assert model.config.to_dict() == {**gpt().config.to_dict(), "drop_rate": model.config.drop_rate}


def test_drop_rate_of_weights_may_be_numpys(tmp_path: Path) -> None:
    ng.save_model(tmp_path / "model.safetensors", gpt())
    model = load_weights(tmp_path / "model.safetensors", drop_rate=np.float32(0.25))
    assert plain(model.config.drop_rate) == plain(0.25)
    for wrong in (True, "0.25", 1.5):
        with pytest.raises(InputError, match=r"drop_rate: .* is not allowed; "):
            load_weights(tmp_path / "model.safetensors", drop_rate=wrong)  # type: ignore[arg-type]  # the wrong type is what is tested


def test_a_padded_vocabularys_size_may_be_numpys() -> None:
    size = BYTES.n_vocab + 3
    for number in (np.int64(size), np.uint16(size), np.asarray(size)):
        assert plain(ng.padding_ids(BYTES, number)) == plain(ng.padding_ids(BYTES, size))  # type: ignore[arg-type]  # NumPy's number, accepted at run time
    for wrong in (True, float(size), str(size)):
        with pytest.raises(InputError, match=r"vocab_size: .* is not allowed; "):
            ng.padding_ids(BYTES, wrong)  # type: ignore[arg-type]  # the wrong type is what is tested


def test_set_threads_takes_numpys_integer() -> None:
    from nanograd_gpt.backend.cpu.threads import n_threads

    before = n_threads()
    ng.set_threads(np.int64(before))  # type: ignore[arg-type]  # NumPy's number, accepted at run time
    assert (n_threads(), type(n_threads())) == (before, int)


# --- the checks themselves


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: whole_number("n", 0, 1), "n: 0 is not allowed; choose a whole number >= 1"),
        (lambda: whole_number("n", 9, 1, 8), "n: 9 is not allowed; choose a whole number 1 .. 8"),
        (lambda: whole_number("n", np.uint8(9), 1, 8, "1 .. 8"), "n: 9 is not allowed; choose 1 .. 8"),
        (lambda: whole_number("n", None), "n: None is not allowed; choose a whole number"),
        (lambda: real_number("x", 10**400), f"x: 1{'0' * 76}... is not allowed; choose a number"),
        (lambda: real_number("x", np.ones((2, 2))), "x: array([[1., 1.], [1., 1.]]) is not allowed; choose a number"),
        (lambda: flag("b", np.int64(1)), "b: 1 is not allowed; choose True or False"),
    ],
)
def test_the_line_says_what_where_the_value_and_what_is_allowed(check: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        check()
    assert str(error.value) == message


def test_pythons_own_leaves_all_else_as_it_is() -> None:
    for value in (1, 0.5, True, None, "a", [1], np.ones(2)):
        assert as_python_scalar(value) is value
    numbers = np.int8(1), np.float16(1), np.bool_(1), np.array(1)
    assert [type(as_python_scalar(number)) for number in numbers] == [int, float, bool, int]
    with pytest.raises(TypeError, match="ndarray cannot be written as JSON"):
        for_json(np.ones(2))
