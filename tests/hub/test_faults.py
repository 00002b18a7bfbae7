# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Every fault of the Hub at every request of a push and a pull: a retry that succeeds, or one clear error at once, and
never a repository that shows half of a push."""

import logging
import re

import pytest
from huggingface_hub import constants

from tests.hub.conftest import ACTIONS, ENV_ID, REPO, scores
from tests.hub_server import READ_TOKEN, TOKEN, Fault
from trl_glam import BotAgent, ScoringPolicy
from trl_glam.cli.main import main
from trl_glam.evaluation import Panel, evaluate_policy
from trl_glam.hub import client, pull, push_log, push_policy
from trl_glam.logs import LogWriter, load_log
from trl_glam.training_summary import SUMMARY_NAME
from trl_glam.types import InvalidInputError


PUSH = {
    "create": ("POST", "/api/repos/create"),
    "info": ("GET", f"/api/models/{REPO}$"),
    "validate": ("POST", "/api/validate-yaml"),
    "preupload": ("POST", "/preupload/"),
    "batch": ("POST", "/objects/batch"),
    "upload": ("PUT", r"/lfs/\w+"),
    "commit": ("POST", "/commit/"),
}
PULL = {
    "info": ("GET", "/api/models/"),
    "metadata": ("HEAD", "/resolve/"),
    "small": ("GET", "/resolve/.*/policy_config.json"),
    "large": ("GET", "/cdn/"),
}
PASSING = {
    "500": {"status": 500},
    "429": {"status": 429, "headers": {"Retry-After": "0"}},
    "cut": {"cut": True},
    "slow": {"delay": 1.0},
}


@pytest.fixture
def saved(saved):
    """Without a learning curve to draw for every push."""
    (saved / SUMMARY_NAME).unlink()
    return saved


@pytest.fixture
def impatient(monkeypatch):
    """Answers are waited for as long as the delay of a slow one is not."""
    monkeypatch.setattr(client, "PATIENCE", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)


@pytest.fixture
def pushed(hub, saved):
    push_policy(saved, REPO, episode=False)
    hub.requests.clear()
    return hub


def remote_files(hub):
    return hub.repos["model", REPO].files


def assert_one_line(capsys):
    """Progress bars aside."""
    said = [line for line in capsys.readouterr().err.splitlines() if line and not re.search(r"(B|it)/s\]", line)]
    assert len(said) == 1 and REPO in said[0] and TOKEN not in said[0], said


@pytest.mark.parametrize("request_", PUSH)
@pytest.mark.parametrize("fault", PASSING)
def test_a_push_outlives_a_passing_fault(hub, saved, impatient, request_, fault):
    hub.faults.append(Fault(*PUSH[request_], **PASSING[fault]))
    push_policy(saved, REPO, episode=False)
    assert hub.faults[0].times == 0, "the fault did not happen"
    assert hub.count(*PUSH[request_]) > 1, "the request was not repeated"
    assert {"README.md", "model.safetensors", "policy_config.json"} <= set(remote_files(hub))
    assert all(
        {"README.md", "model.safetensors"} <= set(f) for f in list(hub.repos["model", REPO].commits.values())[1:]
    )


def test_a_push_outlives_a_conflict(hub, saved):
    hub.faults.append(Fault("POST", "/commit/", status=409))
    push_policy(saved, REPO, episode=False)
    assert "README.md" in remote_files(hub) and hub.count("POST", "/commit/") == 2


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub, saved):
    hub.faults.append(Fault("POST", "/commit/", lost=True))
    commit = push_policy(saved, REPO, episode=False)
    repo = hub.repos["model", REPO]
    assert hub.faults[0].times == 0 and len(repo.commits) == 2 and commit.oid == repo.head


def test_the_hub_says_how_long_to_wait(hub, saved, monkeypatch):
    waits = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    hub.faults += [
        Fault("POST", "/commit/", status=429, headers={"Retry-After": "7"}),
        Fault("POST", "/commit/", status=429, headers={"Retry-After": "100000"}),
    ]
    push_policy(saved, REPO, episode=False)
    assert 7 in waits and client.LONGEST_WAIT in waits and max(waits) == client.LONGEST_WAIT


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("request_", PUSH)
def test_a_refusal_ends_a_push_at_once_in_one_line(hub, saved, capsys, status, request_):
    hub.faults.append(Fault(*PUSH[request_], status=status, times=100))
    assert main(["push", str(saved), REPO, "--no_episode"]) == 2
    asked = [path for made, path in hub.requests if made == PUSH[request_][0] and re.search(PUSH[request_][1], path)]
    assert asked and len(asked) == len(set(asked)), "it was asked again"
    assert_one_line(capsys)
    assert not hub.repos or list(remote_files(hub)) == [".gitattributes"]


@pytest.mark.parametrize("fault", ["500", "cut"])
@pytest.mark.parametrize("request_", ["upload", "commit"])
def test_a_push_that_failed_for_good_shows_nothing_and_goes_on_later(hub, saved, fault, request_):
    if request_ == "upload":
        # The first one arrives.
        hub.faults.append(Fault("PUT", "/lfs/", delay=0.001))
    hub.faults.append(Fault(*PUSH[request_], **PASSING[fault], times=10_000))
    with pytest.raises(InvalidInputError, match="4 attempts.*goes on where this one stopped"):
        push_policy(saved, REPO, episode=False)
    hub.faults.clear()
    assert list(remote_files(hub)) == [".gitattributes"]
    arrived = set(hub.lfs)
    assert arrived
    hub.requests.clear()
    push_policy(saved, REPO, episode=False)
    again = {path.rpartition("/")[2] for method, path in hub.requests if method == "PUT"}
    assert not again & arrived, "content was sent twice"
    assert "README.md" in remote_files(hub)
    assert (scores(ScoringPolicy.from_pretrained(REPO)) == scores(ScoringPolicy.from_pretrained(saved))).all()


@pytest.mark.parametrize(
    "token, message", [("hf_wrong", "does not accept the token"), (READ_TOKEN, "needs the right to write")]
)
def test_a_wrong_token_is_one_clear_error_without_the_token(hub, saved, token, message):
    with pytest.raises(InvalidInputError, match=message) as error:
        push_policy(saved, REPO, token=token, episode=False)
    assert token not in str(error.value) and not hub.repos


def test_no_token_is_ever_logged(hub, saved, tmp_path, caplog):
    hub.faults += [Fault(*PUSH[name], status=500) for name in PUSH] + [Fault("GET", "/cdn/", status=500)]
    with caplog.at_level(logging.DEBUG):
        push_policy(saved, REPO, episode=False, token=TOKEN)
        pull(REPO, tmp_path / "pulled", token=TOKEN)
    assert "trying again" in caplog.text and TOKEN not in caplog.text


def test_a_card_the_hub_refuses_stops_before_any_upload(hub, saved):
    hub.faults.append(Fault("POST", "/api/validate-yaml", status=403))
    with pytest.raises(InvalidInputError):
        push_policy(saved, REPO, episode=False)
    assert list(remote_files(hub)) == [".gitattributes"] and hub.count("PUT", "/lfs/") == 0


@pytest.mark.parametrize("request_", PULL)
@pytest.mark.parametrize("fault", [*PASSING, "lost"])
def test_a_pull_outlives_a_passing_fault(pushed, saved, tmp_path, impatient, request_, fault):
    pushed.faults.append(Fault(*PULL[request_], **PASSING.get(fault, {"lost": True})))
    pulled = pull(REPO, tmp_path / "pulled").folder
    assert pushed.faults[0].times == 0
    assert (scores(ScoringPolicy.from_pretrained(pulled)) == scores(ScoringPolicy.from_pretrained(saved))).all()


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("request_", PULL)
def test_a_refusal_ends_a_pull_at_once_in_one_line(pushed, tmp_path, capsys, status, request_):
    pushed.faults.append(Fault(*PULL[request_], status=status, times=10_000))
    assert main(["pull", REPO, "--output_dir", str(tmp_path / "pulled")]) == 2
    assert_one_line(capsys)
    assert not (tmp_path / "pulled" / "hub_source.json").exists()


@pytest.mark.parametrize("fault", ["500", "429", "cut"])
@pytest.mark.parametrize("request_", PULL)
def test_a_pull_that_failed_for_good_is_one_clear_error_and_goes_on_later(pushed, tmp_path, request_, fault):
    pushed.faults.append(Fault(*PULL[request_], **PASSING[fault], times=10_000))
    with pytest.raises(InvalidInputError, match="4 attempts"):
        pull(REPO, tmp_path / "pulled")
    assert not (tmp_path / "pulled" / "hub_source.json").exists()
    pushed.faults.clear()
    assert (pull(REPO, tmp_path / "pulled").folder / "model.safetensors").exists()


@pytest.mark.parametrize("fault", [{"status": s} for s in (401, 403, 404, 429, 500)] + [{"cut": True}])
@pytest.mark.parametrize("where", ["policy_config.json", r"value_head\.safetensors"])
def test_a_policy_out_of_reach_is_one_clear_error_and_never_its_bare_language_model(pushed, fault, where):
    pushed.faults.append(Fault("HEAD", where, **fault, times=10_000))
    with pytest.raises(InvalidInputError):
        ScoringPolicy.from_pretrained(REPO)
    pushed.faults.clear()
    assert ScoringPolicy.from_pretrained(REPO).policy_config.temperature == 2.0


@pytest.fixture
def pushed_log(hub, tmp_path):
    panel = Panel.from_env(ENV_ID, 2, env_kwargs={"actions": list(ACTIONS), "max_steps": 6})
    evaluate_policy(BotAgent(), panel, sinks=[LogWriter(tmp_path / "log", run_id="bot", policy="bot")])
    push_log(tmp_path / "log", "org/log")
    return tmp_path / "log"


@pytest.mark.parametrize("fault", [{"status": s} for s in (401, 403, 404, 429, 500)] + [{"cut": True}, {"delay": 1.0}])
@pytest.mark.parametrize("where", [("GET", "/api/datasets/"), ("HEAD", "/resolve/"), ("GET", "/cdn/")])
def test_a_log_out_of_reach_is_one_clear_error(hub, pushed_log, impatient, fault, where):
    hub.faults.append(Fault(*where, **fault, times=10_000))
    try:
        rows = load_log("org/log").to_list()
    except InvalidInputError as error:
        assert str(error).startswith("org/log is neither") and "\n" not in str(error)
    else:
        # huggingface_hub outlives this one by itself.
        assert "delay" in fault and rows == load_log(pushed_log).to_list()
    assert hub.faults[0].times < 10_000
    hub.faults.clear()
    assert load_log("org/log").to_list() == load_log(pushed_log).to_list()


def test_revisions_and_private_repositories_are_clear_errors(pushed, tmp_path, monkeypatch):
    with pytest.raises(InvalidInputError, match="does not exist on the Hub, or is private"):
        pull("org/nothing", tmp_path / "pulled")
    with pytest.raises(InvalidInputError, match="no such revision"):
        pull(REPO, tmp_path / "pulled", revision="v9")
    with pytest.raises(InvalidInputError, match="not the name of a repository"):
        pull("org/name/with/slashes", tmp_path / "pulled")
    with pytest.raises(InvalidInputError, match="Revision Not Found|could not be fetched"):
        ScoringPolicy.from_pretrained(REPO, revision="v9")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    with pytest.raises(InvalidInputError, match="does not exist on the Hub, or is private"):
        pull(REPO, tmp_path / "pulled")
