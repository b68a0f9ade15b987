"""logit_lens ends the model after each block."""

from __future__ import annotations

import numpy as np
from tape.small import IDS, B, L, T, V, model_of, normed
from tape.untouched import unchanged

import nanograd_gpt as ng


def test_the_last_logits_are_the_models_own() -> None:
    model = model_of().eval()
    lens = ng.logit_lens(model, IDS)
    assert (lens.shape, lens.dtype) == ((L, B, T, V), np.float32)
    np.testing.assert_array_equal(lens[-1], model(IDS).data)


def test_the_others_are_those_of_a_model_without_the_later_blocks() -> None:
    model = model_of().eval()
    with ng.no_grad():
        x = model.trf_blocks[0](model.tok_emb(IDS) + model.pos_emb(np.arange(T))).data
    logits = normed(x, model.final_norm) @ model.out_head.weight.data.T
    np.testing.assert_allclose(ng.logit_lens(model, IDS)[0], logits, atol=1e-6)
    short = model_of(n_layers=1)
    short.load_state_dict({name: model.state_dict()[name] for name in short.state_dict()})
    np.testing.assert_array_equal(ng.logit_lens(model, IDS)[0], short.eval()(IDS).data)


def test_the_model_stays_as_it_was() -> None:
    with unchanged(drop_rate=0.3) as model:
        lens = ng.logit_lens(model, IDS)
    np.testing.assert_array_equal(lens[-1], model.eval()(IDS).data)
