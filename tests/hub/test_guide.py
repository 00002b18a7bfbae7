# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`docs/hub.md` followed line by line: its commands in their order, then its Python."""

import re
import shlex
import shutil
from pathlib import Path

from transformers import AutoModelForSeq2SeqLM

from tests.hub.test_import_lamorel import checkpoint
from tests.tiny_models import tiny_t5
from trl_glam.cli.main import main
from trl_glam.policy.heads import sigmoid_mlp


GUIDE = (Path(__file__).parents[2] / "docs" / "hub.md").read_text(encoding="utf-8")


def test_the_guide_s_commands_and_python_run(hub, saved, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.move(saved, "runs/gotolocal")
    for role in ("bot", "random"):
        collect = f"collect --policy {role} --env_id BabyAI-Text/GoToLocalS5N2-v0 --episodes 2 --seed 0"
        assert main([*collect.split(), "--output_dir", f"logs/{role}"]) == 0
    Path("checkpoints").mkdir()
    trained = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5("trained", seed=7))
    checkpoint(Path("checkpoints/gflan_t5"), trained, sigmoid_mlp(32, 1))

    commands = [line for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
    assert len(commands) == 7
    for command in commands:
        # Two episodes instead of a thousand, and the tiny model.
        command = command.replace("--suite no_change", "--suite no_change --quick --episodes 2 --no_references")
        arguments = shlex.split(command.replace("google/flan-t5-large", str(base)), comments=True)
        assert arguments[0] == "trl-glam" and main(arguments[1:]) == 0, command
    assert {name for _, name in hub.repos} == {"org/gotolocal", "org/babyai-logs"}
    assert all(repo.private for repo in hub.repos.values())

    names = {}
    for code in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(code, names)
    assert names["policy"].policy_config.temperature == 2.0
    assert set(names["log"]["policy"]) == {"bot"} and {row["policy"] for row in names["rows"]} == {"bot", "random"}
