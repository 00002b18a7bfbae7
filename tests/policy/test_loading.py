# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Names to language models: init, ties, dropout, adapters, and what is refused."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, TaskType
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertLMHeadModel,
)

from tests.policy.conftest import MODELS
from tests.tiny_models import ACTIONS, PROMPTS, tiny_t5
from trl_glam.policy import ScoringPolicy
from trl_glam.policy.loading import load_language_model
from trl_glam.types import InvalidInputError


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("init", ["random", "embeddings"])
@pytest.mark.parametrize("name", ["flan-t5", "t5", "mt5", "gpt2", "llama", "qwen2"])
def test_init_replaces_the_weights_and_keeps_the_ties(folder_of, name, init):
    pretrained, _ = load_language_model(folder_of(name))
    torch.manual_seed(1)
    fresh, _ = load_language_model(folder_of(name), init=init)
    assert count(fresh) == count(pretrained)
    kept = torch.equal(fresh.get_input_embeddings().weight, pretrained.get_input_embeddings().weight)
    assert kept is (init == "embeddings")
    tied = [m.get_output_embeddings().weight is m.get_input_embeddings().weight for m in (fresh, pretrained)]
    assert tied[0] is tied[1]
    own = dict(pretrained.named_parameters())
    same = [key for key, p in fresh.named_parameters() if p.dim() > 1 and torch.equal(p, own[key])]
    # Position embeddings are embeddings too; nothing else is kept.
    assert all("embed" in key or "shared" in key or "wte" in key for key in same)
    assert torch.equal(fresh.train()(**dummy(fresh)).logits, fresh(**dummy(fresh)).logits)


def dummy(lm) -> dict[str, torch.Tensor]:
    ids = torch.tensor([[5, 6, 7]])
    return {"input_ids": ids, "decoder_input_ids": ids} if lm.config.is_encoder_decoder else {"input_ids": ids}


def test_an_untied_output_layer_is_initialized_by_itself(folder_of):
    fresh, _ = load_language_model(folder_of("flan-t5"), init="embeddings")
    assert not torch.equal(fresh.lm_head.weight, fresh.shared.weight)
    assert fresh.encoder.embed_tokens.weight is fresh.shared.weight is fresh.decoder.embed_tokens.weight
    # The next call of tie_weights leaves it alone.
    fresh.tie_weights()
    assert fresh.lm_head.weight is not fresh.shared.weight
    pretrained, _ = load_language_model(folder_of("flan-t5"))
    pretrained.tie_weights()
    assert pretrained.lm_head.weight is not pretrained.shared.weight


@pytest.mark.real
def test_flan_t5_small_has_77_million_parameters_with_every_init(real_t5):
    for init in ("pretrained", "embeddings", "random"):
        lm, _ = load_language_model(real_t5, init=init)
        assert count(lm) == 76_961_152


@pytest.mark.parametrize("name", MODELS)
def test_no_dropout_is_left(folder_of, name):
    lm, _ = load_language_model(folder_of(name))
    for module in lm.modules():
        assert not (isinstance(module, nn.Dropout) and module.p)
        assert not [key for key, v in vars(module).items() if "dropout" in key and isinstance(v, float) and v]
    assert not [key for key, v in vars(lm.config).items() if ("dropout" in key or "pdrop" in key) and v]


def test_lora_is_dropout_free_fits_the_model_and_frees_nothing_else(make_policy):
    policy = make_policy("flan-t5", peft_config=LoraConfig(r=4, lora_dropout=0.5, target_modules=["q", "v"]))
    config = policy.lm.peft_config["default"]
    assert config.task_type == TaskType.SEQ_2_SEQ_LM and config.lora_dropout == 0
    trainable = [key for key, p in policy.named_parameters() if p.requires_grad]
    assert all("lora_" in key or key.startswith("value_head.") for key in trainable)
    policy.train()
    batch = policy.pack(PROMPTS, [ACTIONS] * 4)
    first = policy(batch).logits
    assert torch.equal(first, policy(batch).logits)
    first.log_softmax(-1)[:, 0].sum().backward()
    assert all(p.grad is not None for key, p in policy.named_parameters() if "lora_B" in key)
    # A fresh adapter changes nothing.
    assert torch.allclose(first, make_policy("flan-t5").score(PROMPTS, [ACTIONS] * 4).logits, atol=1e-5)


@pytest.mark.parametrize(
    "peft_config, message",
    [
        (LoraConfig(r=2, target_modules=["q"], task_type="CAUSAL_LM"), "SEQ_2_SEQ_LM"),
        (PromptTuningConfig(num_virtual_tokens=2, task_type="SEQ_2_SEQ_LM"), "packed scoring"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(make_policy, peft_config, message):
    with pytest.raises(InvalidInputError, match=message):
        make_policy("flan-t5", peft_config=peft_config)


def test_models_that_cannot_score_are_refused(tmp_path, folder_of):
    tiny = {"vocab_size": 340, "hidden_size": 32}
    models = {
        "bert": (BertLMHeadModel(BertConfig(**tiny, num_attention_heads=4)), "no decoder"),
        "bart": (
            BartForConditionalGeneration(BartConfig(vocab_size=340, d_model=32)),
            "encoder-decoder of type 'bart'",
        ),
    }
    for name, (model, message) in models.items():
        folder = tmp_path / name
        shutil.copytree(folder_of("gpt2"), folder)
        (folder / "model.safetensors").unlink()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
        with pytest.raises(InvalidInputError, match=message):
            ScoringPolicy.from_pretrained(folder)


def test_foreign_and_corrupt_folders_are_named(tmp_path, folder_of):
    with pytest.raises(InvalidInputError, match="nowhere"):
        ScoringPolicy.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="empty"):
        ScoringPolicy.from_pretrained(tmp_path / "empty")
    broken = tmp_path / "broken"
    shutil.copytree(folder_of("flan-t5"), broken)
    (broken / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(InvalidInputError, match="broken"):
        ScoringPolicy.from_pretrained(broken)
    partial = tmp_path / "partial"
    shutil.copytree(folder_of("flan-t5"), partial)
    weights = load_file(partial / "model.safetensors")
    weights.pop("encoder.block.0.layer.0.SelfAttention.q.weight")
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidInputError, match="1 missing, such as .*SelfAttention.q"):
        ScoringPolicy.from_pretrained(partial)
    no_json = tmp_path / "no_json"
    shutil.copytree(folder_of("flan-t5"), no_json)
    (no_json / "config.json").write_text("{")
    with pytest.raises(InvalidInputError, match="no_json"):
        ScoringPolicy.from_pretrained(no_json)


@pytest.mark.parametrize(
    "choices, message",
    [
        ({"init": "zeros"}, "init='zeros'"),
        ({"scoring": "mean"}, "scoring='mean'"),
        ({"dtype": "float16"}, "float16"),
        ({"attn_implementation": "flash_attention_2"}, "4-D mask"),
        ({"init": "random", "peft_config": LoraConfig(target_modules=["q"])}, "random weights"),
    ],
)
def test_bad_choices_are_named(make_policy, choices, message):
    with pytest.raises(InvalidInputError, match=message):
        make_policy("flan-t5", **choices)


def test_weights_are_float32_unless_asked(make_policy, tmp_path):
    folder = tiny_t5(tmp_path)
    AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    assert ScoringPolicy.from_pretrained(folder).lm.dtype == torch.float32
    assert ScoringPolicy.from_pretrained(folder, dtype="auto").lm.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["flan-t5", "gpt2"])
def test_fused_activations_change_nothing_that_matters(folder_of, name):
    auto = AutoModelForSeq2SeqLM if name == "flan-t5" else AutoModelForCausalLM
    plain = auto.from_pretrained(folder_of(name)).eval()
    ours, _ = load_language_model(folder_of(name))
    assert (plain(**dummy(plain)).logits - ours(**dummy(ours)).logits).abs().max() <= 1e-5
