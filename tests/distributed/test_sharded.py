# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""ZeRO-2, ZeRO-3 and FSDP 2 on two CPU processes: really split, equal to DDP, and saved as a folder that loads
anywhere.

accelerate offers FSDP on GPUs alone; `tests/distributed/job.py` opens it for CPUs, and what runs then is PyTorch's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from tests.distributed import strategies
from tests.tiny_models import PROMPTS, tiny_t5
from trl_glam import ScoringPolicy


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ACTIONS = [["turn left", "go forward", "toggle"]] * len(PROMPTS)
SETTINGS: dict[str, Any] = {
    "optim": "sgd",
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "save_strategy": "no",
    "eval_strategy": "no",
    "total_env_steps": 96,
    # Two micro-batches a step, and gradients that are clipped, those of the value head by themselves.
    "per_device_train_batch_size": 4,
    "max_grad_norm": 0.5,
}
OWN = ("per_second", "share_computed", "tokens", "runtime", "total_flos")


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    # An output layer of its own, as in Flan-T5: ZeRO-3 must not tie it again.
    return tiny_t5(tmp_path_factory.mktemp("t5"), tied=False)


def run(strategy: str, model: str, folder: Path, **more: Any) -> list[dict[str, Any]]:
    ranks_folder = folder.with_name(f"{folder.name}-ranks")
    ranks_folder.mkdir()
    ranks = strategies.start(strategy, ranks_folder)
    try:
        settings = {**SETTINGS, **strategies.SETTINGS[strategy], **more}
        return ranks.run({"kind": "ppo", "model": model, "folder": str(folder), "settings": settings})
    finally:
        ranks.close()


@pytest.fixture(scope="module")
def ddp(t5, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp") / "run"
    return run("ddp", t5, folder), folder


@pytest.mark.parametrize("strategy", ["zero2", "zero3"])
def test_zero_trains_what_ddp_trains(strategy, t5, ddp, tmp_path):
    pytest.importorskip("deepspeed", reason="needs the extra `deepspeed`")
    theirs, their_folder = ddp
    facts = run(strategy, t5, tmp_path / "run")
    for own in facts:
        assert own["distributed_type"] == "DistributedType.DEEPSPEED" and own["wrapper"] == "DeepSpeedEngine"
        # Half of the optimizer's state each, and under ZeRO-3 half of the weights (and a little padding).
        assert own["optimized"] <= 0.6 * own["trainable"]
        assert own["held"] <= 0.6 * own["trainable"] if strategy == "zero3" else own["held"] == own["trainable"]
        assert own["played"] == theirs[0]["played"]
    assert_same_history(theirs[0]["history"], facts[0]["history"])
    assert max(row.get("value_grad_norm", 0) for row in facts[0]["history"]) > SETTINGS["max_grad_norm"]
    check_folder(tmp_path / "run" / "final", their_folder / "final", t5)


def test_fsdp_trains_what_ddp_trains(t5, ddp, tmp_path):
    theirs, their_folder = ddp
    facts = run("fsdp2", t5, tmp_path / "run")
    for own in facts:
        assert own["distributed_type"] == "DistributedType.FSDP" and own["wrapper"] == "FSDPScoringPolicy"
        assert own["held"] <= 0.6 * own["trainable"]
        assert own["played"] == theirs[0]["played"]
    assert_same_history(theirs[0]["history"], facts[0]["history"])
    check_folder(tmp_path / "run" / "final", their_folder / "final", t5)


def test_fsdp_goes_back_to_its_best_checkpoint(t5, tmp_path):
    folder = tmp_path / "run"
    often = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_return", "save_total_limit": None}
    run("fsdp2", t5, folder, **often, **best)
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    state = json.loads((checkpoints[-1] / "trainer_state.json").read_text(encoding="utf-8"))
    kept = load_file(Path(state["best_model_checkpoint"], "model.safetensors"))
    final = load_file(folder / "final" / "model.safetensors")
    assert len(checkpoints) > 2 and final.keys() == kept.keys()
    assert all(torch.equal(final[name], tensor) for name, tensor in kept.items())


def assert_same_history(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> None:
    for one, two in zip(theirs, ours, strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            if not any(part in name for part in OWN):
                assert two[name] == pytest.approx(value, rel=1e-4, abs=1e-4, nan_ok=True), name


def check_folder(ours: Path, theirs: Path, model: str) -> None:
    """One standard folder: the same files with the same tensors, the same scores, and the plain class loads it."""
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
    for file in theirs.glob("*.safetensors"):
        one, two = load_file(file), load_file(ours / file.name)
        assert one.keys() == two.keys()
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5)
    scores = [ScoringPolicy.from_pretrained(folder).score(PROMPTS, ACTIONS) for folder in (ours, theirs)]
    torch.testing.assert_close(scores[0].logits, scores[1].logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores[0].values, scores[1].values, rtol=1e-4, atol=1e-4)
    untrained = AutoModelForSeq2SeqLM.from_pretrained(model)
    trained = AutoModelForSeq2SeqLM.from_pretrained(ours)
    assert torch.equal(trained.lm_head.weight, untrained.lm_head.weight)
    assert not torch.equal(trained.lm_head.weight, trained.shared.weight)


@pytest.mark.parametrize("strategy", ["zero2", "zero3 recipe"])
def test_the_recipes_split_as_they_say(strategy, tmp_path):
    """The shipped configurations as they are, through `accelerate launch`, on a model with tensors above 100,000."""
    pytest.importorskip("deepspeed", reason="needs the extra `deepspeed`")
    model = tiny_t5(tmp_path / "model", d_ff=4096)
    facts = run(strategy, model, tmp_path / "run")
    for own in facts:
        assert own["distributed_type"] == "DistributedType.DEEPSPEED" and own["wrapper"] == "DeepSpeedEngine"
        assert own["optimized"] <= 0.6 * own["trainable"]
        assert strategy == "zero2" or own["held"] <= 0.6 * own["trainable"]
    assert ScoringPolicy.from_pretrained(tmp_path / "run" / "final").score(PROMPTS, ACTIONS).logits.isfinite().all()


def test_bfloat16_is_autocast_as_elsewhere(t5, tmp_path):
    """DeepSpeed's own would round weights, heads and optimizer steps."""
    pytest.importorskip("deepspeed", reason="needs the extra `deepspeed`")
    facts = run("zero2", t5, tmp_path / "run", bf16=True, total_env_steps=32)
    assert facts[0]["dtypes"] == ["torch.float32"] and facts[0]["weights"] == facts[1]["weights"]
    # The first pass over a rollout reads what the rollout read.
    assert abs(facts[0]["history"][0]["ppo/approx_kl"]) < 1e-3
