# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The log as a dataset: equal to what was written, whole or streamed, by episode and as text to imitate."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, IterableDataset, load_dataset

from tests.logs.conftest import make_episode, write_episode
from trl_glam.logs import FEATURES, LogWriter, load_log
from trl_glam.logs.schema import transition_row
from trl_glam.logs.writer import shard_paths
from trl_glam.prompts import PromptTemplate
from trl_glam.types import InvalidInputError


EPISODES = [
    make_episode(slot=slot, number=number, length=2 + number, success=(slot + number) % 2 == 0)
    for number in range(3)
    for slot in range(2)
]


@pytest.fixture
def directory(tmp_path):
    writer = LogWriter(tmp_path / "log", run_id="r", policy="m", rows_per_shard=8)
    for episode in EPISODES:
        write_episode(writer, episode)
    writer.close()
    return tmp_path / "log"


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streaming(request):
    return request.param


def doctor(directory, column, row, value, shard=0):
    """Change one cell of one shard."""
    path = shard_paths(directory)[shard]
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[row][column] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def test_a_log_comes_back_equal(directory, streaming):
    log = load_log(directory, streaming=streaming)
    assert isinstance(log, IterableDataset if streaming else Dataset)
    assert log.features == FEATURES
    expected = [transition_row(transition) for episode in EPISODES for transition in episode]
    rows = list(log)
    assert [{name: row[name] for name in expected[0]} for row in rows] == expected
    plain = load_dataset("parquet", data_files=[str(path) for path in shard_paths(directory)], split="train")
    assert list(plain) == rows


def test_a_plain_load_dataset_of_the_folder_finds_the_log(directory):
    dataset = load_dataset(str(directory), split="train")
    assert dataset.features == FEATURES and len(dataset) == sum(map(len, EPISODES))


def test_a_parquet_copy_of_the_dataset_is_a_log(directory, tmp_path):
    load_log(directory).to_parquet(tmp_path / "copy.parquet")
    assert list(load_log(tmp_path / "copy.parquet")) == list(load_log(directory))


def test_to_sft_gives_prompts_and_actions(directory, streaming):
    pairs = list(load_log(directory, streaming=streaming).to_sft())
    assert pairs == [
        {"prompt": t.observation.prompt, "completion": t.observation.admissible_actions[t.decision.index]}
        for episode in EPISODES
        for t in episode
    ]


def test_to_sft_writes_prompts_of_another_window(directory, streaming):
    log = load_log(directory, streaming=streaming)
    assert list(log.to_sft(PromptTemplate())) == list(log.to_sft())
    short = list(log.to_sft(PromptTemplate(num_observations=1)))
    first, second = EPISODES[0][0].observation, EPISODES[0][1].observation
    render = PromptTemplate(num_observations=1).render
    assert short[0]["prompt"] == first.prompt
    assert short[1]["prompt"] == render(second.mission, [second.sentences], [], second.admissible_actions)


def test_a_log_without_prompts_asks_for_a_template(tmp_path, streaming):
    writer = LogWriter(tmp_path, run_id="r", policy="m", store_prompts=False)
    write_episode(writer, EPISODES[0])
    writer.close()
    log = load_log(tmp_path, streaming=streaming)
    with pytest.raises(InvalidInputError, match="without prompts; give to_sft a PromptTemplate"):
        list(log.to_sft())
    assert [row["prompt"] for row in log.to_sft(PromptTemplate())] == [t.observation.prompt for t in EPISODES[0]]


def test_episodes_are_summed_up(directory, streaming):
    episodes = list(load_log(directory, streaming=streaming).episodes())
    assert [row["episode_id"] for row in episodes] == [e[0].observation.episode.episode_id for e in EPISODES]
    for row, episode in zip(episodes, EPISODES, strict=True):
        assert row["actions"] == [t.decision.index for t in episode]
        assert row["length"] == len(episode)
        assert row["episode_return"] == sum(t.reward for t in episode)
        assert (row["success"], row["terminated"], row["truncated"]) == (
            episode[-1].success,
            episode[-1].terminated,
            episode[-1].truncated,
        )


def test_filters_keep_whole_episodes(directory, streaming):
    def kept(**wanted):
        return [row["episode_id"] for row in load_log(directory, streaming=streaming, **wanted)]

    def expected(keep):
        return [t.observation.episode.episode_id for e in EPISODES if keep(e) for t in e]

    assert kept(success=True) == expected(lambda e: e[-1].success)
    assert kept(success=False) == expected(lambda e: not e[-1].success)
    threshold = sorted(e[-1].reward for e in EPISODES)[-2]
    assert kept(min_return=threshold) == expected(lambda e: e[-1].reward >= threshold) != kept(success=True)
    assert kept(policy="m") == expected(lambda e: True)
    assert kept(policy="other") == []


def test_a_selection_of_a_log_is_a_log(directory, streaming):
    log = load_log(directory, streaming=streaming)
    for part in (log.filter(lambda row: row["env_index"] == 1), log.take(2), log.skip(2)):
        assert list(part.to_sft()) == [{"prompt": r["prompt"], "completion": r["action"]} for r in part]
    assert [e["length"] for e in log.filter(lambda row: row["env_index"] == 1).episodes()] == [2, 3, 4]
    assert list(log.filter_episodes(policy="other").episodes()) == []
    for part in (log.take(1), log.skip(1), log.filter(lambda row: row["step"] != 1)):
        with pytest.raises(InvalidInputError, match="are not all here"):
            list(part.episodes())
    assert list(log.filter_episodes(policy="other").to_sft()) == []


def test_another_schema_version_is_refused(directory, streaming):
    doctor(directory, "schema_version", 0, 99)
    with pytest.raises(InvalidInputError, match="has schema version 99, this trl_glam reads version 1"):
        load_log(directory, streaming=streaming)


def test_missing_and_mistyped_columns_are_named(directory, streaming):
    path = shard_paths(directory)[1]
    pq.write_table(pq.read_table(path).drop_columns(["mission", "reward"]), path)
    with pytest.raises(InvalidInputError, match=r"columns \['mission', 'reward'\] are missing"):
        load_log(directory, streaming=streaming)
    Dataset.from_dict({name: ["x"] for name in FEATURES}).to_parquet(directory / "other.parquet")
    with pytest.raises(InvalidInputError, match=r"columns \['schema_version', .* have another type"):
        load_log(directory / "other.parquet", streaming=streaming)


def test_an_empty_log_is_refused(directory, tmp_path, streaming):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="is an empty log: there is no Parquet file"):
        load_log(tmp_path / "empty", streaming=streaming)
    table = pq.read_table(shard_paths(directory)[0])
    pq.write_table(table.slice(0, 0), tmp_path / "norows.parquet")
    with pytest.raises(InvalidInputError, match="is an empty log: it has no rows"):
        load_log(tmp_path / "norows.parquet", streaming=streaming)


def test_no_log_at_all_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="does not exist; give a folder"):
        load_log(tmp_path / "nowhere" / "at all")
    with pytest.raises(InvalidInputError, match="neither a folder with Parquet shards nor a dataset"):
        load_log("nobody/no-such-log")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(InvalidInputError, match="cannot be read as Parquet"):
        load_log(tmp_path / "text.parquet")


@pytest.mark.parametrize(
    ("column", "value"),
    [("action_index", 3), ("action_index", -1), ("action_index", None), ("action", "fly"), ("action", None)],
)
def test_an_action_outside_the_admissible_ones_is_refused(directory, streaming, column, value):
    doctor(directory, column, 4, value)
    episode, step = EPISODES[2][0].observation.episode.episode_id, 0
    with pytest.raises(
        InvalidInputError, match=f"in step {step} of episode {episode} .* is not that one of the admissible"
    ):
        list(load_log(directory, streaming=streaming))
