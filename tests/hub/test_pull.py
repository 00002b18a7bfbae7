# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What comes from the Hub is checked: names, kinds, hashes, and what the files point to."""

import json

import pytest

from tests.hub.conftest import REPO, scores
from tests.hub_server import Blob, Repo
from trl_glam import ScoringPolicy
from trl_glam.hub import pull, push_policy
from trl_glam.types import InvalidInputError


@pytest.fixture
def pushed(hub, saved):
    push_policy(saved, REPO, episode=False)
    return hub


WAYS = [lambda folder: pull(REPO, folder), lambda folder: ScoringPolicy.from_pretrained(REPO)]


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


def test_a_language_model_with_pickled_weights_only_is_not_read(pushed):
    """transformers would read `pytorch_model.bin` where there is nothing else."""
    repo = pushed.repos["model", REPO]
    kept = {name: blob for name, blob in repo.files.items() if "safetensors" not in name and "policy" not in name}
    repo.commit(kept | {"pytorch_model.bin": Blob(b"\x80\x04N.", True)})
    with pytest.raises(InvalidInputError, match="safetensors"):
        ScoringPolicy.from_pretrained(REPO)
    assert not pushed.count("GET", "pytorch_model.bin")


def test_code_in_a_repository_does_not_run(pushed, tmp_path):
    config = json.loads(pushed.repos["model", REPO].files["config.json"].data)
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config", "AutoModelForSeq2SeqLM": "code.Model"}}
    code = f"open({str(tmp_path / 'ran')!r}, 'w')"
    replace(pushed, **{"config.json": json.dumps(config).encode(), "code.py": code.encode()})
    with pytest.raises(InvalidInputError, match="custom code"):
        ScoringPolicy.from_pretrained(REPO)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["../evil.json", "a/../../evil.json", "/etc/evil.json", "..\\evil.json", "C:evil.json"]
)
def test_a_name_that_leaves_the_folder_stops_the_pull(pushed, tmp_path, name):
    replace(pushed, **{name: b"{}"})
    with pytest.raises(InvalidInputError, match="may leave the folder"):
        pull(REPO, tmp_path / "pulled")
    assert not (tmp_path / "evil.json").exists() and not list(tmp_path.glob("pulled/*.json"))


@pytest.mark.parametrize(
    "load", [lambda folder: pull(REPO, folder), lambda folder: ScoringPolicy.from_pretrained(REPO)]
)
def test_weights_that_point_out_of_the_folder_are_refused(pushed, tmp_path, load):
    index = {"metadata": {}, "weight_map": {"shared.weight": "../../other.safetensors"}}
    replace(pushed, **{"model.safetensors.index.json": json.dumps(index).encode()})
    with pytest.raises(InvalidInputError, match="outside of the folder"):
        load(tmp_path / "pulled")


@pytest.mark.parametrize(
    "load", [lambda folder: pull(REPO, folder), lambda folder: ScoringPolicy.from_pretrained(REPO)]
)
@pytest.mark.parametrize("name", ["/etc/model", "../model", "local:flan-t5-small-titles", None])
def test_an_adapter_of_a_base_that_is_not_on_the_hub_is_refused(pushed, tmp_path, load, name):
    config = json.loads(pushed.repos["model", REPO].files["policy_config.json"].data) | {"base_model": name}
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "org/base"}
    files = {"adapter_config.json": json.dumps(adapter), "policy_config.json": json.dumps(config)}
    replace(pushed, **{name: text.encode() for name, text in files.items()})
    with pytest.raises(InvalidInputError, match="not on the Hub"):
        load(tmp_path / "pulled")


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
