# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Models that cannot take packed rows are found when they are loaded and are read plainly: exactly, with a warning."""

import logging

import pytest
import torch
from transformers import BloomConfig, GPTNeoConfig, MambaConfig, MistralConfig, MptConfig

from tests.policy.plain import plain_scores
from tests.policy.test_episodes import EPISODES, SETS, TEMPLATE
from tests.policy.test_exactness import RAGGED, assert_close, use_own_precision
from tests.tiny_models import PROMPTS, tiny_causal
from trl_glam import ScoringPolicy
from trl_glam.policy import PackedBatch, decoder_only


SHAPE = {"hidden_size": 32, "num_hidden_layers": 2}
ATTENTION = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
}
CONFIGS = {
    "mamba": lambda: MambaConfig(**SHAPE, state_size=4, time_step_rank=4),
    "bloom": lambda: BloomConfig(hidden_size=32, n_layer=2, n_head=4),
    "mpt": lambda: MptConfig(d_model=32, n_heads=4, n_layers=2),
    "mistral": lambda: MistralConfig(**SHAPE, **ATTENTION, sliding_window=20),
    "gpt_neo": lambda: GPTNeoConfig(
        hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=20
    ),
}
# By a forward that fails, or by scores that differ; the others are read packed as far as their window goes.
NEVER_PACKED = ["mamba", "bloom", "mpt"]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            made[name] = tiny_causal(tmp_path_factory.mktemp(name), CONFIGS[name]())
        return made[name]

    return get


def warnings_in(caplog):
    return [record.message for record in caplog.records if record.name == "trl_glam.policy.self_check"]


@pytest.mark.parametrize("name", NEVER_PACKED)
def test_what_cannot_read_packed_rows_is_found_and_said(folder_of, name, caplog):
    with caplog.at_level(logging.WARNING, logger="trl_glam.policy.self_check"):
        policy = ScoringPolicy.from_pretrained(folder_of(name), prompt_template=TEMPLATE)
    assert policy.longest_packed == 0
    assert [name in message and "a row of its own" in message for message in warnings_in(caplog)] == [True]
    # Nor does it share the prefixes of an append-only prompt; that is not said again.
    assert not policy.shares_prefixes and len(warnings_in(caplog)) == 1
    assert isinstance(policy.pack(EPISODES[0], SETS), PackedBatch)


@pytest.mark.parametrize("scoring", ["sum", "paper"])
@pytest.mark.parametrize("name", CONFIGS)
def test_scores_and_values_equal_teacher_forcing(folder_of, name, scoring):
    policy = ScoringPolicy.from_pretrained(folder_of(name), scoring=scoring, value_head="paper")
    out = policy.score(PROMPTS, RAGGED)
    batch = policy.pack(PROMPTS, RAGGED)
    with torch.no_grad():
        for i, (prompt, actions) in enumerate(zip(PROMPTS, RAGGED, strict=True)):
            expected, state = plain_scores(policy.lm, policy.tokenizer, prompt, actions, scoring)
            assert_close(out.logits[i, : len(actions)], expected)
            assert_close(out.values[i], policy.value_head(state[None])[0])
        only, none = policy(batch, value_only=True), policy(policy.pack(PROMPTS, [[]] * 4))
    assert_close(only.values, out.values)
    assert_close(none.values, out.values)


# Mamba's scan is in float32 whatever its weights are.
@pytest.mark.parametrize(
    "name, dtype, tolerance",
    [("mamba", torch.float32, 1e-5), ("mistral", torch.float32, 1e-5), ("mistral", torch.float64, 1e-9)],
)
def test_gradients_equal_teacher_forcing(folder_of, name, dtype, tolerance):
    policy = ScoringPolicy.from_pretrained(folder_of(name), value_head="paper", detach_value=False).to(dtype).train()
    if dtype == torch.float64:
        use_own_precision(policy.lm)

    def gradients(loss):
        policy.zero_grad()
        loss.backward()
        return {key: p.grad.clone() for key, p in policy.named_parameters()}

    out = policy(policy.pack(PROMPTS, RAGGED))
    found = gradients(out.logits.log_softmax(-1)[:, 0].sum() + 10 * (out.values - 1).square().sum())
    plain = [plain_scores(policy.lm, policy.tokenizer, p, row, "sum") for p, row in zip(PROMPTS, RAGGED, strict=True)]
    values = policy.value_head(torch.stack([state for _, state in plain]))
    loss = sum(scores.log_softmax(-1)[0] for scores, _ in plain) + 10 * (values - 1).square().sum()
    for key, expected in gradients(loss).items():
        assert (found[key] - expected).norm() <= tolerance * expected.norm() + 1e-30, key


def test_rows_that_fit_into_the_attention_window_are_read_packed(folder_of, monkeypatch):
    policy = ScoringPolicy.from_pretrained(folder_of("mistral"))
    assert policy.longest_packed == 20
    packed = []
    forward = decoder_only.forward
    monkeypatch.setattr(decoder_only, "forward", lambda lm, batch: packed.append(batch.lengths) or forward(lm, batch))
    policy.score(["Action 0: ", PROMPTS[0]], RAGGED[:2])
    policy.score(["Action 0: "], RAGGED[:1])
    # Beside a long prompt, a short one goes the long one's way.
    assert packed == [(len(policy.packer.prompt_ids("Action 0: ")),)]


def test_a_model_with_a_window_reads_append_only_prompts_whole_and_says_so(folder_of, caplog):
    policy = ScoringPolicy.from_pretrained(folder_of("mistral"), prompt_template=TEMPLATE)
    with caplog.at_level(logging.WARNING, logger="trl_glam.policy.self_check"):
        assert not policy.shares_prefixes and not policy.shares_prefixes
    assert ["the last 20 tokens only" in message for message in warnings_in(caplog)] == [True]
    assert isinstance(policy.pack(EPISODES[0], SETS), PackedBatch)
