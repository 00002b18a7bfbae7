# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A checkpoint of the shape that GLAM's code writes becomes a policy with the same weights and the same value head."""

import os

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from tests.hub.conftest import ACTIONS
from tests.tiny_models import tiny_t5
from trl_glam import ScoringPolicy
from trl_glam.hub import import_lamorel
from trl_glam.policy.heads import sigmoid_mlp
from trl_glam.types import InvalidInputError


@pytest.fixture
def trained(tmp_path):
    """Another tiny model than the base, in the role of the trained one."""
    return AutoModelForSeq2SeqLM.from_pretrained(tiny_t5(tmp_path / "trained", seed=7))


def checkpoint(folder, lm, value_head, action_head=None):
    folder.mkdir()
    state = {f"module._LLM_model.{name}": tensor for name, tensor in lm.state_dict().items()}
    state |= {f"module._module_functions.value.value_head_op.{k}": v for k, v in value_head.state_dict().items()}
    if action_head is not None:
        heads = action_head.state_dict()
        state |= {f"module._module_functions.policy_head.action_heads_op.{k}": v for k, v in heads.items()}
    torch.save(state, folder / "model.checkpoint")
    return folder


def test_a_checkpoint_becomes_a_policy_with_its_weights_and_value_head(tmp_path, base, trained):
    value_head = sigmoid_mlp(32, 1)
    policy = import_lamorel(checkpoint(tmp_path / "ckpt", trained, value_head), tmp_path / "out", base_model=base)
    loaded = ScoringPolicy.from_pretrained(tmp_path / "out")
    for name, tensor in trained.state_dict().items():
        assert torch.equal(loaded.lm.state_dict()[name], tensor), name
    assert not torch.equal(loaded.lm.lm_head.weight, loaded.lm.shared.weight)
    config = loaded.policy_config
    assert (config.scoring, config.temperature, config.calibration.mode, config.value_head) == (
        "paper",
        1.0,
        "none",
        "paper",
    )
    prompt = loaded.prompt_template.render("go to the red ball", [["You see a wall"]], [], ACTIONS)
    output = loaded.score([prompt], [ACTIONS])
    ids = loaded.tokenizer(prompt, return_tensors="pt").input_ids
    with torch.no_grad():
        states = trained.eval()(input_ids=ids, decoder_input_ids=torch.tensor([[0]]), output_hidden_states=True)
        value = value_head(states.decoder_hidden_states[-1][:, 0])
    torch.testing.assert_close(output.values, value[:, 0], atol=1e-5, rtol=0)
    assert torch.equal(output.logits, policy.score([prompt], [ACTIONS]).logits)


def test_an_action_head_comes_along(tmp_path, base, trained):
    head = sigmoid_mlp(32, 6)
    folder = checkpoint(tmp_path / "ckpt", trained, sigmoid_mlp(32, 1), head)
    import_lamorel(folder / "model.checkpoint", tmp_path / "out", base_model=base)
    loaded = ScoringPolicy.from_pretrained(tmp_path / "out")
    assert loaded.policy_config.head == "action" and loaded.policy_config.actions[:3] == list(ACTIONS)
    assert torch.equal(loaded.action_head.mlp[4].weight, head[4].weight)


def test_code_in_a_checkpoint_does_not_run(tmp_path, base):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"module._LLM_model.x": Evil()}, tmp_path / "model.checkpoint")
    with pytest.raises(InvalidInputError, match="cannot be read as a state dict"):
        import_lamorel(tmp_path, tmp_path / "out", base_model=base)
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


def test_what_is_no_such_checkpoint_is_a_clear_error(tmp_path, base, trained):
    with pytest.raises(InvalidInputError, match="does not exist"):
        import_lamorel(tmp_path / "nothing", tmp_path / "out", base_model=base)
    folder = checkpoint(
        tmp_path / "other", AutoModelForSeq2SeqLM.from_pretrained(tiny_t5(tmp_path / "m")), sigmoid_mlp(16, 1)
    )
    with pytest.raises(InvalidInputError, match="not one of GLAM's value head"):
        import_lamorel(folder, tmp_path / "out", base_model=base)
    torch.save({"model.weight": torch.zeros(2)}, tmp_path / "plain.checkpoint")
    with pytest.raises(InvalidInputError, match="no part of GLAM's model"):
        import_lamorel(tmp_path / "plain.checkpoint", tmp_path / "out", base_model=base)
