"""Training on CUDA runs the same formulas on CuPy; without a GPU, on a stand-in for CuPy."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from standin.cupy_standin import installed

from nanograd_gpt.backend.select import to_device, to_host
from nanograd_gpt.errors import InputError
from nanograd_gpt.generation.explain import explain_next
from nanograd_gpt.generation.generate import generate_batch, generate_text
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn.param_groups import decay_groups
from nanograd_gpt.optim import AdamW, clip_grad_norm
from nanograd_gpt.rng import Generator
from nanograd_gpt.training.checkpoint import load_checkpoint, save_checkpoint
from nanograd_gpt.training.evaluation import evaluate_text
from nanograd_gpt.training.weights import transfer_weights, weights_hash

CONFIG = {
    "vocab_size": 23,
    "context_length": 8,
    "emb_dim": 12,
    "n_heads": 3,
    "n_layers": 2,
    "drop_rate": 0.1,
    "qkv_bias": False,  # a key's bias has no gradient but rounding, which AdamW would make as large as any other
}
IDS = np.random.default_rng(5).integers(0, 23, (3, 9))


def trainer(device, dtype=np.float64):
    model = GPTModel(CONFIG, rng=Generator(7)).to(device, dtype).train()
    return model, AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)


def train(model, optimizer, steps, ids=IDS):
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        clip_grad_norm(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.data)
    return losses


def close(a, b, tolerance):
    a, b = to_host(a), to_host(b)
    return np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


def test_a_training_step_equals_numpys(standin):
    (on_cpu, cpu_optimizer), (on_cuda, cuda_optimizer) = trainer("cpu"), trainer("cuda")
    cpu_losses, cuda_losses = train(on_cpu, cpu_optimizer, 3), train(on_cuda, cuda_optimizer, 3)
    for a, b in zip(cuda_losses, cpu_losses, strict=True):
        assert close(a, b, 1e-12)
    for (name, a), (_, b) in zip(on_cuda.named_parameters(), on_cpu.named_parameters(), strict=True):
        assert close(a.data, b.data, 1e-12), name
        assert close(a.grad, b.grad, 1e-12), name


def test_a_step_that_clips_within_equals_numpys(standin):
    (on_cpu, cpu_optimizer), (on_cuda, cuda_optimizer) = trainer("cpu"), trainer("cuda")
    for _ in range(2):
        norms = []
        for model, optimizer in ((on_cpu, cpu_optimizer), (on_cuda, cuda_optimizer)):
            optimizer.zero_grad()
            model.loss(IDS[:, :-1], IDS[:, 1:]).backward()
            norms.append(optimizer.step(0.5))
        assert float(norms[1]) == pytest.approx(float(norms[0]), rel=1e-12)
    for (name, a), (_, b) in zip(on_cuda.named_parameters(), on_cpu.named_parameters(), strict=True):
        assert close(a.data, b.data, 1e-12), name


def test_a_training_step_waits_for_the_device_only_to_read_the_loss():
    with installed() as standin:
        model, optimizer = trainer("cuda", np.float32)
        ids = to_device(IDS, "cuda")
        train(model, optimizer, 1, ids)
        standin.syncs.clear()
        (loss,) = train(model, optimizer, 1, ids)
        assert standin.syncs == []
        float(loss)
        assert len(standin.syncs) == 1


def test_sampling_continues_with_the_same_tokens(standin):
    texts = [
        generate_text(trainer(device)[0].eval(), IDS[:2, :4], max_new_tokens=12, context_size=8)
        for device in ("cpu", "cuda")
    ]
    assert np.array_equal(*texts)


def test_prompts_of_different_lengths_continue_with_the_same_tokens(standin):
    prompts = [IDS[0, :2], IDS[1, :7], IDS[2]]  # one is longer than the context, one becomes so
    texts = [
        generate_batch(trainer(device)[0].eval(), prompts, max_new_tokens=5, context_size=8)
        for device in ("cpu", "cuda")
    ]
    for a, b in zip(*texts, strict=True):
        assert np.array_equal(a, b)


def test_a_cached_token_waits_for_the_device_once_to_read_it():
    with installed() as standin:
        model = trainer("cuda", np.float32)[0].eval()
        generate_text(model, IDS[:2, :3], max_new_tokens=5, context_size=8)
        assert sum("select.py" in sync for sync in standin.syncs) == 5
        assert len(standin.syncs) == 6  # once, a recorded token is compared with the one that was recorded


def test_a_checkpoint_crosses_from_one_device_to_the_other(standin, tmp_path):
    model, optimizer = trainer("cuda")
    train(model, optimizer, 2)
    save_checkpoint(tmp_path / "step_1", model, optimizer)
    other, other_optimizer = trainer("cpu")
    load_checkpoint(tmp_path / "step_1", other, other_optimizer)
    for a, b in zip(train(model, optimizer, 2), train(other, other_optimizer, 2), strict=True):
        assert close(a, b, 1e-12)


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_a_texts_loss_is_the_same(standin, stride):
    on_cpu, on_cuda = (evaluate_text(trainer(device)[0], IDS.ravel(), stride, 2) for device in ("cpu", "cuda"))
    assert on_cuda.nats == pytest.approx(on_cpu.nats, rel=1e-12)


def test_what_a_model_expects_is_the_same(standin):
    on_cpu, on_cuda = (explain_next(trainer(device)[0], IDS[0, :8], 23) for device in ("cpu", "cuda"))
    for a, b in zip(on_cuda, on_cpu, strict=True):
        assert [c.token for c in a.candidates] == [c.token for c in b.candidates]
        assert a.actual == (b.actual and pytest.approx(b.actual, rel=1e-9))


def test_weights_cross_to_the_device_a_training_is_on(standin):
    source = GPTModel(CONFIG, rng=Generator(8))
    target = GPTModel({**CONFIG, "context_length": 5}, rng=Generator(9)).to("cuda")
    transfer_weights(source, target)
    for name, array in target.state_dict().items():
        expected = source.state_dict()[name]
        assert np.array_equal(to_host(array), expected[:5] if name == "pos_emb.weight" else expected), name
    assert weights_hash(source) == weights_hash(GPTModel(CONFIG, rng=Generator(8)).to("cuda"))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_a_twin_of_model_and_optimizer_trains_on_to_the_same_bits(standin, copied):
    model = GPTModel(CONFIG, rng=Generator(7)).to("cuda").train()
    optimizer = AdamW(decay_groups(model, 0.1), lr=1e-2)
    train(model, optimizer, 2)
    twin, second = copied((model, optimizer))
    assert {p.device for p in twin.parameters()} == {"cuda"}
    assert all(p.data.base is second.flat.data for p in twin.parameters())
    for pair in ((model, optimizer), (twin, second)):
        train(*pair, 1)
    assert weights_hash(twin) == weights_hash(model)


def test_a_state_from_the_host_is_checked_and_taken_on_the_device(standin):
    source = trainer("cpu")[1]
    model, optimizer = trainer("cuda")
    optimizer.load_state_dict(source.state_dict())
    train(model, optimizer, 1)
    state = optimizer.state_dict()
    optimizer.load_state_dict(state)
    state["exp_avg_sq"][0][0, 0] = -1
    with pytest.raises(InputError, match=r"optimizer: exp_avg_sq\[0\] contains -1\.0"):
        optimizer.load_state_dict(state)
