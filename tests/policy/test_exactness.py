# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The packed pass equals teacher forcing with the plain model: scores, values, gradients, in every mode and shape."""

import copy
import types

import pytest
import torch

from tests.policy.conftest import MODELS
from tests.policy.plain import plain_scores
from tests.tiny_models import ACTIONS, PROMPTS
from trl_glam.policy import ScoringPolicy, packed_pass


RAGGED = [
    ACTIONS,
    ["turn left", "toggle"],
    # One action is a prefix of another, one is a single word, one needs many tokens.
    ["go", "go forward", "go forward and pick up the grey key", "x"],
    ACTIONS[::-1],
]


def assert_close(packed: torch.Tensor, plain: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert packed.shape == plain.shape
    assert (packed - plain).abs().max() <= tolerance * max(1.0, plain.abs().max().item())


@pytest.mark.parametrize("scoring", ["sum", "token", "word", "paper"])
@pytest.mark.parametrize("name", MODELS)
def test_scores_equal_teacher_forcing(make_policy, name, scoring):
    policy = make_policy(name, scoring=scoring, temperature=2.0)
    out = policy.score(PROMPTS, RAGGED)
    for i, (prompt, actions) in enumerate(zip(PROMPTS, RAGGED, strict=True)):
        with torch.no_grad():
            expected, _ = plain_scores(policy.lm, policy.tokenizer, prompt, actions, scoring)
        assert_close(out.logits[i, : len(actions)], expected / 2.0)
        assert out.logits[i, len(actions) :].eq(float("-inf")).all()
        assert out.mask[i].tolist() == [a < len(actions) for a in range(out.mask.shape[1])]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["flan-t5", "umt5", "llama", "gpt2"])
def test_attention_implementations_agree(make_policy, name, attention):
    policy = make_policy(name, attn_implementation=attention)
    assert policy.config._attn_implementation == attention
    out = policy.score(PROMPTS, RAGGED)
    with torch.no_grad():
        expected, _ = plain_scores(policy.lm, policy.tokenizer, PROMPTS[2], RAGGED[2], "sum")
    assert_close(out.logits[2, :4], expected)


def norm_in_own_precision(self, hidden: torch.Tensor) -> torch.Tensor:
    epsilon = vars(self).get("variance_epsilon", vars(self).get("eps"))
    return self.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + epsilon)


def use_own_precision(model: torch.nn.Module) -> None:
    """T5's and Llama's norms round to float32 whatever the model's type, which alone is 1e-8: undo it for float64."""
    for module in model.modules():
        if type(module).__name__.endswith(("RMSNorm", "T5LayerNorm")):
            module.forward = types.MethodType(norm_in_own_precision, module)


def float64_policy(folder: str) -> ScoringPolicy:
    """A policy whose gradients can be compared, small ones too: float32 rounds some by more than 1e-5 of them."""
    torch.manual_seed(0)
    policy = ScoringPolicy.from_pretrained(folder).double()
    use_own_precision(policy.lm)
    return policy


@pytest.mark.parametrize("name", ["flan-t5", "t5", "umt5", "llama", "gpt2", "qwen3"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_gradients_equal_teacher_forcing(make_policy, name, dtype, tolerance):
    policy = make_policy(name, value_head="paper", detach_value=False).to(dtype).train()
    if dtype == torch.float64:
        use_own_precision(policy.lm)
    generator = torch.Generator().manual_seed(0)
    weights = [torch.rand(len(actions), generator=generator, dtype=dtype) for actions in RAGGED]

    def loss_of(logits: list[torch.Tensor], values: torch.Tensor) -> torch.Tensor:
        policy_loss = sum((w * row.log_softmax(-1)).sum() for w, row in zip(weights, logits, strict=True))
        return policy_loss + 10 * (values - 1).square().sum()

    # The first row twice: a row that is computed once still counts as often as it occurs.
    prompts, actions = [*PROMPTS, PROMPTS[0]], [*RAGGED, RAGGED[0]]
    out = policy(policy.pack(prompts, actions))
    rows = [out.logits[i, : len(row)] for i, row in enumerate(actions)]
    loss = loss_of(rows[:4], out.values[:4]) + (weights[0] * rows[4].log_softmax(-1)).sum()
    loss.backward()
    packed = {key: p.grad.clone() for key, p in policy.named_parameters() if p.grad is not None}

    policy.zero_grad()
    plain = [plain_scores(policy.lm, policy.tokenizer, p, row, "sum") for p, row in zip(PROMPTS, RAGGED, strict=True)]
    values = policy.value_head(torch.stack([state for _, state in plain]))
    expected = loss_of([scores for scores, _ in plain], values)
    expected = expected + (weights[0] * plain[0][0].log_softmax(-1)).sum()
    expected.backward()

    assert torch.allclose(loss, expected, rtol=tolerance)
    for key, parameter in policy.named_parameters():
        assert key in packed, f"{key} has no gradient"
        difference = (packed[key] - parameter.grad).norm()
        assert difference <= tolerance * parameter.grad.norm() + 1e-30, key


@pytest.mark.parametrize("name", ["flan-t5", "gpt2"])
def test_order_duplicates_and_neighbours_change_nothing(make_policy, name):
    policy = make_policy(name, scoring="paper")
    out = policy.score(PROMPTS, RAGGED)
    order = [3, 0, 0, 2, 1, 0, 3]
    batch = policy.pack([PROMPTS[i] for i in order], [RAGGED[i] for i in order])
    assert (batch.num_rows, len(batch)) == (4, 7)
    with torch.no_grad():
        mixed = policy(batch)
    for place, i in enumerate(order):
        n = len(RAGGED[i])
        assert_close(mixed.logits[place, :n], out.logits[i, :n])
    for i, actions in enumerate(RAGGED):
        alone = policy.score([PROMPTS[i]], [actions])
        assert_close(alone.logits[0], out.logits[i, : len(actions)])
    # The actions' order is the logits' order.
    assert_close(policy.score(PROMPTS[:1], [ACTIONS[::-1]]).logits[0].flip(0), out.logits[0, : len(ACTIONS)])


@pytest.mark.parametrize("name", ["flan-t5", "gpt2", "llama"])
def test_splitting_by_length_changes_nothing(make_policy, name, monkeypatch):
    policy = make_policy(name)
    batch = policy.pack(PROMPTS, RAGGED)
    with torch.no_grad():
        split = policy(batch)
        monkeypatch.setitem(packed_pass.TOKENS_PER_GROUP, "cpu", 10**9)
        assert len(batch.split(10**9)) == 1
        whole = policy(batch)
    assert_close(split.logits[batch.action_mask], whole.logits[batch.action_mask])
    assert len(batch.split(1)) == 4
    monkeypatch.setitem(packed_pass.TOKENS_PER_GROUP, "cpu", 1)
    with torch.no_grad():
        single = policy(batch)
    assert_close(single.logits[batch.action_mask], whole.logits[batch.action_mask])
    assert_close(single.values, whole.values)


@pytest.mark.parametrize("name", ["flan-t5", "gpt2", "qwen2"])
def test_values_do_not_need_actions(make_policy, name):
    policy = make_policy(name, value_head="paper")
    with torch.no_grad():
        full = policy(policy.pack(PROMPTS, RAGGED))
        only = policy(policy.pack(PROMPTS, RAGGED), value_only=True)
        none = policy(policy.pack(PROMPTS, [[]] * 4))
        some = policy(policy.pack(PROMPTS, [RAGGED[0], [], RAGGED[2], []]))
        _, state = plain_scores(policy.lm, policy.tokenizer, PROMPTS[1], ["toggle"], "sum")
    assert only.logits is None
    assert none.logits.shape == (4, 0)
    assert some.logits[1].eq(float("-inf")).all() and not some.mask[1].any()
    for out in (only, none, some):
        assert_close(out.values, full.values)
    assert_close(full.values[1], policy.value_head(state[None])[0])


@pytest.mark.parametrize("name", ["flan-t5", "t5", "gpt2", "llama"])
def test_two_training_passes_are_equal_bit_for_bit(make_policy, name):
    policy = make_policy(name).train()
    assert policy.lm.training
    batch = policy.pack(PROMPTS, RAGGED)
    first, second = policy(batch), policy(batch)
    assert torch.equal(first.logits, second.logits)
    policy.eval()
    assert torch.equal(policy(batch).logits, first.logits)


@pytest.mark.parametrize("name", ["flan-t5", "gpt2", "llama"])
def test_ragged_rows_have_finite_gradients(make_policy, name):
    policy = make_policy(name, value_head="paper", detach_value=False).train()
    out = policy(policy.pack(PROMPTS, [RAGGED[0], ["toggle"], RAGGED[2], RAGGED[1]]))
    log_probs = out.logits.log_softmax(-1).masked_fill(~out.mask, 0.0)
    (-(log_probs.exp() * log_probs).sum() + out.values.sum()).backward()
    for key, parameter in policy.named_parameters():
        assert torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", ["flan-t5", "llama"])
def test_bf16_autocast_stays_close_and_gives_float32(make_policy, name):
    policy = make_policy(name)
    batch = policy.pack(PROMPTS, RAGGED)
    with torch.no_grad():
        exact = policy(batch)
        with torch.autocast("cpu", torch.bfloat16):
            rough = policy(batch)
    assert rough.logits.dtype == rough.values.dtype == torch.float32
    difference = (rough.logits - exact.logits)[batch.action_mask].abs()
    assert torch.isfinite(rough.logits[batch.action_mask]).all()
    assert difference.max() < 0.05 * exact.logits[batch.action_mask].abs().max()


@pytest.mark.parametrize("name", ["flan-t5", "llama", "gpt2"])
def test_gradient_checkpointing_changes_nothing(make_policy, name):
    policy = make_policy(name).train()
    other = copy.deepcopy(policy)
    other.activation_checkpointing_enable()
    assert other.is_activation_checkpointing
    batch = policy.pack(PROMPTS, RAGGED)
    for model in (policy, other):
        model(batch).logits.log_softmax(-1)[:, 0].sum().backward()
    for (key, p), (_, q) in zip(policy.lm.named_parameters(), other.lm.named_parameters(), strict=True):
        assert_close(q.grad, p.grad), key


def check_real_scores(policy, prompts: list[str], tolerance: float) -> None:
    out = policy.score(prompts, [ACTIONS] * len(prompts))
    for row, prompt in zip(out.logits, prompts, strict=True):
        with torch.no_grad():
            expected, _ = plain_scores(policy.lm, policy.tokenizer, prompt, ACTIONS, "sum")
        assert (row - expected).abs().max() <= tolerance


@pytest.mark.real
@pytest.mark.parametrize("fixture", ["real_t5", "real_causal"])
def test_real_models_score_like_teacher_forcing(fixture, request):
    policy = ScoringPolicy.from_pretrained(request.getfixturevalue(fixture))
    check_real_scores(policy, PROMPTS[3:], tolerance=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["real_t5", "real_causal"])
def test_real_models_equal_teacher_forcing(fixture, request):
    policy = ScoringPolicy.from_pretrained(request.getfixturevalue(fixture))
    prompts = [PROMPTS[0], PROMPTS[2]]
    check_real_scores(policy, prompts, tolerance=1e-4)
    policy.train()
    policy(policy.pack(prompts, [ACTIONS] * 2)).logits.log_softmax(-1)[:, 0].sum().backward()
    packed = {key: p.grad for key, p in policy.lm.named_parameters()}
    policy.zero_grad()
    loss = sum(
        plain_scores(policy.lm, policy.tokenizer, prompt, ACTIONS, "sum")[0].log_softmax(-1)[0] for prompt in prompts
    )
    loss.backward()
    for key, parameter in policy.lm.named_parameters():
        assert (packed[key] - parameter.grad).norm() <= 1e-4 * parameter.grad.norm(), key
