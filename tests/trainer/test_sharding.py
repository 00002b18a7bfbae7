# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What launchers and strategies must hold to, as far as one process can tell."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from accelerate.utils import DistributedType
from peft import LoraConfig

from tests.tiny_models import tiny_llama, tiny_t5
from tests.toy_envs import LampEnv
from trl_glam import BCConfig, GLAMConfig, GLAMTrainer
from trl_glam.trainer.gathering import MAXIMA, mean_metrics
from trl_glam.trainer.sharding import check_deepspeed_field, check_strategy, num_parameters
from trl_glam.types import InvalidInputError


LAUNCHERS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "MASTER_ADDR", "RANK")


@pytest.fixture
def launched(monkeypatch):
    """Sets what launchers tell, and nothing else."""
    for name in (*LAUNCHERS, "ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        monkeypatch.delenv(name, raising=False)

    def tell(**told: str) -> None:
        for name, value in told.items():
            monkeypatch.setenv(name, value)

    return tell


@pytest.mark.parametrize("config", [GLAMConfig, BCConfig])
def test_another_number_of_processes_than_asked_for_is_an_error(config, launched, tmp_path):
    with pytest.raises(InvalidInputError, match="num_processes=2 is asked for, and 1 started.*torchrun"):
        config(output_dir=str(tmp_path), num_processes=2)
    assert config(output_dir=str(tmp_path), num_processes=1).world_size == 1
    launched(WORLD_SIZE="4")
    with pytest.raises(InvalidInputError, match="num_processes=2 is asked for, and 4 started"):
        config(output_dir=str(tmp_path), num_processes=2)


def test_a_launcher_that_starts_one_process_for_several_is_an_error(launched, tmp_path):
    launched(ACCELERATE_MIXED_PRECISION="no")
    GLAMConfig(output_dir=str(tmp_path))
    launched(MASTER_ADDR="127.0.0.1")
    with pytest.raises(InvalidInputError, match="asked for several processes and started one"):
        GLAMConfig(output_dir=str(tmp_path))


def test_deepspeed_of_the_settings_is_refused_where_it_finds_no_processes(launched):
    check_deepspeed_field(1)
    launched(WORLD_SIZE="2")
    check_deepspeed_field(2)
    with pytest.raises(InvalidInputError, match="1 of 2 started processes.*let the launcher bring it"):
        check_deepspeed_field(1)


def accelerator(kind: DistributedType, num_processes: int = 2, **plugin):
    own = SimpleNamespace(**plugin)
    state = SimpleNamespace(deepspeed_plugin=own, fsdp_plugin=own)
    return SimpleNamespace(distributed_type=kind, num_processes=num_processes, state=state)


ZERO3 = {"zero_stage": 3, "zero3_init_flag": True, "zero3_save_16bit_model": True}
FSDP2 = {"fsdp_version": 2, "state_dict_type": "FULL_STATE_DICT", "cpu_ram_efficient_loading": False}


@pytest.mark.parametrize(
    ("told", "found", "message"),
    [
        ({}, accelerator(DistributedType.NO, 1), "each would train by itself"),
        ({"ACCELERATE_USE_FSDP": "true"}, accelerator(DistributedType.MULTI_CPU), "FSDP is asked for"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, accelerator(DistributedType.MULTI_CPU), "DEEPSPEED is asked for"),
        ({}, accelerator(DistributedType.DEEPSPEED, zero_stage=0), "splits nothing"),
        ({}, accelerator(DistributedType.DEEPSPEED, **ZERO3 | {"zero3_init_flag": False}), "zero3_init_flag: true"),
        ({}, accelerator(DistributedType.DEEPSPEED, **ZERO3 | {"zero3_save_16bit_model": False}), "save_16bit_model"),
        ({}, accelerator(DistributedType.FSDP, **FSDP2 | {"fsdp_version": 1}), "fsdp_version: 2"),
        ({}, accelerator(DistributedType.FSDP, **FSDP2 | {"state_dict_type": "SHARDED_STATE_DICT"}), "FULL_STATE"),
        ({}, accelerator(DistributedType.FSDP, **FSDP2 | {"cpu_ram_efficient_loading": True}), "efficient_loading"),
    ],
)
def test_a_strategy_that_is_not_the_one_asked_for_is_an_error(told, found, message, launched):
    launched(WORLD_SIZE="2", **told)
    with pytest.raises(InvalidInputError, match=message):
        check_strategy(found)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({}, accelerator(DistributedType.MULTI_CPU)),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, accelerator(DistributedType.DEEPSPEED, **ZERO3)),
        ({"ACCELERATE_USE_FSDP": "true"}, accelerator(DistributedType.FSDP, **FSDP2)),
    ],
)
def test_a_strategy_that_is_there_is_none(told, found, launched):
    launched(WORLD_SIZE="2", **told)
    check_strategy(found)


@pytest.mark.parametrize("make", [tiny_t5, tiny_llama], ids=["t5", "llama"])
@pytest.mark.parametrize("kind", ["full", "lora", "action head", "everything"])
def test_all_that_is_trained_gets_a_gradient(make, kind, tmp_path):
    """DDP is told so (`ddp_find_unused_parameters`), and would wait for what gets none."""
    settings = {"head": "action"} if kind == "action head" else {}
    if kind == "everything":
        settings = {"freeze_embeddings": False, "value_head": "paper"}
    names = ["q", "v"] if make is tiny_t5 else ["q_proj", "v_proj"]
    args = GLAMConfig(
        output_dir=str(tmp_path), num_envs=2, rollout_steps=4, minibatch_size=8, calibration_prompts=2,
        report_to="none", disable_tqdm=True, **settings,
    )  # fmt: skip
    assert args.ddp_find_unused_parameters is False
    peft_config = LoraConfig(r=2, target_modules=names) if kind == "lora" else None
    trainer = GLAMTrainer(make(tmp_path / "model"), args, environment_factory=LampEnv, peft_config=peft_config)
    trainer.model.train()
    trainer.compute_loss(trainer.model, trainer._prepare_inputs({})).backward()
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert trained and not [name for name, parameter in trained.items() if parameter.grad is None]
    assert num_parameters(trainer.policy, trainable_only=True) == sum(p.numel() for p in trained.values())


def test_maxima_stay_maxima_however_a_minibatch_is_cut():
    alone = SimpleNamespace(num_processes=1)
    (name,) = MAXIMA
    assert mean_metrics(alone, {"a": [1.0, 2.0], name: [0.1, 0.3]}) == {"a": 1.5, name: 0.3}
