# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Collecting: the same rows whatever runs side by side, and whatever interrupts it."""

import multiprocessing
import os
import random
import signal
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tests.logs.walk_world  # noqa: F401  registers LogWalk-v0
from tests.logs.conftest import make_episode, make_record
from trl_glam.agents import RandomAgent
from trl_glam.cli import collect as collect_command
from trl_glam.cli import verify_log as verify_command
from trl_glam.logs import collect_log, load_log, verify_log
from trl_glam.logs.writer import shard_paths
from trl_glam.types import InvalidInputError


WALK = {"env_id": "LogWalk-v0", "seed": 3, "policy": "random"}


def rows_of(directory):
    # One open file a shard: by path, a shard renamed while it is read would be two.
    shards = [pq.read_table(pa.BufferReader(path.read_bytes())) for path in shard_paths(directory)]
    return [row for shard in shards for row in shard.to_pylist()]


def collect_slowly(directory, num_episodes):
    kwargs = {"seconds": 0.001}
    collect_log(
        RandomAgent(),
        directory,
        **WALK,
        env_kwargs=kwargs,
        num_episodes=num_episodes,
        num_envs=8,
        seconds_per_flush=0.05,
    )


@pytest.mark.parametrize("num_envs", [1, 7, 64])
@pytest.mark.parametrize("stop", [{"num_episodes": 20}, {"num_steps": 77}], ids=["episodes", "steps"])
def test_the_log_does_not_depend_on_the_number_of_environments(tmp_path, num_envs, stop):
    collect_log(RandomAgent(), tmp_path / "one", **WALK, **stop, num_envs=1)
    collect_log(RandomAgent(), tmp_path / "many", **WALK, **stop, num_envs=num_envs)
    rows = rows_of(tmp_path / "many")
    assert rows == rows_of(tmp_path / "one")
    assert [row["env_step"] for row in rows] == list(range(len(rows)))
    starts = [row["env_index"] for row in rows if row["step"] == 0]
    assert starts == list(range(len(starts)))


def test_steps_end_with_the_episode_that_reaches_them(tmp_path):
    collected = collect_log(RandomAgent(), tmp_path, **WALK, num_steps=50)
    rows = rows_of(tmp_path)
    assert collected.transitions == len(rows) >= 50
    assert 50 > len(rows) - len([row for row in rows if row["env_index"] == rows[-1]["env_index"]])
    assert collected.successes == sum(row["success"] for row in rows)
    assert collected.episodes == rows[-1]["env_index"] + 1


def test_a_longer_collection_begins_with_the_shorter_one(tmp_path):
    collect_log(RandomAgent(), tmp_path / "a", **WALK, num_episodes=5)
    collect_log(RandomAgent(), tmp_path / "a", **WALK, num_episodes=9)
    collect_log(RandomAgent(), tmp_path / "b", **WALK, num_episodes=9)
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")
    assert collect_log(RandomAgent(), tmp_path / "a", **WALK, num_episodes=9).episodes == 9


def test_kill_9_leaves_whole_episodes_and_a_restart_finishes_them(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trl_glam.logs"])
    collect_slowly(tmp_path / "unbroken", 150)
    expected = rows_of(tmp_path / "unbroken")
    moments = random.Random(0)
    lengths = []
    while len(lengths) < 5:
        process = context.Process(target=collect_slowly, args=(tmp_path / "broken", 150))
        process.start()
        before = len(rows_of(tmp_path / "broken"))
        while process.is_alive() and len(rows_of(tmp_path / "broken")) == before:
            time.sleep(0.005)
        time.sleep(moments.random() * 0.1)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        rows = rows_of(tmp_path / "broken")
        assert rows == expected[: len(rows)], "a prefix of the unbroken log"
        assert rows[-1]["terminated"] or rows[-1]["truncated"], "no episode is cut"
        lengths.append(len(rows))
    assert 0 < lengths[0] < lengths[-1] < len(expected), "killed in the middle, five times"
    collect_slowly(tmp_path / "broken", 150)
    assert rows_of(tmp_path / "broken") == expected
    assert not list((tmp_path / "broken").glob("*.tmp"))
    assert verify_log(tmp_path / "broken", env_module="tests.logs.walk_world").ok


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one of the two"),
        ({"num_episodes": 3, "num_steps": 3}, "give one of the two"),
        ({"num_episodes": 0}, "must be at least 1"),
        ({"num_episodes": 3, "num_envs": 0}, "must be at least 1"),
        ({"num_episodes": 3, "env_id": "NoSuchWorld-v0"}, "NoSuchWorld"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        collect_log(RandomAgent(), tmp_path, **{**WALK, **arguments})


def test_another_collection_is_not_mixed_in(tmp_path):
    collect_log(RandomAgent(), tmp_path, **WALK, num_episodes=3)
    with pytest.raises(InvalidInputError, match=r"collected with \{'seed': 3\}, not with \{'seed': 4\}"):
        collect_log(RandomAgent(), tmp_path, **{**WALK, "seed": 4}, num_episodes=3)


def test_the_commands_collect_verify_and_find_a_doctored_row(tmp_path, capsys):
    arguments = ["--policy", "random", "--env_id", "LogWalk-v0", "--seed", "5", "--env_kwargs", '{"length": 5}']
    arguments += ["--env_module", "tests.logs.walk_world", "--output_dir", str(tmp_path / "log")]
    assert collect_command.main([*arguments, "--episodes", "6"]) == 0
    assert ": 6 episodes" in capsys.readouterr().out
    assert collect_command.main([*arguments, "--steps", "60"]) == 0
    assert load_log(tmp_path / "log").episodes()["episode_id"][0].startswith("0-0-")
    assert verify_command.main([str(tmp_path / "log")]) == 0
    assert "transitions agree (prompts included" in capsys.readouterr().out
    (path,) = shard_paths(tmp_path / "log")
    table = pq.read_table(path)
    rewards = table["reward"].to_pylist()
    rewards[4] += 1.0
    position = table.column_names.index("reward")
    pq.write_table(table.set_column(position, table.schema.field("reward"), [rewards]), path)
    assert verify_command.main([str(tmp_path / "log")]) == 1
    assert "column reward: logged 1." in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--episodes", "0"], ["--episodes", "3", "--steps", "3"], [], ["--epsilon", "2"]]
)
def test_wrong_arguments_are_one_line(tmp_path, arguments):
    with pytest.raises(InvalidInputError):
        stop = ["--episodes", "3"] if arguments[:1] == ["--epsilon"] else []
        rest = ["--policy", "random", "--env_id", "LogWalk-v0", "--seed", "1", "--output_dir", str(tmp_path)]
        collect_command.main([*rest, *arguments, *stop])


def test_a_mixture_is_named_and_seeded(tmp_path):
    arguments = ["--policy", "random", "--epsilon", "0.2", "--env_id", "LogWalk-v0", "--seed", "5", "--episodes", "3"]
    for name in ("a", "b"):
        collect_command.main([*arguments, "--output_dir", str(tmp_path / name)])
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")
    assert rows_of(tmp_path / "a")[0]["policy"] == "random+0.2*random"


@pytest.mark.parametrize(
    ("goal", "done"), [({"num_episodes": 9, "num_steps": None}, 6), ({"num_episodes": None, "num_steps": 90}, 47)]
)
def test_the_bar_goes_on_where_the_log_ends(goal, done):
    bar = collect_command.CollectProgress(**goal, steps_before=40)
    bar.on_episode_end(make_record(make_episode(slot=4, length=3)))
    bar.on_episode_end(make_record(make_episode(slot=5, length=4, success=False)))
    (task,) = bar._bar.tasks
    bar.close()
    assert (task.completed, task.total, task.fields["success"]) == (done, goal["num_episodes"] or 90, "0.500")
