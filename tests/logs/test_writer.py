# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The writer: whole episodes only, complete shards at every moment, and an exact way back."""

import json
from operator import itemgetter

import pyarrow.parquet as pq
import pytest

from tests.logs.conftest import make_episode, make_record, write_episode
from trl_glam.logs.schema import COLUMNS, FEATURES, read_metadata, shard_schema, transition_row
from trl_glam.logs.writer import LogWriter, shard_paths
from trl_glam.types import InvalidInputError


def rows_of(directory):
    return [row for path in shard_paths(directory) for row in pq.read_table(path).to_pylist()]


def test_a_row_holds_every_column_of_the_schema(tmp_path):
    writer = LogWriter(tmp_path, run_id="r", policy="random", policy_revision="abc")
    writer.update = 7
    episode = make_episode(slot=3, number=2, options={"task": "goto"})
    write_episode(writer, episode)
    writer.close()
    rows = rows_of(tmp_path)
    assert list(rows[0]) == [column.name for column in COLUMNS]
    for step, (row, transition) in enumerate(zip(rows, episode, strict=True)):
        assert {name: row[name] for name in transition_row(transition)} == transition_row(transition)
        assert (row["run_id"], row["policy"], row["policy_revision"]) == ("r", "random", "abc")
        assert (row["env_step"], row["update"], row["step"]) == (step, 7, step)
    assert [row["next_observation"] is None for row in rows] == [True, True, False]
    assert json.loads(rows[0]["env_options"]) == {"task": "goto"}


def test_nulls_are_only_where_the_schema_allows_them(tmp_path):
    writer = LogWriter(tmp_path, run_id="r", policy="bot", store_prompts=False)
    write_episode(writer, make_episode(with_numbers=False))
    writer.close()
    table = pq.read_table(shard_paths(tmp_path)[0])
    with_nulls = {name for name in table.column_names if table[name].null_count}
    assert with_nulls <= {column.name for column in COLUMNS if column.nullable}
    assert {"prompt", "logprobs", "value"} <= with_nulls


def test_only_whole_episodes_are_written(tmp_path):
    writer = LogWriter(tmp_path, run_id="r", policy="random", rows_per_shard=4)
    whole, running = make_episode(slot=0), make_episode(slot=1, length=5)
    for a, b in zip(running, whole, strict=False):
        writer.on_transition(a)
        writer.on_transition(b)
    writer.on_episode_end(make_record(whole))
    writer.close()
    assert {row["episode_id"] for row in rows_of(tmp_path)} == {"0-0-0"}
    assert [row["env_step"] for row in rows_of(tmp_path)] == [1, 3, 5]


def test_a_shard_grows_until_it_is_full_and_never_cuts_an_episode(tmp_path):
    writer = LogWriter(tmp_path, run_id="r", policy="random", rows_per_shard=10, seconds_per_flush=0.0)
    for number in range(7):
        write_episode(writer, make_episode(number=number, length=4))
        assert len(rows_of(tmp_path)) == 4 * (number + 1) == writer.num_rows
    assert [pq.read_metadata(path).num_rows for path in shard_paths(tmp_path)] == [12, 12, 4]
    assert not list(tmp_path.glob("*.tmp"))


def test_rows_wait_until_the_shard_is_full_or_time_is_up(tmp_path):
    writer = LogWriter(tmp_path, run_id="r", policy="random", rows_per_shard=6, seconds_per_flush=1e9)
    write_episode(writer, make_episode(number=0))
    assert not shard_paths(tmp_path)
    write_episode(writer, make_episode(number=1))
    assert len(rows_of(tmp_path)) == 6


def test_a_restart_goes_on_and_doubles_nothing(tmp_path):
    unbroken = LogWriter(tmp_path / "unbroken", run_id="r", policy="random", rows_per_shard=10)
    for number in range(6):
        write_episode(unbroken, make_episode(number=number, length=4))
    unbroken.close()
    first = LogWriter(tmp_path / "broken", run_id="r", policy="random", rows_per_shard=10, seconds_per_flush=0.0)
    for number in range(4):
        write_episode(first, make_episode(number=number, length=4))
    first.on_transition(make_episode(number=4, length=4)[0])
    (tmp_path / "broken" / "steps-000-00001.tmp").write_bytes(b"half a shard")
    second = LogWriter(tmp_path / "broken", run_id="r", policy="random", rows_per_shard=10)
    assert (second.num_episodes, second.num_rows) == (4, 16)
    for number in range(3, 6):
        if number == 3:
            second.env_steps -= 4  # played again, so counted again
        write_episode(second, make_episode(number=number, length=4))
    second.close()
    assert rows_of(tmp_path / "broken") == rows_of(tmp_path / "unbroken")
    assert [p.name for p in shard_paths(tmp_path / "broken")] == [p.name for p in shard_paths(tmp_path / "unbroken")]
    assert not list((tmp_path / "broken").glob("*.tmp"))


@pytest.mark.parametrize("later_episodes", [0, 1, 6])
def test_a_saved_position_is_found_again_exactly(tmp_path, later_episodes):
    def play(writer, start, stop):
        for number in range(start, stop):
            writer.update = number
            write_episode(writer, make_episode(slot=0, number=number, length=3))

    running = make_episode(slot=1, length=5)
    unbroken = LogWriter(tmp_path / "a", run_id="r", policy="m", rows_per_shard=8)
    broken = LogWriter(tmp_path / "b", run_id="r", policy="m", rows_per_shard=8)
    for writer in (unbroken, broken):
        play(writer, 0, 4)
        for transition in running[:2]:
            writer.on_transition(transition)
    state = json.loads(json.dumps(broken.state_dict()))
    play(broken, 4, 4 + later_episodes)
    broken.flush()
    resumed = LogWriter(tmp_path / "b", run_id="r", policy="m", rows_per_shard=8)
    resumed.load_state_dict(state)
    assert resumed.update == 3
    for writer in (unbroken, resumed):
        play(writer, 4, 6)
        for transition in running[2:]:
            writer.on_transition(transition)
        writer.on_episode_end(make_record(running))
        writer.close()
    assert rows_of(tmp_path / "b") == rows_of(tmp_path / "a")


def test_a_position_beyond_the_log_is_refused(tmp_path):
    writer = LogWriter(tmp_path, run_id="r", policy="m", rows_per_shard=4)
    for number in range(3):
        write_episode(writer, make_episode(number=number))
    state = writer.state_dict()
    shard_paths(tmp_path)[0].unlink()
    with pytest.raises(InvalidInputError, match="does not hold the log that the checkpoint continues"):
        LogWriter(tmp_path, run_id="r", policy="m").load_state_dict(state)


def test_every_rank_writes_its_own_shards_and_its_own_steps(tmp_path):
    writers = [LogWriter(tmp_path, run_id="r", policy="m", rank=rank, num_processes=2) for rank in range(2)]
    for rank, writer in enumerate(writers):
        write_episode(writer, make_episode(slot=rank))
        writer.close()
    assert [path.name for path in shard_paths(tmp_path)] == ["steps-000-00000.parquet", "steps-001-00000.parquet"]
    assert sorted(row["env_step"] for row in rows_of(tmp_path)) == [0, 1, 2, 3, 4, 5]
    again = LogWriter(tmp_path, run_id="r", policy="m", rank=1, num_processes=2)
    assert (again.num_episodes, again.env_steps) == (1, 3)


def test_env_steps_of_several_processes_are_those_of_one_with_all_environments(tmp_path):
    episodes = [make_episode(slot=slot) for slot in range(4)]
    one = LogWriter(tmp_path / "one", run_id="r", policy="m")
    layout = {"num_processes": 2, "num_envs": 2}
    two = [LogWriter(tmp_path / "two", run_id="r", policy="m", rank=rank, **layout) for rank in range(2)]
    # All environments step together.
    for transitions in zip(*episodes, strict=True):
        for slot, transition in enumerate(transitions):
            one.on_transition(transition)
            two[slot // 2].on_transition(transition)
    for slot, episode in enumerate(episodes):
        for writer in (one, two[slot // 2]):
            writer.on_episode_end(make_record(episode))
    for writer in (one, *two):
        writer.close()
    key = itemgetter("env_step")
    assert sorted(rows_of(tmp_path / "two"), key=key) == sorted(rows_of(tmp_path / "one"), key=key)
    again = LogWriter(tmp_path / "two", run_id="r", policy="m", rank=1, **layout)
    assert again.env_steps == two[1].env_steps == 6


def test_a_folder_holds_one_run(tmp_path):
    writer = LogWriter(tmp_path, run_id="one", policy="m")
    write_episode(writer, make_episode())
    writer.close()
    with pytest.raises(InvalidInputError, match="holds the log of the run 'one', 'two' cannot be added"):
        LogWriter(tmp_path, run_id="two", policy="m")


def test_metadata_says_versions_and_settings(tmp_path):
    writer = LogWriter(tmp_path, run_id="r", policy="m", run={"seed": 3})
    write_episode(writer, make_episode())
    writer.close()
    metadata = read_metadata(shard_paths(tmp_path)[0])
    assert metadata["run"] == {"seed": 3} and metadata["run_id"] == "r"
    assert {"trl-glam", "minigrid", "transformers"} <= set(metadata["versions"])


def test_the_arrow_schema_is_that_of_the_features():
    assert shard_schema({}).remove_metadata() == FEATURES.arrow_schema.remove_metadata()
