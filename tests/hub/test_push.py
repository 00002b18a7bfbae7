# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Policies go to the loopback Hub and come back equal, with whole weights, as an adapter and on a local base."""

import io
import json
import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from peft import LoraConfig
from PIL import Image
from transformers import AutoModelForSeq2SeqLM

from tests.hub.conftest import ACTIONS, ENV_ID, REPO, code_blocks, scores, write_summary
from tests.hub_server import TOKEN, Blob
from trl_glam import ScoringPolicy
from trl_glam.evaluation import Panel, evaluate_policy
from trl_glam.evaluation.results import read_results, score_entry, write_results
from trl_glam.hub import prepare_policy, pull, push_policy
from trl_glam.hub.scan import scan_folder
from trl_glam.local_models import cache_dir
from trl_glam.types import InvalidInputError


def evaluated(folder):
    policy = ScoringPolicy.from_pretrained(folder)
    kwargs = {"actions": list(ACTIONS), "max_steps": 8}
    panel = Panel.from_env(ENV_ID, num_episodes=6, env_kwargs=kwargs)
    return evaluate_policy(policy, panel)


def with_results(folder):
    result = evaluated(folder)
    write_results(folder, str(folder), 0, {"gotolocal": score_entry({"sampled": result})})
    return result


def remote_files(hub, repo=REPO):
    return hub.repos["model", repo].files


def test_a_pushed_policy_scores_the_same_bit_for_bit_in_a_fresh_cache(hub, saved):
    commit = push_policy(saved, REPO)
    assert hub.repos["model", REPO].private
    loaded = ScoringPolicy.from_pretrained(REPO, revision=commit.oid)
    np.testing.assert_array_equal(scores(loaded), scores(ScoringPolicy.from_pretrained(saved)))
    assert loaded.prompt_template.num_observations == 1


def test_the_repository_loads_with_the_plain_auto_class(hub, saved):
    push_policy(saved, REPO, episode=False)
    _, report = AutoModelForSeq2SeqLM.from_pretrained(REPO, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]


def test_an_evaluation_of_the_pushed_policy_gives_the_card_s_episodes_back(hub, saved):
    result = with_results(saved)
    push_policy(saved, REPO)
    again = evaluated(REPO)
    assert [r.actions for r in again.records] == [r.actions for r in result.records]
    content = json.loads(remote_files(hub)["results.json"].data)
    assert content["suites"]["gotolocal"]["sampled"]["episodes"] == again.to_dict()["episodes"]
    assert content["policy"] == REPO


def test_the_card_says_what_the_folder_holds(hub, saved):
    with_results(saved)
    push_policy(saved, REPO, license="mit")
    files = remote_files(hub)
    card = ModelCard(files["README.md"].data.decode())
    assert card.data.library_name == "trl" and card.data.license == "mit" and "babyai" in card.data.tags
    entry = read_results(saved)["suites"]["gotolocal"]
    assert card.data.eval_results[0].metric_value == round(entry["success_rate"], 4)
    assert entry["panel"]["sha256"] in card.text
    (reported,) = parse_eval_result_entries(yaml.safe_load(files[".eval_results/trl_glam.yaml"].data))
    assert reported.value == round(100 * entry["success_rate"], 2) and reported.task_id == "gotolocal"
    assert files["learning_curve.png"].data[:4] == b"\x89PNG" and files["episode.gif"].data[:4] == b"GIF8"


def test_the_pictures_of_the_card_can_be_looked_at(hub, saved):
    push_policy(saved, REPO)
    files = remote_files(hub)
    length = int(re.search(r"after (\d+) steps?, return", files["README.md"].data.decode())[1])
    with Image.open(io.BytesIO(files["episode.gif"].data)) as gif:
        assert gif.n_frames == length + 1 and gif.info["loop"] == 0
        assert gif.width == 360 and gif.width < gif.height < 450
        durations, captions = [], set()
        for frame in range(gif.n_frames):
            gif.seek(frame)
            durations.append(gif.info["duration"])
            strip = np.asarray(gif.convert("L").crop((0, gif.width, gif.width, gif.height)))
            # Black letters on white, two lines of them.
            assert (strip > 250).mean() > 0.8 and 0.02 < (strip < 60).mean() < 0.2
            captions.add(strip.tobytes())
        assert set(durations[:-1]) == {600} and durations[-1] == 1800 and len(captions) == gif.n_frames
    with Image.open(io.BytesIO(files["learning_curve.png"].data)) as curve:
        assert curve.size == (1050, 630)


def test_the_code_sample_of_the_card_runs(hub, saved, capsys):
    push_policy(saved, REPO)
    (code,) = code_blocks(remote_files(hub)["README.md"].data.decode())
    assert f'from_pretrained("{REPO}")' in code and "evaluate_policy" in code
    exec(code, {})
    assert capsys.readouterr().out.startswith(ACTIONS)


def test_nothing_pushed_is_a_pickle_or_names_this_machine(hub, saved, tmp_path):
    (saved / "optimizer.pt").write_bytes(b"\x80\x04")
    (saved / "training_args.json").write_text(json.dumps({"output_dir": str(saved), "logging_dir": "~/runs/a"}))
    push_policy(saved, REPO)
    pulled = pull(REPO, tmp_path / "pulled").folder
    shutil.rmtree(pulled / ".cache")
    assert scan_folder(pulled) == []
    assert not [path for path in pulled.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    for path in pulled.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes() and TOKEN.encode() not in path.read_bytes()


@pytest.fixture
def local_base(monkeypatch, tmp_path, base):
    """The tiny model in the place of the local one."""
    monkeypatch.setenv("TRL_GLAM_CACHE", str(tmp_path / "cache"))
    shutil.copytree(base, cache_dir() / "flan-t5-small-titles")
    return "local:flan-t5-small-titles"


def perturb(policy):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.lm.named_parameters():
            if "lora_" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def test_an_adapter_on_a_local_base_goes_merged_and_whole(hub, local_base, tmp_path):
    policy = ScoringPolicy.from_pretrained(local_base, peft_config=LoraConfig(r=4, target_modules=["q", "v"]))
    perturb(policy)
    policy.save_pretrained(tmp_path / "lora")
    push_policy(tmp_path / "lora", REPO)
    files = remote_files(hub)
    assert "model.safetensors" in files and "adapter_config.json" not in files
    shutil.rmtree(cache_dir())
    loaded = ScoringPolicy.from_pretrained(REPO)
    np.testing.assert_allclose(scores(loaded), scores(policy), atol=1e-5)
    text = b"".join(blob.data for name, blob in files.items() if not name.endswith((".safetensors", ".gif", ".png")))
    assert b"local:" not in text and str(tmp_path).encode() not in text
    assert b"a flan-t5-small derivative" in text
    assert ModelCard(files["README.md"].data.decode()).data.license == "mit"


def test_whole_weights_from_a_local_base_take_the_offsets_of_unseen_actions_along(hub, local_base, tmp_path):
    policy = ScoringPolicy.from_pretrained(local_base, calibration="prompts")
    policy.calibrate(["Goal of the agent: go to a key "], list(ACTIONS))
    folder = tmp_path / "whole"
    policy.save_pretrained(folder)
    synonyms = ["rotate left", "rotate right", "move ahead"]
    result = evaluate_policy(policy, Panel.from_env(ENV_ID, 2), env_kwargs={"actions": synonyms, "max_steps": 4})
    entry = score_entry({"sampled": result}, env_kwargs={"actions": synonyms})
    write_results(folder, "local:flan-t5-small-titles", 0, {"synonym_actions": entry})
    push_policy(folder, REPO)
    shutil.rmtree(cache_dir())
    loaded = ScoringPolicy.from_pretrained(REPO)
    assert loaded.policy_config.base_model is None
    assert set(synonyms) <= loaded.policy_config.calibration.offsets.keys()
    panel = Panel.from_env(ENV_ID, 2)
    again = evaluate_policy(loaded, panel, env_kwargs={"actions": synonyms, "max_steps": 4})
    assert [r.actions for r in again.records] == [r.actions for r in result.records]


def test_a_base_in_a_folder_of_one_s_own_is_named_nowhere(hub, base, tmp_path):
    """Not in the rule that served unseen actions either."""
    private = shutil.copytree(base, tmp_path / "private_base")
    policy = ScoringPolicy.from_pretrained(
        private, calibration="prompts", peft_config=LoraConfig(r=4, target_modules=["q", "v"])
    )
    policy.calibrate(["Goal of the agent: go to a key "], list(ACTIONS))
    policy.save_pretrained(tmp_path / "lora")
    write_summary(tmp_path / "lora")
    entry = score_entry(
        {"sampled": evaluate_policy(policy, Panel.from_env(ENV_ID, 2, env_kwargs={"max_steps": 4}))},
        calibration=f"prompts, offsets of {private} computed for unseen move ahead",
    )
    write_results(tmp_path / "lora", str(private), 0, {"synonym_actions": entry})
    push_policy(tmp_path / "lora", REPO)
    files = remote_files(hub)
    assert not [name for name, blob in files.items() if b"private_base" in blob.data]
    card = files["README.md"].data.decode()
    assert "offsets of a language model of its author's own computed" in card
    assert "use_peft: true" in card and "lora_r: 4" in card, "merged weights do not show that an adapter was trained"


def test_an_adapter_on_a_base_from_the_hub_stays_an_adapter(hub, base, saved, tmp_path):
    push_policy(saved, "org/base", episode=False)
    policy = ScoringPolicy.from_pretrained("org/base", peft_config=LoraConfig(r=4, target_modules=["q", "v"]))
    perturb(policy)
    policy.save_pretrained(tmp_path / "lora")
    push_policy(tmp_path / "lora", REPO)
    files = remote_files(hub)
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
    np.testing.assert_array_equal(scores(ScoringPolicy.from_pretrained(REPO)), scores(policy))
    assert ModelCard(files["README.md"].data.decode()).data.base_model == "org/base"


def test_a_second_push_leaves_nothing_of_the_first_and_what_is_not_ours_alone(hub, saved, tmp_path):
    with_results(saved)
    push_policy(saved, REPO)
    repo = hub.repos["model", REPO]
    assert {"results.json", ".eval_results/trl_glam.yaml", "training_summary.json", "episode.gif"} <= set(repo.files)
    repo.commit({**repo.files, "NOTES.md": Blob(b"by its owner", False)})
    (tmp_path / "other").mkdir()
    policy = ScoringPolicy.from_pretrained(saved)
    policy.save_pretrained(tmp_path / "other", max_shard_size="60KB")
    push_policy(tmp_path / "other", REPO)
    files = remote_files(hub)
    prepare_policy(tmp_path / "other", tmp_path / "staged", REPO)
    staged = {path.relative_to(tmp_path / "staged").as_posix() for path in (tmp_path / "staged").rglob("*.*")}
    assert set(files) == {name for name in staged if name != ".eval_results"} | {".gitattributes", "NOTES.md"}
    assert "model.safetensors.index.json" in files
    np.testing.assert_array_equal(scores(ScoringPolicy.from_pretrained(REPO)), scores(policy))


def test_a_dry_run_writes_the_folder_and_asks_the_hub_nothing(hub, saved, tmp_path):
    card = prepare_policy(saved, tmp_path / "dry", REPO)
    assert card.read_text().startswith("---") and (tmp_path / "dry" / "model.safetensors").exists()
    assert hub.requests == [] and not hub.repos


def test_an_existing_public_repository_is_not_pushed_to_by_accident(hub, saved):
    push_policy(saved, REPO, private=False, episode=False)
    head = hub.repos["model", REPO].head
    with pytest.raises(InvalidInputError, match="public already"):
        push_policy(saved, REPO, episode=False, commit_message="again")
    assert hub.repos["model", REPO].head == head


def test_a_secret_in_the_folder_stops_the_push_before_the_network(hub, saved):
    (saved / "chat_template.jinja").write_text(f"token {TOKEN}")
    with pytest.raises(InvalidInputError, match="chat_template.jinja holds an access token") as error:
        push_policy(saved, REPO, episode=False)
    assert TOKEN not in str(error.value) and hub.requests == []
