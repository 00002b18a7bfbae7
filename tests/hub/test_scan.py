# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The scan finds what must not leave, wherever it hides, and lets ordinary text through."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from trl_glam.hub.scan import check_outgoing, find_secrets, scan_folder
from trl_glam.hub.staging import public_json
from trl_glam.policy.incoming import is_safe_name
from trl_glam.types import InvalidInputError


TOKEN = "hf_" + "abcdefghij" * 4


@pytest.mark.parametrize(
    "text",
    [
        f"token={TOKEN}",
        "ghp_" + "a1" * 18,
        "-----BEGIN RSA PRIVATE KEY-----",
        "trained in /home/ada/runs",
        '{"dir": "/Users/ada/x"}',
        "/root/.cache",
        "/tmp/run1",
        "~/runs",
        "C:\\Users\\ada",
        "C:\\\\Users\\\\ada",
        "file:///etc/x",
        "base local:flan-t5-small-titles",
    ],
)
def test_secrets_and_private_names_are_found(text):
    assert list(find_secrets(text))


@pytest.mark.parametrize(
    "text",
    [
        "see https://huggingface.co/papers/2302.02662 and data/train-00000-of-00001.parquet",
        "go to the red ball / pick up the key, 3/4 of the time",
        "the local: name of a model; org/name; and/or; ./here; hf_hub_download",
        "commit 0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
        '"/home": 12, "▁/": 3, "sk-learn"',
    ],
)
def test_ordinary_text_passes(text):
    assert not list(find_secrets(text))


def test_every_kind_of_file_is_looked_into(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "weights.pt").write_bytes(b"")
    (tmp_path / "run.py").write_text("")
    (tmp_path / "link.json").symlink_to(tmp_path / "a.json")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG" + TOKEN.encode())
    save_file({"x": np.zeros(2, np.float32)}, tmp_path / "model.safetensors", {"from": "/home/ada/model"})
    table = pa.table({"text": [["fine"], ["fine", f"a {TOKEN}"]]})
    pq.write_table(table, tmp_path / "rows.parquet", compression="zstd")
    pq.write_table(table.slice(0, 1).replace_schema_metadata({"run": "/home/ada"}), tmp_path / "meta.parquet")
    found = {finding.file for finding in scan_folder(tmp_path)}
    assert found == {
        "weights.pt",
        "run.py",
        "link.json",
        "picture.png",
        "model.safetensors",
        "rows.parquet",
        "meta.parquet",
    }
    with pytest.raises(InvalidInputError, match="Nothing was pushed") as error:
        check_outgoing(tmp_path)
    assert TOKEN not in str(error.value)


def test_the_stored_token_is_found_whatever_it_looks_like(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "short-and-odd")
    assert list(find_secrets("a short-and-odd text"))


def test_paths_and_local_names_become_public_ones():
    private = {"output_dir": "/home/ada/run7", "panels": ["~/x/panel.json", 3, None]}
    private["model"] = "local:smollm2-135m-instruct"
    assert public_json(private) == {
        "output_dir": "run7",
        "panels": ["panel.json", 3, None],
        "model": "SmolLM2-135M-Instruct (4-bit origin)",
    }


def test_other_texts_stay_as_they_are():
    text = {"env_id": "BabyAI-Text/GoToLocal-v0", "goal": " \n Goal: {mission}", "separator": "/", "dir": "runs/a"}
    assert public_json(text) == text


@pytest.mark.parametrize("name", ["model.safetensors", "data/bot-00000-of-00001.parquet", ".eval_results/x.yaml"])
def test_usual_names_are_safe(name):
    assert is_safe_name(name)


@pytest.mark.parametrize("name", ["", "/x", "../x", "a/../x", "a\\b", "C:x", "a\nb", "x" * 2000])
def test_names_that_lead_elsewhere_are_not(name):
    assert not is_safe_name(name)
