# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Interaction logs go to the loopback Hub and come back row for row, whole and streamed, one split a role."""

import re
from importlib.metadata import version

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from huggingface_hub import DatasetCard

from tests.hub.conftest import ACTIONS, ENV_ID, code_blocks
from tests.hub_server import Fault
from trl_glam import BotAgent, PromptTemplate, RandomAgent
from trl_glam.cli.main import main
from trl_glam.evaluation import Panel, evaluate_policy
from trl_glam.hub import pull, push_log
from trl_glam.hub.scan import scan_folder
from trl_glam.logs import LogWriter, load_log, verify_log
from trl_glam.logs.collect import collect_log
from trl_glam.rollout.runner import Sink
from trl_glam.types import InvalidInputError


REPO = "org/interactions"
KWARGS = {"actions": list(ACTIONS), "max_steps": 12}


def write_log(folder, agent, policy, num_episodes=3, run=None):
    run = {"prompt_template": PromptTemplate().to_dict(), **(run or {})}
    writer = LogWriter(folder, run_id=f"run-{policy.split('/')[-1]}", policy=policy, run=run)
    evaluate_policy(agent, Panel.from_env(ENV_ID, num_episodes, env_kwargs=KWARGS), sinks=[writer])
    return folder


def card_text(hub):
    return hub.repos["dataset", REPO].files["README.md"].data.decode()


@pytest.fixture
def two_logs(tmp_path):
    write_log(tmp_path / "logs" / "bot", BotAgent(), "bot")
    write_log(tmp_path / "logs" / "random", RandomAgent(), "random")
    return tmp_path / "logs"


def test_a_pushed_log_comes_back_row_for_row(hub, tmp_path):
    folder = write_log(tmp_path / "bot", BotAgent(), "bot")
    commit = push_log(folder, REPO)
    assert hub.repos["dataset", REPO].private
    assert load_log(REPO, revision=commit.oid).to_list() == load_log(folder).to_list()


def test_every_log_of_a_folder_is_a_split_and_all_of_them_are_the_log(hub, two_logs):
    push_log(two_logs, REPO)
    splits = load_dataset(REPO)
    assert {name: len(rows) for name, rows in splits.items()} == {
        name: len(load_log(two_logs / name)) for name in ("bot", "random")
    }
    assert load_log(REPO, split="random").to_list() == load_log(two_logs / "random").to_list()
    assert len(load_log(REPO)) == sum(map(len, splits.values()))


def test_a_pushed_log_streams(hub, two_logs):
    push_log(two_logs, REPO)
    rows = list(load_log(REPO, streaming=True))
    assert rows == load_log(two_logs / "bot").to_list() + load_log(two_logs / "random").to_list()


def test_a_pushed_log_verifies_from_the_hub(hub, two_logs):
    push_log(two_logs, REPO)
    report = verify_log(REPO)
    assert report.ok and report.episodes == 6 and report.prompts_checked


def test_the_card_counts_what_is_there(hub, two_logs):
    push_log(two_logs, REPO, license="cc0-1.0")
    card = DatasetCard(hub.repos["dataset", REPO].files["README.md"].data.decode())
    assert [entry["split"] for entry in card.data.configs[0]["data_files"]] == ["bot", "random"]
    log = load_log(two_logs / "bot")
    assert f"| `bot` | 3 | {len(log)} | 1.000 [" in card.text
    assert (
        ": 6 episodes and" in card.text
        and "every prompt" in card.text
        and f"`trl-glam verify-log {REPO}`" in card.text
    )
    assert f"- `bot`: bot, in `{ENV_ID}` with `" in card.text and f"minigrid {version('minigrid')}" in card.text
    assert "| `env_seed` | int64 |" in card.text and log[0]["mission"] in card.text


def test_the_role_of_a_training_s_log_is_its_split(hub, tmp_path):
    folder = tmp_path / "interactions"
    writer = LogWriter(folder, run_id="run", policy="org/model", run={})
    for update in range(1, 6):
        writer.update, writer.policy_revision = update, f"update-{update}"
        panel = Panel.from_env(ENV_ID, 2, first_seed=10 * update, env_kwargs=KWARGS)
        evaluate_policy(RandomAgent(), panel, sinks=[_Unclosed(writer)])
    writer.close()
    push_log(folder, REPO)
    assert list(load_dataset(REPO)) == ["ppo"]
    card = card_text(hub)
    assert "- `ppo`: org/model, 5 revisions from `update-1` to `update-5`, in" in card and "every prompt" not in card


class _Unclosed(Sink):
    """A writer that several evaluations share."""

    def __init__(self, writer):
        self.writer = writer

    def on_transition(self, transition):
        self.writer.on_transition(transition)

    def on_episode_end(self, record):
        self.writer.on_episode_end(record)


def test_a_log_of_one_s_own_environment_says_how_to_replay_it(hub, tmp_path, monkeypatch):
    """It counts success by the return, and stores no prompts."""
    module = (
        "import gymnasium\nfrom tests.toy_envs import CorridorEnv\n"
        "gymnasium.register('HubCorridor-v0', entry_point=CorridorEnv)\n"
    )
    (tmp_path / "hub_corridor.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    options = {"env_module": "hub_corridor", "success_threshold": 2.5}
    collect_log(RandomAgent(), tmp_path / "log", env_id="HubCorridor-v0", seed=0, num_episodes=3, policy="random",
                store_prompts=False, **options)  # fmt: skip
    push_log(tmp_path / "log", REPO, **options)
    text = card_text(hub)
    assert f"`trl-glam verify-log {REPO} --env_module hub_corridor --success_threshold 2.5` does it again" in text
    (code,) = code_blocks(text)
    assert "to_sft" not in code
    exec(code, {})
    command = re.search(r"`trl-glam (verify-log .*?)`", text)[1]
    assert main(command.split()) == 0


def test_a_log_that_differs_from_its_replay_does_not_go(hub, tmp_path):
    folder = write_log(tmp_path / "bot", BotAgent(), "bot")
    (shard,) = folder.glob("*.parquet")
    table = pq.read_table(shard)
    rewards = table["reward"].to_pylist()
    table = table.set_column(
        table.schema.get_field_index("reward"), table.schema.field("reward"), [[9.0, *rewards[1:]]]
    )
    pq.write_table(table, shard)
    with pytest.raises(InvalidInputError, match="differs from its replay.*column reward"):
        push_log(folder, REPO)
    assert hub.requests == []
    push_log(folder, REPO, verify=False)
    assert "was not replayed" in hub.repos["dataset", REPO].files["README.md"].data.decode()


def test_names_of_this_machine_do_not_go(hub, tmp_path):
    policy = "/home/ada/runs/mine"
    folder = write_log(tmp_path / "mine", RandomAgent(), policy, run={"model": "local:flan-t5-small-titles"})
    push_log(folder, REPO)
    pulled = pull(REPO, tmp_path / "pulled").folder
    assert set(load_log(pulled)["policy"]) == {"mine"}
    assert scan_folder(pulled / "data") == []
    assert verify_log(pulled).ok


def test_a_secret_in_a_row_stops_the_push(hub, tmp_path):
    folder = write_log(tmp_path / "bot", BotAgent(), "hf_" + "a" * 34)
    with pytest.raises(InvalidInputError, match="holds an access token"):
        push_log(folder, REPO)
    assert hub.requests == []


def test_a_cut_upload_shows_nothing_until_it_is_whole(hub, two_logs):
    hub.faults.append(Fault("PUT", "/lfs/", cut=True, times=100))
    with pytest.raises(InvalidInputError, match="goes on where this one stopped"):
        push_log(two_logs, REPO)
    assert list(hub.repos["dataset", REPO].files) == [".gitattributes"]
    hub.faults.clear()
    push_log(two_logs, REPO)
    assert len(load_log(REPO)) > 0


def test_the_code_sample_of_the_card_runs(hub, two_logs, capsys):
    push_log(two_logs, REPO)
    (code,) = code_blocks(hub.repos["dataset", REPO].files["README.md"].data.decode())
    exec(code, {})
    assert load_log(two_logs / "bot")[0]["mission"] in capsys.readouterr().out
