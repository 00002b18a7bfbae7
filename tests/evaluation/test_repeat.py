# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The command on a card plays exactly the episodes of the results, or there is none."""

from trl_glam.evaluation import Panel
from trl_glam.evaluation.repeat import eval_command


KWARGS = {"num_dists": 3}


def played(panel, *modes, **fields):
    headline = {"panel": {"name": panel.name, "sha256": panel.hash, "num_episodes": len(panel)}}
    episodes = [{"env_id": key.env_id} for key in panel.episodes()]
    return {
        **headline,
        "env_kwargs": {},
        "mode": modes[0],
        **{mode: {"episodes": episodes} for mode in modes},
        **fields,
    }


def command_of(suites, confidence=0.95, env_module=None):
    return eval_command("org/name", {"seed": 3, "confidence": confidence, "suites": suites}, KWARGS, env_module)


def test_the_command_plays_the_same_panels():
    quick, whole = Panel.load("mixed_train_quick"), Panel.load("goto")
    own = Panel.from_env("BabyAI-Text/GoToLocal-v0", 7, env_kwargs=KWARGS)
    distractors = {f"distractors_{n}": Panel.load(name) for n, name in ((4, "goto_4"), (8, "goto"), (16, "goto_16"))}
    sampled = {name: played(panel, "sampled") for name, panel in distractors.items()}
    head = quick.head(20)
    own_arguments = """--env_id BabyAI-Text/GoToLocal-v0 --env_kwargs '{"num_dists": 3}' --episodes 7"""
    for suites, arguments in (
        ({"no_change": played(quick, "sampled", "greedy")}, "--suite no_change --quick --seed 3"),
        (
            {"no_change": played(head, "sampled", "greedy")},
            "--suite no_change --quick --episodes 20 --seed 3",
        ),
        (sampled, "--suite distractors --seed 3 --mode sampled"),
        ({own.name: played(own, "greedy")}, f"{own_arguments} --seed 3 --mode greedy"),
        ({"goto": played(whole, "sampled", "greedy")}, "--panel goto --seed 3"),
        (
            {"goto": played(whole.head(5), "sampled", env_kwargs={"lexicon": "oov_nouns"})},
            """--panel goto --env_kwargs '{"lexicon": "oov_nouns"}' --episodes 5 --seed 3 --mode sampled""",
        ),
    ):
        assert command_of(suites) == f"trl-glam eval org/name {arguments} --output_dir results"
    french = played(own, "sampled", language="french")
    assert f"{own_arguments.replace(' --episodes', ' --language french --episodes')} --seed" in command_of(
        {own.name: french}
    )
    module = command_of({own.name: played(own, "greedy")}, confidence=0.99, env_module="mine")
    assert "--env_module mine --env_kwargs" in module and "--confidence 0.99" in module
    unknown = Panel.from_env("BabyAI-Text/GoToLocal-v0", 7, first_seed=3)
    assert command_of({"mine": played(unknown, "sampled")}) is None
    assert command_of({"no_change": played(whole, "sampled")}) is None
