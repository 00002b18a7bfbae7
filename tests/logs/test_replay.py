# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The replay: an honest log agrees with its world, and a changed cell is found where it is."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tests.logs.walk_world  # noqa: F401  registers LogWalk-v0
from trl_glam.agents import RandomAgent
from trl_glam.logs import LogWriter, collect_log, verify_log
from trl_glam.logs.writer import shard_paths
from trl_glam.prompts import PromptTemplate
from trl_glam.rollout import ListedEpisodes, Runner
from trl_glam.types import EpisodeKey, InvalidInputError


@pytest.fixture
def directory(tmp_path):
    collect_log(RandomAgent(), tmp_path / "log", env_id="LogWalk-v0", seed=3, policy="random", num_episodes=12)
    return tmp_path / "log"


def rewrite(directory, change):
    (path,) = shard_paths(directory)
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    return rows


def test_an_honest_log_agrees(directory):
    report = verify_log(directory)
    assert report.ok and report.prompts_checked
    assert (report.episodes, report.transitions) == (12, pq.read_metadata(shard_paths(directory)[0]).num_rows)


def test_options_and_keyword_arguments_are_replayed(tmp_path):
    writer = LogWriter(tmp_path, run_id="r", policy="random")
    keys = [
        EpisodeKey("LogWalk-v0", seed, options={"goal": 1}, env_kwargs={"length": 9}, number=seed) for seed in range(5)
    ]
    Runner(
        lambda key: tests.logs.walk_world.WalkEnv(**key.env_kwargs),
        ListedEpisodes(keys),
        2,
        RandomAgent(),
        PromptTemplate(),
        seed=0,
        sinks=[writer],
    ).run()
    writer.close()
    assert verify_log(tmp_path).episodes == 5
    rewrite(tmp_path, lambda rows: [row.update(env_options=None) for row in rows])
    assert verify_log(tmp_path).difference.column in ("task_kind", "mission")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("mission", "go to 77"),
        ("observation", ["You are at 77"]),
        ("prompt", "another prompt"),
        ("admissible_actions", ["walk left", "walk right", "wait", "fly"]),
        ("action", "fly"),
        ("action_index", 3),
        ("action_index", -1),
        ("reward", 0.5),
        ("terminated", True),
        ("truncated", True),
        ("success", True),
        ("next_observation", ["You are at 77"]),
        ("task_kind", None),
        ("step", 5),
        ("env_seed", 12345),
    ],
)
def test_a_doctored_cell_is_found_where_it_is(directory, column, value):
    place = {}

    def change(rows):
        index = next(
            i for i, row in enumerate(rows) if i > 10 and row["step"] == 1 and row["next_observation"] is None
        )
        place.update(rows[index])
        rows[index][column] = value

    rewrite(directory, change)
    difference = verify_log(directory).difference
    assert (difference.episode_id, difference.column, difference.logged) == (place["episode_id"], column, value)
    assert difference.step == (5 if column == "step" else 1)
    assert difference.replayed == place[column] or column == "action_index"
    assert f"episode {place['episode_id']}" in str(difference) and f"column {column}" in str(difference)


def test_another_action_leads_elsewhere(directory):
    def change(rows):
        row = next(
            row for row in rows if row["step"] == 0 and len(row["admissible_actions"]) == 3 and not row["terminated"]
        )
        row["action_index"] = (row["action_index"] + 1) % 3
        row["action"] = row["admissible_actions"][row["action_index"]]

    rewrite(directory, change)
    assert verify_log(directory).difference.column in ("observation", "terminated")


def test_missing_and_doubled_rows_are_found(directory):
    rows = rewrite(directory, lambda rows: rows.pop(next(i for i, row in enumerate(rows) if row["terminated"])))
    assert verify_log(directory).difference.replayed == "the episode goes on"
    ended = next(i for i, row in enumerate(rows) if row["terminated"])
    first = [row for row in rows if row["episode_id"] == rows[ended]["episode_id"]]
    rewrite(directory, lambda rows: rows.__setitem__(slice(None), [*first, first[-1]]))
    assert verify_log(directory).difference.replayed == "the episode has ended"
    rewrite(directory, lambda rows: rows.__setitem__(slice(None), [*first, *first]))
    assert verify_log(directory).difference.column == "step"


def test_a_changed_world_is_found(directory):
    assert verify_log(directory, success_threshold=0.5).difference.column == "success"
    assert verify_log(directory, template=PromptTemplate(num_observations=1)).difference.column == "prompt"


def test_an_unknown_world_is_one_clear_error(directory):
    rewrite(directory, lambda rows: [row.update(env_id="NoSuchWorld-v0") for row in rows])
    with pytest.raises(InvalidInputError, match="NoSuchWorld"):
        verify_log(directory)
    with pytest.raises(InvalidInputError, match="no_such_module"):
        verify_log(directory, env_module="no_such_module")


def test_a_log_without_a_template_is_compared_without_prompts(directory, tmp_path):
    table = pq.read_table(shard_paths(directory)[0])
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "plain.parquet")
    report = verify_log(tmp_path / "plain.parquet")
    assert report.ok and not report.prompts_checked
