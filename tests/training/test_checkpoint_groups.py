"""The optimizer in a checkpoint: unchanged format for one group, parameter names for several."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.small import one_line, small_loader, small_model

from nanograd_gpt.errors import InputError
from nanograd_gpt.gpt.model import GPTModel
from nanograd_gpt.nn.param_groups import decay_groups
from nanograd_gpt.optim import AdamW
from nanograd_gpt.training.checkpoint import load_checkpoint, read_state, save_checkpoint


def one_step(model: GPTModel, optimizer: AdamW) -> tuple[GPTModel, AdamW]:
    inputs, targets = next(iter(small_loader()))
    model.loss(inputs, targets).backward()
    optimizer.step()
    return model, optimizer


def of_one_group() -> tuple[GPTModel, AdamW]:
    model = small_model(1)
    return model, AdamW(model.parameters(), lr=4e-4, betas=(0.8, 0.99), eps=1e-7, weight_decay=0.2)


def of_two_groups() -> tuple[GPTModel, AdamW]:
    model = small_model(1)
    matrices, others = decay_groups(model, 0.2)
    return model, AdamW([{**matrices, "lr": 0.5}, others], lr=0.1)


def test_the_optimizer_of_one_group_is_written_in_the_form_it_always_had(tmp_path: Path) -> None:
    model, optimizer = one_step(*of_one_group())
    facts = read_state(save_checkpoint(tmp_path / "step", model, optimizer))["optimizer"]
    assert list(facts) == ["settings", "steps"]
    assert facts["settings"] == {"lr": 4e-4, "betas": [0.8, 0.99], "eps": 1e-7, "weight_decay": 0.2}
    assert facts["steps"] == {name: 1 for name, _ in model.named_parameters()}


def test_groups_are_written_with_their_parameters_names_and_come_back(tmp_path: Path) -> None:
    model, optimizer = of_two_groups()
    optimizer.lr = 0.05
    path = save_checkpoint(tmp_path / "step", *one_step(model, optimizer))
    groups = read_state(path)["optimizer"]["groups"]
    assert [g["params"] for g in groups] == [
        [name for name, p in model.named_parameters() if (p.ndim >= 2) == two] for two in (True, False)
    ]
    assert [(g["lr"], g["initial_lr"], g["weight_decay"]) for g in groups] == [(0.25, 0.5, 0.2), (0.05, 0.1, 0)]
    other, restored = of_two_groups()
    load_checkpoint(path, other, restored)
    assert restored.lr == 0.05
    np.testing.assert_equal(restored.state_dict(), optimizer.state_dict())
    np.testing.assert_equal(other.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"settings": {}}, r"optimizer\.safetensors has no optimizer state for tok_emb\.weight"),
        (None, r"step holds weights without the optimizer's state; resume from a step_N"),
        ({"steps": None}, r"optimizer\.safetensors has no optimizer state for tok_emb\.weight"),
    ],
)
def test_a_checkpoint_that_says_nothing_of_its_optimizer_is_refused(tmp_path: Path, facts: Any, message: str) -> None:
    path = save_checkpoint(tmp_path / "step", *of_one_group())
    state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    (path / "state.json").write_text(json.dumps({**state, "optimizer": facts}), encoding="utf-8")
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}
    (path / "MANIFEST.json").write_text(json.dumps(hashes), encoding="utf-8")
    with pytest.raises(InputError, match=message) as error:
        load_checkpoint(path, *of_one_group())
    one_line(error)
