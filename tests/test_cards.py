# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Cards say what is there, leave out what is not, and are valid metadata."""

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from trl_glam import GLAMConfig, PromptTemplate
from trl_glam.cards import describe_base, write_policy_card
from trl_glam.policy.config import Calibration, PolicyConfig
from trl_glam.training_summary import TrainingSummary, curves_of, recipe_settings
from trl_glam.types import InvalidInputError


CONFIG = PolicyConfig(
    "encoder_decoder",
    temperature=4.0,
    calibration=Calibration("prompts", {"turn left": -1.0, "go forward": -2.0}, ["a prompt"]),
    prompt_template=PromptTemplate(num_observations=2).to_dict(),
    base_model="google/flan-t5-small",
)
EPISODE = {
    "env_id": "BabyAI-Text/GoToLocal-v0",
    "seed": 7,
    "mission": "go to the red ball",
    "success": True,
    "return": 0.9,
    "length": 50,
    "prompt": "Goal \n 'it's' ",
    "admissible_actions": ["turn left", "go forward"],
    "steps": [{"observation": ["You see a ball"], "action": "go forward", "probability": 0.5}] * 50,
}


def entry(env_ids=("BabyAI-Text/GoToLocal-v0",)):
    episodes = [{"env_id": env_id, "success": True} for env_id in env_ids]
    sampled = {"success_rate": 0.5, "interval": [0.4, 0.6], "per_kind": {}, "episodes": episodes}
    panel = {"name": "goto", "sha256": "ab" * 32, "num_episodes": 100}
    headline = {"panel": panel, "env_kwargs": {}, "success_rate": 0.5, "interval": [0.4, 0.6], "mode": "sampled"}
    return {**headline, "sampled": sampled, "references": {}, "published": {}, "calibration": None}


RESULTS = {"confidence": 0.95, "seed": 3, "suites": {"no_change": entry()}}


def summary(**fields):
    rows = [{"env_steps": 10, "rollout/success_rate": 0.2}, {"env_steps": 20, "rollout/success_rate": 0.4}]
    return TrainingSummary("GLAM", "BabyAI-Text/GoToLocal-v0", curves=curves_of(rows), **fields)


def test_a_card_without_data_has_no_section_for_it(tmp_path):
    card = ModelCard.load(write_policy_card(tmp_path, CONFIG, repo_id="org/name"))
    for heading in ("Results", "Learning", "An episode", "Training", "Citation"):
        assert f"## {heading}" not in card.text
    assert "None" not in card.text and "{{" not in card.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md"]


def test_a_full_card_has_everything(tmp_path):
    run = summary(settings={"gamma": 0.9}, tags=["mine"], dataset="org/data")
    path = write_policy_card(
        tmp_path, CONFIG, run, repo_id="org/name", results=RESULTS, episode=EPISODE, license="mit"
    )
    card = ModelCard.load(path)
    data = card.data
    assert (data.library_name, data.base_model, data.datasets, data.license) == (
        "trl",
        "google/flan-t5-small",
        ["org/data"],
        "mit",
    )
    assert "mine" in data.tags and data.eval_results[0].metric_value == 0.5
    for text in (
        "0.500 [0.400, 0.600]",
        "ab" * 32,
        "learning_curve.png",
        "in success after 50 steps",
        "The first 40 of 50 steps",
        "gamma: 0.9",
        "--model_name_or_path google/flan-t5-small",
        "turn left, go forward",
        "a window of 2 observations",
        'from_pretrained("org/name")',
    ):
        assert text in card.text, text
    assert (tmp_path / "learning_curve.png").stat().st_size > 5_000
    (reported,) = parse_eval_result_entries(yaml.safe_load((tmp_path / ".eval_results/trl_glam.yaml").read_text()))
    assert (reported.value, reported.dataset_id) == (50.0, "BabyAI-Text/GoToLocal-v0")


@pytest.mark.parametrize("name", ["local:flan-t5-small-titles", "/home/ada/model", None])
def test_a_base_that_a_stranger_cannot_fetch_is_described_and_not_named(name, tmp_path):
    base = describe_base(name)
    config = PolicyConfig("encoder_decoder", base_model=name)
    text = write_policy_card(tmp_path, config, summary(settings={"gamma": 0.9}), repo_id="org/name").read_text()
    assert base.hub_id is None and base.text in text and "base_model" not in text
    assert "local:" not in text and "/home" not in text and "where `BASE` is" in text


def test_a_local_base_brings_its_licence():
    assert describe_base("local:flan-t5-small-titles").license == "mit"


def test_a_summary_comes_back_as_it_was(tmp_path):
    run = summary(settings={"gamma": 0.9, "env_kwargs": {"num_dists": 3}})
    run.save(tmp_path)
    assert TrainingSummary.load(tmp_path) == run
    assert TrainingSummary.load(tmp_path / "elsewhere") is None
    (tmp_path / "training_summary.json").write_text('{"nonsense": 1}')
    with pytest.raises(InvalidInputError, match="no training summary"):
        TrainingSummary.load(tmp_path)


def test_the_recipe_holds_what_differs_from_the_defaults(tmp_path):
    args = GLAMConfig(output_dir=str(tmp_path), env_id="BabyAI-Text/GoToLocal-v0", gamma=0.9, hub_token="secret")
    settings = recipe_settings(args)
    assert settings["gamma"] == 0.9 and settings["env_id"] == "BabyAI-Text/GoToLocal-v0" and settings["seed"] == 42
    assert not {"output_dir", "hub_token", "num_envs", "max_steps"} & settings.keys()


def test_curves_take_training_and_evaluation_apart():
    rows = [
        {"env_steps": 5, "rollout/success_rate": 0.1, "loss": 1.0},
        {"env_steps": 5, "eval_success_rate": 0.2, "eval_success_rate_low": 0.1, "eval_success_rate_high": 0.3},
        {"train_runtime": 3.0},
    ]
    assert curves_of(rows) == {
        "training episodes": [{"env_steps": 5, "success_rate": 0.1}],
        "evaluation": [{"env_steps": 5, "success_rate": 0.2, "low": 0.1, "high": 0.3}],
    }
    assert curves_of([{"loss": 1.0}]) == {}
