# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Folders: what is saved is loaded again, by us and by the plain Auto classes, and nothing is loaded half."""

import json
import shutil

import pytest
import torch
from peft import AutoPeftModelForSeq2SeqLM, LoraConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from tests.policy.plain import plain_scores
from tests.tiny_models import ACTIONS, PROMPTS
from trl_glam.policy import ScoringPolicy
from trl_glam.prompts import PromptTemplate
from trl_glam.types import InvalidInputError


LORA = LoraConfig(r=4, target_modules=["q", "v"])


def changed(policy: ScoringPolicy) -> ScoringPolicy:
    """Every trainable weight moved, every head filled."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    policy.fit_value_normalizer(PROMPTS)
    return policy


def assert_same(policy: ScoringPolicy, other: ScoringPolicy) -> None:
    ours, theirs = policy.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert torch.equal(ours[key], theirs[key]), key
    first, second = (p.score(PROMPTS, [ACTIONS] * 4) for p in (policy, other))
    assert torch.equal(first.logits, second.logits) and torch.equal(first.values, second.values)


@pytest.mark.parametrize("from_state_dict", [False, True])
@pytest.mark.parametrize("name", ["flan-t5", "t5", "t5-scaled-untied", "umt5", "llama", "gpt2", "qwen3"])
def test_round_trip_and_plain_auto_class(make_policy, tmp_path, name, from_state_dict):
    policy = changed(make_policy(name, scoring="token", temperature=2.0, prompt_template=PromptTemplate(1)))
    # DeepSpeed hands over the gathered state under the policy's own prefixes.
    state = {key: tensor.clone() for key, tensor in policy.state_dict().items()} if from_state_dict else None
    policy.save_pretrained(tmp_path, state_dict=state)
    loaded = ScoringPolicy.from_pretrained(tmp_path)
    assert loaded.policy_config == policy.policy_config
    assert loaded.prompt_template == PromptTemplate(1)
    assert_same(policy, loaded)

    auto = AutoModelForSeq2SeqLM if policy.is_encoder_decoder else AutoModelForCausalLM
    plain, tokenizer = auto.from_pretrained(tmp_path).eval(), AutoTokenizer.from_pretrained(tmp_path)
    tied = plain.get_output_embeddings().weight is plain.get_input_embeddings().weight
    assert tied is (name in ("t5", "gpt2", "qwen3"))
    with torch.no_grad():
        expected, _ = plain_scores(plain, tokenizer, PROMPTS[0], ACTIONS, "token")
    assert torch.allclose(policy.score(PROMPTS[:1], [ACTIONS]).logits[0], expected / 2, atol=1e-4)


def test_the_folder_holds_safetensors_and_json_and_no_machine_path(make_policy, tmp_path):
    policy = make_policy("flan-t5", head="action", num_actions=6)
    policy.policy_config.base_model = "local:flan-t5-small-titles"
    policy.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "value_head.safetensors",
        "action_head.safetensors",
        "policy_config.json",
    }
    for path in tmp_path.glob("*.json"):
        assert "/tmp" not in path.read_text() and str(tmp_path) not in path.read_text(), path.name
    # A tensor has one home.
    assert not [key for key in load_file(tmp_path / "model.safetensors") if "head" in key and key != "lm_head.weight"]


@pytest.mark.parametrize("from_state_dict", [False, True])
def test_adapter_round_trip(make_policy, folder_of, tmp_path, from_state_dict):
    policy = changed(make_policy("flan-t5", peft_config=LORA, head="action", num_actions=6))
    policy.score(PROMPTS, [ACTIONS] * 4)
    policy.save_pretrained(tmp_path, state_dict=policy.state_dict() if from_state_dict else None)
    assert not (tmp_path / "model.safetensors").exists()
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == folder_of(
        "flan-t5"
    )
    assert all("lora_" in key for key in load_file(tmp_path / "adapter_model.safetensors"))
    loaded = ScoringPolicy.from_pretrained(tmp_path)
    assert_same(policy, loaded)
    trainable = [[key for key, p in model.named_parameters() if p.requires_grad] for model in (policy, loaded)]
    assert trainable[0] == trainable[1]
    with pytest.raises(InvalidInputError, match="holds an adapter already"):
        ScoringPolicy.from_pretrained(tmp_path, peft_config=LORA)
    plain = AutoPeftModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        ours = policy.lm(input_ids=ids, decoder_input_ids=ids).logits
        assert torch.allclose(plain(input_ids=ids, decoder_input_ids=ids).logits, ours, atol=1e-5)


def test_an_adapter_on_a_saved_policy(make_policy, tmp_path):
    changed(make_policy("flan-t5", temperature=3.0)).save_pretrained(tmp_path / "full")
    policy = changed(ScoringPolicy.from_pretrained(tmp_path / "full", peft_config=LORA))
    assert policy.policy_config.temperature == 3.0
    policy.save_pretrained(tmp_path / "adapter")
    assert_same(policy, ScoringPolicy.from_pretrained(tmp_path / "adapter"))


@pytest.mark.parametrize("peft_config", [None, LORA])
def test_weights_load_into_an_existing_policy(make_policy, tmp_path, peft_config):
    policy = changed(make_policy("flan-t5", peft_config=peft_config))
    policy.save_pretrained(tmp_path)
    fresh = make_policy("flan-t5", peft_config=peft_config)
    parameters = [id(parameter) for parameter in fresh.parameters()]
    fresh.load_weights(tmp_path)
    assert_same(policy, fresh)
    # In place: an optimizer made before still holds the right tensors.
    assert [id(parameter) for parameter in fresh.parameters()] == parameters


@pytest.mark.parametrize("peft_config", [None, LORA])
@pytest.mark.parametrize("fault", ["missing", "unexpected", "reshaped", "corrupt", "absent"])
@pytest.mark.parametrize("file", ["weights", "value_head.safetensors"])
def test_nothing_is_loaded_half(make_policy, tmp_path, peft_config, fault, file):
    policy = changed(make_policy("flan-t5", peft_config=peft_config))
    policy.save_pretrained(tmp_path)
    if file == "weights":
        file = "model.safetensors" if peft_config is None else "adapter_model.safetensors"
    path = tmp_path / file
    weights = load_file(path)
    key = sorted(weights)[0]
    if fault == "missing":
        weights.pop(key)
    elif fault == "unexpected":
        weights["another.weight"] = torch.zeros(1)
    elif fault == "reshaped":
        weights[key] = torch.zeros(3, 3)
    save_file(weights, path, metadata={"format": "pt"})
    if fault == "corrupt":
        path.write_bytes(path.read_bytes()[:50])
    elif fault == "absent":
        path.unlink()
    fresh = make_policy("flan-t5", peft_config=peft_config)
    before = {key: tensor.clone() for key, tensor in fresh.state_dict().items()}
    for load in (fresh.load_weights, ScoringPolicy.from_pretrained):
        with pytest.raises(InvalidInputError, match=tmp_path.name):
            load(tmp_path)
    assert all(torch.equal(before[key], tensor) for key, tensor in fresh.state_dict().items())


def test_weights_of_another_shape_are_refused(make_policy, tmp_path):
    make_policy("t5").save_pretrained(tmp_path)
    with pytest.raises(InvalidInputError, match="ties other weights"):
        make_policy("flan-t5").load_weights(tmp_path)
    make_policy("gpt2").save_pretrained(tmp_path / "gpt2")
    with pytest.raises(InvalidInputError, match="gpt2"):
        make_policy("llama").load_weights(tmp_path / "gpt2")


def test_explicit_choices_override_a_saved_policy_unless_its_weights_contradict(make_policy, tmp_path):
    make_policy("flan-t5", temperature=2.0).save_pretrained(tmp_path)
    loaded = ScoringPolicy.from_pretrained(tmp_path, temperature=5.0, scoring="word", head="scoring")
    assert (loaded.policy_config.temperature, loaded.policy_config.scoring) == (5.0, "word")
    for choices, message in [
        ({"head": "action", "num_actions": 6}, "head='action' was given.*head='scoring'"),
        ({"value_head": "paper"}, "value_head='paper' was given"),
        ({"init": "random"}, "init='random' does not apply"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            ScoringPolicy.from_pretrained(tmp_path, **choices)
    make_policy("flan-t5", head="action", num_actions=6).save_pretrained(tmp_path / "action")
    with pytest.raises(InvalidInputError, match="num_actions=3 was given"):
        ScoringPolicy.from_pretrained(tmp_path / "action", num_actions=3)


def test_an_adapter_whose_base_is_gone_is_named(make_policy, folder_of, tmp_path):
    shutil.copytree(folder_of("flan-t5"), tmp_path / "base")
    policy = ScoringPolicy.from_pretrained(tmp_path / "base", peft_config=LORA)
    policy.save_pretrained(tmp_path / "adapter")
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(InvalidInputError, match="base"):
        ScoringPolicy.from_pretrained(tmp_path / "adapter")
