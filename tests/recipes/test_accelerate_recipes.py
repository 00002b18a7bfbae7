# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The configurations in recipes/accelerate/: accelerate reads them as they are meant, and their commands exist."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
import yaml
from accelerate.commands.config import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from trl_glam import GLAMConfig
from trl_glam.resources import _DATA


FOLDER = _DATA / "recipes" / "accelerate"
KINDS = {
    "multi_gpu": DistributedType.MULTI_GPU,
    "multi_node": DistributedType.MULTI_GPU,
    "zero2": DistributedType.DEEPSPEED,
    "zero3": DistributedType.DEEPSPEED,
    "fsdp2": DistributedType.FSDP,
}


def environment(name: str, *flags: str) -> dict[str, str]:
    """What `accelerate launch --config_file NAME.yaml` tells the processes."""
    argv = ["--config_file", str(FOLDER / f"{name}.yaml"), "--main_process_port", "0", *flags, "script.py"]
    args = launch_command_parser().parse_args(argv)
    args, *_ = _validate_launch_command(args)
    args.deepspeed_fields_from_accelerate_config = ""
    return prepare_deepspeed_cmd_env(args)[1] if args.use_deepspeed else prepare_multi_gpu_env(args)


def test_there_is_a_test_for_every_configuration():
    assert {path.stem for path in FOLDER.iterdir()} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_configuration_says_what_its_name_does(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert config.distributed_type == KINDS[name]
    assert (
        config.num_machines == (2 if name == "multi_node" else 1) and config.num_processes % config.num_machines == 0
    )
    # A CPU in the configuration would turn ZeRO and FSDP into plain DDP.
    assert not config.use_cpu
    assert config.mixed_precision == "no"


@pytest.mark.parametrize(("name", "stage"), [("zero2", "2"), ("zero3", "3")])
def test_zero_is_handed_to_the_processes(name, stage):
    told = environment(name, "--num_processes", "2")
    assert told["ACCELERATE_USE_DEEPSPEED"] == "true" and told["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == stage
    if stage == "3":
        assert told["ACCELERATE_DEEPSPEED_ZERO3_INIT"] == "true"
        assert told["ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL"] == "true"


def test_fsdp_is_handed_to_the_processes():
    told = environment("fsdp2", "--num_processes", "2")
    assert told["ACCELERATE_USE_FSDP"] == "true" and told["FSDP_VERSION"] == "2"
    assert told["FSDP_STATE_DICT_TYPE"] == "FULL_STATE_DICT"
    assert told["FSDP_AUTO_WRAP_POLICY"] == "TRANSFORMER_BASED_WRAP"
    assert told["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"


@pytest.mark.parametrize("name", KINDS)
def test_commands_in_the_comments_exist(name):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["compute_environment"] == "LOCAL_MACHINE"
    shown = "\n".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#   "))
    commands = [line for line in shown.replace("\\\n", " ").splitlines() if "recipes/train.py" in line]
    assert any(f"{name}.yaml" in command for command in commands)
    known = {f"--{field.name}" for field in fields(GLAMConfig)} | {"--config"}
    for command in commands:
        flags = command.partition("recipes/train.py")[2]
        # The number that is started is the number that is asked for.
        assert "--num_processes" in flags and set(re.findall(r"--\w+", flags)) <= known, command
