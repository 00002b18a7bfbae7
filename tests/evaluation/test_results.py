# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`results.json`, its tables, and what `trl-glam eval` and `trl-glam compare` make of them."""

import json
import re

import gymnasium as gym
import pytest

from tests.tiny_models import tiny_t5
from tests.toy_envs import CorridorEnv, LampEnv
from trl_glam.agents import RandomAgent, ScoringAgent
from trl_glam.cli import compare
from trl_glam.cli import eval as eval_command
from trl_glam.cli.common import agent_from_spec, json_object
from trl_glam.evaluation import Panel, wilson_interval
from trl_glam.evaluation.results import read_results
from trl_glam.evaluation.scorer import Scorer
from trl_glam.evaluation.suites import SuiteTest
from trl_glam.policy import ScoringPolicy
from trl_glam.types import InvalidInputError


@pytest.fixture(scope="module", autouse=True)
def toy_environments():
    gym.register("ResultsLamp-v0", LampEnv, disable_env_checker=True)
    gym.register("ResultsCorridor-v0", CorridorEnv, disable_env_checker=True)
    yield
    del gym.registry["ResultsLamp-v0"], gym.registry["ResultsCorridor-v0"]


def run_eval(directory, policy, *more):
    return eval_command.main([policy, "--env_id", "ResultsLamp-v0", "--output_dir", str(directory), *more])


@pytest.fixture(scope="module")
def saved_policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    ScoringPolicy.from_pretrained(tiny_t5(tmp_path_factory.mktemp("t5")), temperature=4.0).save_pretrained(folder)
    return str(folder)


def test_results_hold_versions_hashes_outcomes_and_intervals(tmp_path, capsys):
    assert run_eval(tmp_path, "random", "--episodes", "60") == 0
    content = json.loads((tmp_path / "results.json").read_text())
    entry = content["suites"]["ResultsLamp-v0"]
    assert entry["panel"]["sha256"] == Panel.from_env("ResultsLamp-v0", 60).hash
    assert content["versions"]["torch"] and content["policy"] == "random"
    outcomes = [episode["success"] for episode in entry["sampled"]["episodes"]]
    assert len(outcomes) == 60 and entry["success_rate"] == sum(outcomes) / 60
    assert entry["interval"] == list(wilson_interval(sum(outcomes), 60))
    assert "greedy" not in entry and set(entry["references"]) == {"random"}
    table = (tmp_path / "results.md").read_text()
    assert f"| ResultsLamp-v0 | 60 | {entry['success_rate']:.3f} [" in table
    assert table.strip() in capsys.readouterr().out


def test_same_command_same_file_whatever_the_number_of_environments(tmp_path, saved_policy):
    for name, num_envs in [("a", "1"), ("b", "7")]:
        run_eval(tmp_path / name, saved_policy, "--episodes", "20", "--num_envs", num_envs, "--seed", "5")
    assert (tmp_path / "a/results.json").read_bytes() == (tmp_path / "b/results.json").read_bytes()


def test_a_model_is_evaluated_sampled_and_greedy(tmp_path, saved_policy):
    run_eval(tmp_path, saved_policy, "--episodes", "10", "--no_references")
    entry = read_results(tmp_path)["suites"]["ResultsLamp-v0"]
    assert entry["mode"] == "sampled" and entry["success_rate"] == entry["sampled"]["success_rate"]
    assert len(entry["greedy"]["episodes"]) == 10 and entry["references"] == {}
    run_eval(tmp_path, saved_policy, "--episodes", "10", "--mode", "greedy")
    entry = read_results(tmp_path)["suites"]["ResultsLamp-v0"]
    assert entry["mode"] == "greedy" and "sampled" not in entry


def test_eval_reads_panel_files_and_environment_arguments(tmp_path):
    Panel.from_env("ResultsCorridor-v0", 4, name="mine").save(tmp_path / "mine.json")
    arguments = ["--panel", str(tmp_path / "mine.json"), "--env_kwargs", '{"length": 99, "max_steps": 6}']
    assert eval_command.main(["random", *arguments, "--episodes", "3", "--output_dir", str(tmp_path)]) == 0
    entry = read_results(tmp_path)["suites"]["mine"]
    assert entry["env_kwargs"] == {"length": 99, "max_steps": 6}
    assert [episode["length"] for episode in entry["sampled"]["episodes"]] == [6, 6, 6]


def test_the_prompt_speaks_the_language_that_is_asked_for(tmp_path, saved_policy, monkeypatch):
    seen = set()
    act = ScoringAgent.act

    def reads(agent, observations, generators, greedy=False):
        seen.update(observation.prompt.split(":")[0] for observation in observations)
        return act(agent, observations, generators, greedy)

    monkeypatch.setattr(ScoringAgent, "act", reads)
    run_eval(tmp_path, saved_policy, "--episodes", "2", "--no_references", "--language", "french")
    assert seen == {"Actions possibles pour l'agent"}
    assert read_results(tmp_path)["suites"]["ResultsLamp-v0"]["language"] == "french"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "no_chnage"], "Unknown suite 'no_chnage'.*no_change"),
        (["--suite", "then", "--env_id", "ResultsLamp-v0"], "not allowed with"),
        ([], "one of the arguments --suite --panel --env_id is required"),
        (["--env_id", "ResultsLamp-v0", "--quick"], "--quick belongs to --suite"),
        (["--env_id", "ResultsLamp-v0", "--episodes", "0"], "at least 1"),
        (["--env_id", "ResultsLamp-v0", "--mode", "best"], "invalid choice: 'best'"),
        (["--env_id", "ResultsLamp-v0", "--env_kwargs", "[1]"], "not a JSON object"),
        (["--suite", "then", "--env_kwargs", '{"a": 1}'], "--env_kwargs belongs to --env_id"),
        (["--suite", "then", "--language", "french"], "--language belongs to --env_id"),
        (["--env_id", "ResultsLamp-v0", "--language", "latin"], "invalid choice: 'latin'"),
        (["--env_id", "ResultsLamp-v0", "--confidence", "95"], "confidence=95"),
        (["--panel", "nothing"], "Unknown panel 'nothing'"),
    ],
)
def test_wrong_arguments_are_one_clear_error(tmp_path, arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        eval_command.main(["random", *arguments, "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_help_is_complete(capsys):
    with pytest.raises(SystemExit):
        eval_command.main(["--help"])
    text = capsys.readouterr().out
    for option in re.findall(r"--\w+", eval_command.build_parser().format_usage()):
        assert re.search(rf"^  .*{option}\b", text, re.MULTILINE), option


def test_a_folder_that_is_no_policy_is_refused(tmp_path, saved_policy):
    (tmp_path / "model").mkdir()
    with pytest.raises(InvalidInputError, match="no policy_config.json"):
        agent_from_spec(str(tmp_path / "model"))
    with pytest.raises(InvalidInputError, match="no folder"):
        agent_from_spec(str(tmp_path / "nothing"))
    assert isinstance(agent_from_spec(saved_policy), ScoringAgent)


def test_an_action_set_that_does_not_fit_is_refused_before_anything_is_played(tmp_path):
    actions = [*(f"press {colour}" for colour in LampEnv.COLOURS), "do nothing"]
    policy = ScoringPolicy.from_pretrained(tiny_t5(tmp_path), head="action", num_actions=4, actions=actions)
    scorer = Scorer(ScoringAgent(policy))
    scorer.check(SuiteTest("lamp", ""), Panel.from_env("ResultsLamp-v0", 2))
    with pytest.raises(InvalidInputError, match="cannot play test 'corridor'"):
        scorer.check(SuiteTest("corridor", ""), Panel.from_env("ResultsCorridor-v0", 2))


def test_references_are_played_once_for_tests_that_differ_in_words_only():
    played = []
    scorer = Scorer(
        RandomAgent(),
        modes=("sampled",),
        references=("random",),
        make_sinks=lambda description, num_episodes: played.append(description) or (),
        make_env=lambda key: LampEnv(),
    )
    panel = Panel.from_env("lamp", 3)
    for test in (
        SuiteTest("plain", ""),
        SuiteTest("reworded", "", {"lexicon": "oov_nouns"}),
        SuiteTest("fewer", "", {"actions": ("a",)}),
    ):
        scorer.score(test, panel)
    assert len(played) == 3 + 2


def test_calibration_rule_of_unseen_actions_is_reported(tmp_path):
    name = tiny_t5(tmp_path)
    policy = ScoringPolicy.from_pretrained(name, calibration="prompts", temperature=4.0)
    policy.calibrate(["The lamp is red."], ["press red", "press green", "walk", "wait", "sing a song"])
    scorer = Scorer(ScoringAgent(policy), modes=("sampled",), references=())
    tests = {"lamp": "ResultsLamp-v0", "corridor": "ResultsCorridor-v0"}
    panels = {test: Panel.from_env(env_id, 2) for test, env_id in tests.items()}

    def rule(test):
        return scorer.score(SuiteTest(test, ""), panels[test])["calibration"]

    for test, panel in panels.items():
        # As the command does first; it already computes the offsets that are missing.
        scorer.check(SuiteTest(test, ""), panel)
    unseen = f"prompts, offsets of {name} computed for unseen press blue"
    assert [rule("lamp"), rule("corridor")] == [unseen, "prompts, offsets frozen in training"]
    # Nothing computed for one test is kept in memory for the next.
    counts = [scorer.agent.num_computed]
    for _ in range(2):
        assert rule("lamp") == unseen
        counts.append(scorer.agent.num_computed)
    assert counts[2] - counts[1] == counts[1] - counts[0] > 0


def test_compare_pairs_the_same_episodes(tmp_path, capsys, saved_policy):
    for policy, name in [("random", "a"), (saved_policy, "b")]:
        run_eval(tmp_path / name, policy, "--episodes", "40", "--no_references", "--mode", "sampled")
    capsys.readouterr()
    assert compare.main([str(tmp_path / "a/results.json"), str(tmp_path / "b")]) == 0
    first, second = (read_results(tmp_path / name)["suites"]["ResultsLamp-v0"] for name in "ab")
    text = capsys.readouterr().out
    assert f"| ResultsLamp-v0 (sampled) | 40 | {first['success_rate']:.3f} | {second['success_rate']:.3f} |" in text


def test_compare_refuses_other_episodes_and_other_files(tmp_path):
    for episodes in ("5", "6"):
        run_eval(tmp_path / episodes, "random", "--episodes", episodes)
    with pytest.raises(InvalidInputError, match="not played on the same episodes"):
        compare.main([str(tmp_path / "5"), str(tmp_path / "6")])
    (tmp_path / "other.json").write_text('{"schema_version": 99}')
    with pytest.raises(InvalidInputError, match="schema version 1"):
        compare.main([str(tmp_path / "5"), str(tmp_path / "other.json")])
    with pytest.raises(InvalidInputError, match="cannot be read"):
        compare.main([str(tmp_path / "5"), str(tmp_path / "missing")])
    run_eval(tmp_path / "7", "random", "--episodes", "5")
    content = read_results(tmp_path / "7")
    content["suites"]["renamed"] = content["suites"].pop("ResultsLamp-v0")
    (tmp_path / "7/results.json").write_text(json.dumps(content))
    with pytest.raises(InvalidInputError, match="No common test"):
        compare.main([str(tmp_path / "5"), str(tmp_path / "7")])


def test_json_object():
    assert json_object('{"a": [1]}') == {"a": [1]}
