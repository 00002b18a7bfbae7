# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What comes from the Hub is checked: names, kinds, hashes, and what the files point to; faults are clear errors."""

import json

import pytest
from huggingface_hub import constants

from tests.hub.conftest import REPO, scores
from tests.hub_server import Blob, Fault, Repo
from trl_glam import ScoringPolicy
from trl_glam.hub import pull, push_policy
from trl_glam.types import InvalidInputError


@pytest.fixture
def pushed(hub, saved):
    push_policy(saved, REPO, episode=False)
    return hub


def replace(hub, **files):
    repo: Repo = hub.repos["model", REPO]
    blobs = {name: Blob(data, name.endswith((".bin", ".safetensors"))) for name, data in files.items()}
    return repo.commit({**repo.files, **blobs})


def test_a_pulled_policy_is_the_pushed_one_and_knows_its_revision(pushed, saved, tmp_path):
    pulled = pull(REPO, tmp_path / "pulled")
    assert (scores(ScoringPolicy.from_pretrained(pulled.folder)) == scores(ScoringPolicy.from_pretrained(saved))).all()
    source = json.loads((pulled.folder / "hub_source.json").read_text())
    assert source == {"repo_id": REPO, "repo_type": "model", "revision": pushed.repos["model", REPO].head}


def test_a_revision_stays_what_it_was(pushed, tmp_path):
    first = pushed.repos["model", REPO].head
    replace(pushed, **{"value_head.safetensors": b"new"})
    assert pull(REPO, tmp_path / "old", revision=first).revision == first
    assert (tmp_path / "old" / "value_head.safetensors").read_bytes() != b"new"


def test_pickles_stay_on_the_hub(pushed, tmp_path):
    replace(pushed, **{"pytorch_model.bin": b"\x80\x04", "code.py": b"import os"})
    pulled = pull(REPO, tmp_path / "pulled")
    assert pulled.skipped == ("code.py", "pytorch_model.bin")
    assert not (tmp_path / "pulled" / "pytorch_model.bin").exists()
    ScoringPolicy.from_pretrained(REPO)
    cached = [path.name for path in (tmp_path / "hub_cache").rglob("*")]
    assert "policy_config.json" in cached and "pytorch_model.bin" not in cached


@pytest.mark.parametrize(
    "name", ["../evil.json", "a/../../evil.json", "/etc/evil.json", "..\\evil.json", "C:evil.json"]
)
def test_a_name_that_leaves_the_folder_stops_the_pull(pushed, tmp_path, name):
    replace(pushed, **{name: b"{}"})
    with pytest.raises(InvalidInputError, match="may leave the folder"):
        pull(REPO, tmp_path / "pulled")
    assert not (tmp_path / "evil.json").exists() and not list(tmp_path.glob("pulled/*.json"))


def test_weights_that_point_out_of_the_folder_are_refused(pushed, tmp_path):
    index = {"metadata": {}, "weight_map": {"shared.weight": "../../other.safetensors"}}
    replace(pushed, **{"model.safetensors.index.json": json.dumps(index).encode()})
    with pytest.raises(InvalidInputError, match="outside of the folder"):
        pull(REPO, tmp_path / "pulled")


def test_damaged_content_is_removed(pushed, tmp_path):
    blob = pushed.repos["model", REPO].files["value_head.safetensors"]
    content = pushed.lfs[blob.sha256]
    wrong = content[:-1] + bytes([content[-1] ^ 1])
    pushed.lfs = _Damaged(pushed.lfs, blob.sha256, wrong)
    with pytest.raises(InvalidInputError, match="value_head.safetensors is not what the Hub says"):
        pull(REPO, tmp_path / "pulled")
    assert not (tmp_path / "pulled" / "value_head.safetensors").exists()
    pushed.lfs = pushed.lfs.inner
    pull(REPO, tmp_path / "pulled")


class _Damaged(dict):
    """Content storage in which one object is not what its name says, whatever is put there."""

    def __init__(self, inner, oid, wrong):
        super().__init__(inner)
        self.inner, self.oid, self.wrong = inner, oid, wrong

    def __getitem__(self, oid):
        return self.wrong if oid == self.oid else super().__getitem__(oid)


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 429, "headers": {"Retry-After": "0"}}, {"cut": True}])
@pytest.mark.parametrize("method, where", [("GET", "/api/models/"), ("GET", "/cdn/"), ("HEAD", "/resolve/")])
def test_a_passing_fault_is_retried(pushed, tmp_path, fault, method, where):
    pushed.faults.append(Fault(method, where, **fault))
    assert (pull(REPO, tmp_path / "pulled").folder / "model.safetensors").exists()
    assert pushed.faults[0].times == 0


def test_a_repository_that_is_not_there_or_private_is_one_clear_error(pushed, tmp_path, monkeypatch):
    with pytest.raises(InvalidInputError, match="does not exist on the Hub, or is private"):
        pull("org/nothing", tmp_path / "pulled")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
    with pytest.raises(InvalidInputError, match="does not exist on the Hub, or is private"):
        pull(REPO, tmp_path / "pulled")


def test_a_wrong_revision_and_a_wrong_name_are_clear_errors(pushed, tmp_path):
    with pytest.raises(InvalidInputError, match="no such revision"):
        pull(REPO, tmp_path / "pulled", revision="v9")
    with pytest.raises(InvalidInputError, match="not the name of a repository"):
        pull("org/name/with/slashes", tmp_path / "pulled")


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 429}, {"cut": True}])
def test_a_policy_out_of_reach_is_never_taken_for_its_bare_language_model(pushed, fault):
    pushed.faults.append(Fault("HEAD", "policy_config.json", **fault, times=100))
    with pytest.raises(InvalidInputError, match="could not be fetched from the Hub"):
        ScoringPolicy.from_pretrained(REPO)
    pushed.faults.clear()
    assert ScoringPolicy.from_pretrained(REPO).policy_config.temperature == 2.0


def test_a_revision_that_does_not_exist_is_a_clear_error(pushed):
    with pytest.raises(InvalidInputError, match="Revision Not Found|could not be fetched"):
        ScoringPolicy.from_pretrained(REPO, revision="v9")
