# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""An episode read once gives what its prompts give one by one: scores, values, gradients, with and without a cache."""

import logging

import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.policy.plain import plain_scores
from tests.policy.test_exactness import use_own_precision
from tests.tiny_models import ACTIONS, tiny_gpt2, tiny_llama
from trl_glam import PromptTemplate, ScoringPolicy
from trl_glam.policy import PackedBatch, episode_pass, grouped_attention
from trl_glam.policy.episode_batch import EpisodeBatch
from trl_glam.policy.prefix_cache import PrefixCache
from trl_glam.prompts import History
from trl_glam.types import InvalidInputError


CAUSAL = ["llama", "gpt2", "qwen2", "qwen3"]
TEMPLATE = PromptTemplate(num_observations=None)
FEW = ["go", "go forward", "go forward and pick up the grey key", "x"]
# The admissible actions of each step.
SETS = [ACTIONS, ACTIONS, FEW, FEW, ["toggle"], ACTIONS[::-1]]


def episode(mission: str, length: int = len(SETS)) -> list[str]:
    """The prompts of an episode's steps."""
    history = History(TEMPLATE)
    history.reset(mission, ["You see a wall 3 steps forward", f"You see {mission.split(maxsplit=2)[-1]}"])
    prompts = [history.prompt(SETS[0])]
    for step in range(1, length):
        history.append(
            SETS[step - 1][step % len(SETS[step - 1])], [f"You see a key {step} steps left"], SETS[step - 1]
        )
        prompts.append(history.prompt(SETS[step]))
    return prompts


EPISODES = [episode("go to the red ball"), episode("pick up the grey key", 3)]
# In no order at all; one twice.
PROMPTS = [EPISODES[1][2], *EPISODES[0], *EPISODES[1][:2], EPISODES[0][4]]
ROWS = [SETS[2], *SETS, *SETS[:2], SETS[4]]


@pytest.fixture
def make_growing(make_policy):
    return lambda name, **choices: make_policy(name, prompt_template=TEMPLATE, **choices)


def assert_same(output, expected, tolerance=1e-5):
    assert torch.equal(output.mask, expected.mask)
    difference = (output.logits - expected.logits)[output.mask].abs().max()
    assert difference <= tolerance * max(1.0, expected.logits[output.mask].abs().max().item())
    assert torch.allclose(output.values, expected.values, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", CAUSAL)
def test_token_ids_of_a_step_begin_with_those_of_the_step_before(make_growing, name):
    policy = make_growing(name)
    for prompts in EPISODES:
        ids = [policy.packer.prompt_ids(prompt) for prompt in prompts]
        for before, after in zip(ids, ids[1:], strict=False):
            assert after[: len(before)] == before
    # The action taken stands there as it was scored.
    action = list(policy.packer.candidates.token_ids(SETS[0][1], True))
    start = len(policy.packer.prompt_ids(EPISODES[0][0]))
    assert policy.packer.prompt_ids(EPISODES[0][1])[start : start + len(action)] == action


@pytest.mark.parametrize("scoring", ["sum", "paper"])
@pytest.mark.parametrize("name", CAUSAL)
def test_scores_and_values_equal_teacher_forcing(make_growing, name, scoring):
    policy = make_growing(name, scoring=scoring, value_head="paper")
    batch = policy.pack(PROMPTS, ROWS)
    assert isinstance(batch, EpisodeBatch)
    assert (len(batch.lengths), batch.num_rows, len(batch)) == (2, 9, 10)
    with torch.no_grad():
        output = policy(batch)
        for i, (prompt, actions) in enumerate(zip(PROMPTS, ROWS, strict=True)):
            scores, state = plain_scores(policy.lm, policy.tokenizer, prompt, actions, scoring)
            difference = (output.logits[i, : len(actions)] - scores).abs().max()
            assert difference <= 1e-5 * max(1.0, scores.abs().max().item())
            assert (output.values[i] - policy.value_head(state[None])[0]).abs() <= 1e-5
        assert output.logits[~output.mask].eq(float("-inf")).all()
        only = policy(batch, value_only=True)
        assert only.logits is None and torch.allclose(only.values, output.values, atol=1e-6)


@pytest.mark.parametrize("chunk", [10, 50])
@pytest.mark.parametrize("name", CAUSAL)
def test_chunks_and_groups_change_nothing(make_growing, name, chunk, monkeypatch):
    policy = make_growing(name, value_head="paper")
    with torch.no_grad():
        expected = policy(policy.packer.pack(PROMPTS, ROWS))
        monkeypatch.setitem(episode_pass.TOKENS_PER_CHUNK, "cpu", chunk)
        assert_same(policy(policy.pack(PROMPTS, ROWS)), expected)
        monkeypatch.setitem(episode_pass.TOKENS_PER_GROUP, "cpu", 1)
        assert_same(policy(policy.pack(PROMPTS, ROWS)), expected)


@pytest.mark.parametrize("chunk", [10**6, 50])
@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_gradients_equal_those_of_one_row_a_prompt(make_growing, name, dtype, tolerance, chunk, monkeypatch):
    monkeypatch.setitem(episode_pass.TOKENS_PER_CHUNK, "cpu", chunk)
    policy = make_growing(name, value_head="paper", detach_value=False).to(dtype).train()
    if dtype == torch.float64:
        use_own_precision(policy.lm)
    weights = torch.rand(len(PROMPTS), 6, generator=torch.Generator().manual_seed(0), dtype=dtype)
    gradients, losses = [], []
    for batch in (policy.pack(PROMPTS, ROWS), policy.packer.pack(PROMPTS, ROWS)):
        policy.zero_grad()
        output = policy(batch)
        chances = output.logits.log_softmax(-1).masked_fill(~output.mask, 0)
        losses.append((weights * chances).sum(-1) + 10 * (output.values - 1).square())
        losses[-1].sum().backward()
        gradients.append({key: p.grad.clone() for key, p in policy.named_parameters()})
    assert torch.allclose(*losses, rtol=10 * tolerance)
    for key, expected in gradients[1].items():
        assert (gradients[0][key] - expected).norm() <= tolerance * expected.norm() + 1e-30, key


@pytest.mark.parametrize("name", CAUSAL)
def test_steps_with_a_cache_equal_whole_prompts(make_growing, name):
    policy, cache = make_growing(name, value_head="paper"), PrefixCache()
    ids = [[len(policy.packer.prompt_ids(prompt)) for prompt in prompts] for prompts in EPISODES]
    with torch.no_grad():
        for step in range(3):
            prompts, actions = [EPISODES[1][step], EPISODES[0][step]], [SETS[step]] * 2
            batch = policy.pack(prompts, actions, cache, [7, 2])
            assert_same(policy(batch), policy(policy.packer.pack(prompts, actions)))
            # Only what is new is read.
            expected = [lengths[step] - (lengths[step - 1] if step else 0) for lengths in ids]
            assert sorted(batch.lengths) == sorted(expected)
        # A slot whose episode has ended is read from the beginning, beside one that goes on; one text has no slot.
        cache.clear(7)
        prompts, actions = [EPISODES[0][0], EPISODES[0][3], EPISODES[1][1]], [SETS[0], SETS[3], SETS[1]]
        batch = policy.pack(prompts, actions, cache, [7, 2, None])
        assert sorted(batch.stored) == [0, 0, ids[0][2]]
        assert_same(policy(batch), policy(policy.packer.pack(prompts, actions)))
        # Asked again, the last token alone is read, for its state; of another text, what differs is.
        batch = policy.pack(prompts[1:2], [ACTIONS], cache, [2])
        assert batch.lengths == (1,)
        assert_same(policy(batch), policy(policy.packer.pack(prompts[1:2], [ACTIONS])))
        other = [EPISODES[0][3].replace("3 steps left", "9 steps left")]
        batch = policy.pack(other, [ACTIONS], cache, [2])
        assert ids[0][2] < batch.stored[0] < ids[0][3]
        assert_same(policy(batch), policy(policy.packer.pack(other, [ACTIONS])))


@pytest.mark.parametrize("chunk", [10**6, 7])
@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_reading_in_place_equals_reading_a_copy(make_growing, name, dtype, tolerance, chunk, monkeypatch):
    monkeypatch.setitem(episode_pass.TOKENS_PER_CHUNK, "cpu", chunk)
    policy = make_growing(name, value_head="paper").to(dtype)
    use_own_precision(policy.lm)
    caches = [PrefixCache(), PrefixCache()]
    implementation, room = policy.lm.config._attn_implementation, episode_pass._room_in_place
    with torch.no_grad():
        # A third slot begins when the others are far, one of them begins anew, and at last one is left alone.
        for rows in ([(0, 0, 0), (1, 1, 0)], [(0, 0, 1), (1, 1, 1)], [(0, 0, 4), (1, 0, 3), (2, 1, 2)], [(2, 1, 2)]):
            prompts, actions = [EPISODES[e][step] for _, e, step in rows], [SETS[step] for *_, step in rows]
            outputs = []
            for cache, in_place in zip(caches, (True, False), strict=True):
                monkeypatch.setattr(episode_pass, "_room_in_place", room if in_place else lambda *_: 0)
                batch = policy.pack(prompts, actions, cache, [slot for slot, *_ in rows])
                outputs.append(policy(batch))
                computed = policy.computed_tokens(batch)
                # Nothing is padded, where the copy's rows are as long as the longest.
                assert computed == batch.useful_tokens if in_place else computed >= batch.useful_tokens
            assert_same(*outputs, tolerance)
            assert caches[0].num_kept == caches[1].num_kept
    assert policy.lm.config._attn_implementation == implementation


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_learning_with_plain_products_equals_the_fused_kernel(make_growing, name, dtype, tolerance, monkeypatch):
    monkeypatch.setitem(episode_pass.TOKENS_PER_CHUNK, "cpu", 50)
    policy = make_growing(name, value_head="paper", detach_value=False).to(dtype).train()
    use_own_precision(policy.lm)
    seen, outcomes = [], []
    attend = ALL_ATTENTION_FUNCTIONS[grouped_attention._GROUPED]
    monkeypatch.setitem(
        ALL_ATTENTION_FUNCTIONS, grouped_attention._GROUPED, lambda *a, **k: seen.append(1) or attend(*a, **k)
    )
    for pairs in (2**21, 0):
        monkeypatch.setattr(grouped_attention, "_MOST_PAIRS", pairs)
        seen.clear()
        policy.zero_grad()
        output = policy(policy.pack(PROMPTS, ROWS))
        (output.logits.log_softmax(-1)[:, 0].sum() + output.values.sum()).backward()
        assert bool(seen) == (pairs > 0)
        outcomes.append((output, {key: p.grad.clone() for key, p in policy.named_parameters()}))
    (output, gradients), (expected, expected_gradients) = outcomes
    assert_same(output, expected, tolerance)
    for key, gradient in expected_gradients.items():
        assert (gradients[key] - gradient).norm() <= tolerance * gradient.norm() + 1e-30, key


def test_whose_attention_is_replaced(make_growing):
    lm = make_growing("llama").lm
    assert grouped_attention.is_usable(lm)
    assert grouped_attention.suits(lm, 2**21) and not grouped_attention.suits(lm, 2**21 + 1)
    with torch.no_grad():
        assert not grouped_attention.suits(lm, 2**21 + 1) and grouped_attention.suits(lm, 2**21 + 1, in_chunks=True)
    assert not grouped_attention.suits(lm, 2**21 + 1, in_chunks=True)
    lm.set_attn_implementation("eager")
    assert not grouped_attention.is_usable(lm)
    lm.set_attn_implementation("sdpa")
    lm.train().gradient_checkpointing_enable()
    assert not grouped_attention.is_usable(lm) and grouped_attention.is_usable(lm.eval())
    type_of = lm.config.model_type
    lm.config.model_type = "mistral"
    assert not grouped_attention.is_usable(lm)
    # Somebody else's code, by the same name.
    lm.config.model_type = type_of
    lm.__class__ = type("LlamaForCausalLM", (type(lm),), {"__module__": "modeling"})
    assert not grouped_attention.is_usable(lm)


def test_places_that_are_claimed_shorten_what_others_keep_before_a_batch_is_cut(make_growing):
    policy = make_growing("llama")
    per_token = grouped_attention.bytes_per_token(policy.lm)
    lengths = [len(policy.packer.prompt_ids(EPISODES[0][step])) for step in range(4)]
    cache = PrefixCache(max_bytes=2 * (lengths[2] + 20) * per_token)
    with torch.no_grad():
        for step in range(4):
            # One slot, then a second and a third, whose texts are read before and after the first one's.
            rows = [(0, EPISODES[0][step])] + [(n, EPISODES[1][0]) for n in range(1, step)]
            batch = policy.pack([p for _, p in rows], [ACTIONS] * len(rows), cache, [n for n, _ in rows])
            assert_same(policy(batch), policy(policy.packer.pack([p for _, p in rows], [ACTIONS] * len(rows))))
            kept = sum(x.nbytes for x in (*cache._keys, *cache._values))
            assert kept <= cache.max_bytes and cache.num_kept * per_token <= kept


def test_a_batch_that_was_cut_for_another_state_of_the_cache_is_an_error(make_growing):
    policy, cache = make_growing("llama"), PrefixCache()
    with torch.no_grad():
        policy(policy.pack(EPISODES[0][:1], SETS[:1], cache, [0]))
        batch = policy.pack(EPISODES[0][1:2], SETS[1:2], cache, [0])
        other = policy.pack([EPISODES[1][2]], SETS[:1], cache, [0])
        policy(other)
        with pytest.raises(ValueError, match="holds less than when the batch was packed"):
            policy(batch)
        batch = policy.pack(EPISODES[1][2:], SETS[1:2], cache, [0])
        cache.clear()
        with pytest.raises(ValueError, match="holds less than when the batch was packed"):
            policy(batch)


def test_what_was_kept_under_autocast_can_be_read_without(make_growing):
    policy, cache = make_growing("llama"), PrefixCache()
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            policy(policy.pack(EPISODES[0][:1], SETS[:1], cache, [0]))
        output = policy(policy.pack(EPISODES[0][1:2], SETS[1:2], cache, [0]))
        exact = policy(policy.packer.pack(EPISODES[0][1:2], SETS[1:2]))
    assert (output.logits - exact.logits).abs().max() < 0.05 * exact.logits.abs().max()


def test_a_forward_that_failed_leaves_no_wrong_keys(make_growing, monkeypatch):
    policy, cache = make_growing("llama"), PrefixCache()
    other = EPISODES[0][3].replace("1 steps left", "9 steps left")
    with torch.no_grad():
        policy(policy.pack([EPISODES[0][3]], [SETS[3]], cache, [0]))
        before = policy.packer.prompt_ids(EPISODES[0][3])
        last = policy.lm.model.layers[-1].self_attn
        with monkeypatch.context() as patch:
            patch.setattr(type(last), "forward", _failing_at(last, type(last).forward))
            with pytest.raises(MemoryError):
                policy(policy.pack([other, EPISODES[1][0]], [ACTIONS] * 2, cache, [0, 1]))
        assert 0 < cache.num_kept < len(before)
        # A slot that was new in what failed has nothing.
        for prompts in ([EPISODES[0][3], EPISODES[1][0]], [other, EPISODES[1][1]]):
            output = policy(policy.pack(prompts, [ACTIONS] * 2, cache, [0, 1]))
            assert_same(output, policy(policy.packer.pack(prompts, [ACTIONS] * 2)))


def _failing_at(module, forward):
    def failing(self, *args, **kwargs):
        if self is module:
            raise MemoryError("no memory")
        return forward(self, *args, **kwargs)

    return failing


def test_memory_that_nothing_was_written_to_does_no_harm(make_growing):
    policy, cache = make_growing("llama", value_head="paper"), PrefixCache()
    torch.use_deterministic_algorithms(True)  # fills uninitialized memory with NaN
    try:
        with torch.no_grad():
            for step in range(3):
                # The second text is far behind the first.
                prompts, actions = [EPISODES[0][3 + step], EPISODES[1][step]], [SETS[3 + step], SETS[step]]
                output = policy(policy.pack(prompts, actions, cache, [0, 1]))
                assert_same(output, policy(policy.packer.pack(prompts, actions)))
    finally:
        torch.use_deterministic_algorithms(False)


def test_two_texts_of_one_slot_do_not_mix(make_growing):
    policy, cache = make_growing("llama"), PrefixCache()
    prompts, actions = [EPISODES[0][1], EPISODES[1][1], EPISODES[0][0]], [SETS[1], SETS[1], SETS[0]]
    with torch.no_grad():
        policy(policy.pack(prompts, actions, cache, [0, 0, 0]))
        prompts, actions = [EPISODES[0][2]], [SETS[2]]
        assert_same(policy(policy.pack(prompts, actions, cache, [0])), policy(policy.packer.pack(prompts, actions)))


def test_full_cache_reads_the_rest_again_and_says_so_once(make_growing, caplog):
    policy = make_growing("gpt2")
    per_token = grouped_attention.bytes_per_token(policy.lm)
    cache = PrefixCache(max_bytes=2 * 60 * per_token)
    caplog.clear()
    with torch.no_grad(), caplog.at_level(logging.WARNING, logger="trl_glam.policy.prefix_cache"):
        for step in range(3):
            prompts, actions = [EPISODES[0][step], EPISODES[1][step]], [SETS[step]] * 2
            batch = policy.pack(prompts, actions, cache, [0, 1])
            assert batch.stored == ((60, 60) if step else (0, 0))
            assert_same(policy(batch), policy(policy.packer.pack(prompts, actions)))
    assert cache.num_kept == 120
    assert len(caplog.records) == 1 and "the first 60 tokens" in caplog.text


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_gradient_checkpointing_changes_nothing(make_growing, name, monkeypatch):
    monkeypatch.setitem(episode_pass.TOKENS_PER_CHUNK, "cpu", 50)
    policy = make_growing(name).train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            policy.activation_checkpointing_enable()
        policy.zero_grad()
        policy(policy.pack(PROMPTS, ROWS)).logits.log_softmax(-1)[:, 0].sum().backward()
        gradients.append({key: p.grad.clone() for key, p in policy.lm.named_parameters()})
    for key, expected in gradients[0].items():
        assert (gradients[1][key] - expected).norm() <= 1e-5 * expected.norm() + 1e-30, key


def test_action_head_reads_the_same_states(make_growing):
    policy = make_growing("llama", head="action", actions=ACTIONS)
    with torch.no_grad():
        prompts, rows = EPISODES[0], [ACTIONS[:3], *[ACTIONS] * 5]
        assert_same(policy(policy.pack(prompts, rows)), policy(policy.packer.pack(prompts, rows, None, ACTIONS)))


def test_bf16_autocast_stays_close(make_growing):
    policy, cache = make_growing("llama"), PrefixCache()
    with torch.no_grad():
        exact = policy(policy.pack(EPISODES[0], SETS))
        with torch.autocast("cpu", torch.bfloat16):
            outputs = [policy(policy.pack(EPISODES[0], SETS))]
            steps = [policy(policy.pack([p], [a], cache, [0])) for p, a in zip(EPISODES[0], SETS, strict=True)]
    scale = exact.logits[exact.mask].abs().max()
    assert (outputs[0].logits - exact.logits)[exact.mask].abs().max() < 0.05 * scale
    for i, step in enumerate(steps):
        assert (step.logits[0] - exact.logits[i, : len(SETS[i])]).abs().max() < 0.05 * scale


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_an_episode_longer_than_the_model_is_a_clear_error(make, tmp_path):
    policy = ScoringPolicy.from_pretrained(make(tmp_path, max_positions=120), prompt_template=TEMPLATE)
    policy.score(EPISODES[0][:1], SETS[:1])
    with pytest.raises(InvalidInputError, match=r"the model takes 120.*an append-only prompt has none and grows"):
        policy.pack(EPISODES[0][-1:], SETS[-1:], PrefixCache(), [0])


def test_who_takes_the_plain_path(make_policy, make_growing):
    assert not make_growing("flan-t5").shares_prefixes
    assert not make_policy("llama").shares_prefixes
    assert make_growing("llama").shares_prefixes
    for policy in (make_growing("flan-t5"), make_policy("llama", prompt_template=PromptTemplate())):
        assert isinstance(policy.pack(EPISODES[0], SETS), PackedBatch)


@pytest.mark.parametrize("fault", ["wrong", "raises"])
def test_a_model_that_cannot_go_on_from_what_it_read_takes_the_plain_path_with_a_warning(
    make_growing, fault, monkeypatch, caplog
):
    policy = make_growing("llama")
    attention = policy.lm.model.layers[0].self_attn
    forward = type(attention).forward

    def forgetful(self, hidden_states, position_embeddings, attention_mask=None, past_key_values=None, **kwargs):
        if past_key_values is not None and fault == "raises":
            raise NotImplementedError("no cache here")
        if past_key_values is not None:
            # Keys and values of before are dropped, as a model without them would.
            attention_mask = attention_mask[..., -hidden_states.shape[1] :]
        return forward(self, hidden_states, position_embeddings, attention_mask, None, **kwargs)

    monkeypatch.setattr(type(attention), "forward", forgetful)
    with caplog.at_level(logging.WARNING, logger="trl_glam.policy.self_check"):
        assert not policy.shares_prefixes and not policy.shares_prefixes
    assert len(caplog.records) == 1 and "cannot go on from what it has read" in caplog.text
    assert isinstance(policy.pack(EPISODES[0], SETS), PackedBatch)
