# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Data -> `README.md`: the cards of a policy and of an interaction log, rendered from `hub_cards/` without a network.

A card says what the folder's own files say, and leaves out the sections whose data is not there. A base model that a
stranger cannot fetch (a folder, a `local:` name) is described, never named. Left out: playing the episode that a card
shows (`hub/showcase.py`), and the way to the Hub (`hub/push.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import (
    DatasetCard,
    DatasetCardData,
    EvalResult,
    EvalResultEntry,
    ModelCard,
    ModelCardData,
    eval_result_entries_to_yaml,
)
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from .evaluation.repeat import environments, eval_command
from .evaluation.results import RESULTS_NAME, results_table
from .figures import learning_curve
from .local_models import PREFIX, find
from .logs.schema import columns_markdown
from .policy.config import PolicyConfig
from .prompts import PromptTemplate
from .resources import card_template
from .training_summary import TrainingSummary, adapter_settings


CARD_NAME = "README.md"
CURVE_NAME = "learning_curve.png"
EPISODE_NAME = "episode.gif"
EVAL_RESULTS_NAME = ".eval_results/trl_glam.yaml"


@dataclass(frozen=True)
class BaseModel:
    """How a card speaks of the base model: `hub_id` is `None` when a stranger could not fetch it."""

    text: str
    hub_id: str | None = None
    license: str | None = None


def describe_base(name: str | None) -> BaseModel:
    """
    What may be said in public of the model a policy started from.

    Args:
        name (`str` or `None`):
            `base_model` of the policy's config: a Hub id, a folder or a `local:` name.
    """
    if name is None:
        return BaseModel("a language model")
    if name.startswith(PREFIX):
        local = find(name)
        text = local.summary.partition(": ")[2].rpartition(",")[0]
        return BaseModel(text, license=ModelCard(local.card).data.to_dict()["license"])
    try:
        validate_repo_id(name)
    except HFValidationError:
        return BaseModel("a language model of its author's own")
    if Path(name).is_dir():
        return BaseModel("a language model of its author's own")
    return BaseModel(f"[{name}](https://huggingface.co/{name})", name)


def write_policy_card(
    folder: str | Path,
    policy_config: PolicyConfig,
    summary: TrainingSummary | None = None,
    *,
    repo_id: str | None = None,
    base: BaseModel | None = None,
    results: Mapping[str, Any] | None = None,
    episode: Mapping[str, Any] | None = None,
    license: str | None = None,
) -> Path:
    """
    Write the card of a policy, and the files it shows: the learning curve and the Hub's `.eval_results`.

    Args:
        folder (`str` or `Path`):
            The policy's folder.
        policy_config ([`PolicyConfig`]):
            How the policy scores actions.
        summary ([`TrainingSummary`], *optional*):
            How it was trained.
        repo_id (`str`, *optional*):
            Where the folder goes on the Hub; the folder's name if not given.
        base ([`BaseModel`], *optional*):
            How to speak of the base model; from the policy's config if not given.
        results (`dict[str, Any]`, *optional*):
            What [`~trl_glam.evaluation.results.read_results`] gives.
        episode (`dict[str, Any]`, *optional*):
            What [`~trl_glam.hub.showcase.record_episode`] gives.
        license (`str`, *optional*):
            Licence of the weights; the base model's, where it is known, if not given.

    Returns:
        `Path`: the card.
    """
    folder = Path(folder)
    base = describe_base(policy_config.base_model) if base is None else base
    repo_id = Path(folder).absolute().name if repo_id is None else repo_id
    name = repo_id.split("/")[-1]
    curves = summary.curves if summary is not None else {}
    if curves:
        learning_curve(curves, folder / CURVE_NAME, title=f"{name}: success while learning")
        # The Hub shows the PNG.
        (folder / CURVE_NAME).with_suffix(".svg").unlink()
    data = ModelCardData(
        library_name="trl",
        license=license or base.license,
        base_model=base.hub_id,
        datasets=None if summary is None or summary.dataset is None else [summary.dataset],
        tags=["trl", "trl-glam", "glam", "reinforcement-learning", *(summary.tags if summary is not None else [])],
        pipeline_tag="reinforcement-learning",
        model_name=name,
        eval_results=_model_index(results, repo_id) if results is not None else None,
    )
    card = ModelCard.from_template(
        data,
        template_str=card_template("policy_card.md.jinja"),
        name=name,
        repo_id=repo_id,
        policy=policy_config,
        base=base,
        run=summary,
        recipe=_recipe(summary, folder),
        **_training(name, policy_config, summary, base),
        env_kwargs=_as_arguments(summary.env_kwargs) if summary is not None else "",
        is_adapter=(folder / "adapter_config.json").exists(),
        has_curve=bool(curves),
        results=results,
        results_table=results_table(results) if results is not None else None,
        panels=_panels(results) if results is not None else [],
        eval_command=_eval_command(repo_id, results, summary),
        episode=episode,
        has_gif=(folder / EPISODE_NAME).exists(),
        **_example(policy_config, episode),
    )
    card.save(folder / CARD_NAME)
    if results is not None:
        _write_eval_results(folder, results, repo_id)
    return folder / CARD_NAME


def _example(config: PolicyConfig, episode: Mapping[str, Any] | None) -> dict[str, Any]:
    """The window, the actions, and a prompt for the code sample: the episode's first, or GLAM's own example."""
    actions = config.actions or list(config.calibration.offsets)
    # A policy that records no template acts with GLAM's.
    template = PromptTemplate() if config.prompt_template is None else PromptTemplate.from_dict(config.prompt_template)
    if episode is not None:
        prompt, offered = episode["prompt"], episode["admissible_actions"]
    else:
        unnamed = [f"action {i}" for i in range(config.num_actions or 0)]
        offered = actions or unnamed or ["turn left", "turn right", "go forward"]
        prompt = template.render("go to the red ball", [["You see a red ball 1 step left"]], [], offered)
    return {
        "window": template.num_observations,
        "actions": actions or (offered if episode is not None else []),
        "example_prompt": prompt,
        "example_prompt_code": repr(prompt),
        "example_actions": list(offered),
    }


def _recipe(summary: TrainingSummary | None, folder: Path) -> str | None:
    if summary is None or not summary.settings:
        return None
    settings = {**summary.settings, **adapter_settings(folder)}
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).strip()


def _training(name: str, config: PolicyConfig, summary: TrainingSummary | None, base: BaseModel) -> dict[str, Any]:
    """The command that trains such a policy from the card's recipe, and what its placeholders stand for."""
    if summary is None:
        return {}
    placeholders = []
    command = ["trl-glam", "bc" if summary.trainer == "BC" else "train", "--config recipe.yaml"]
    command.append(f"--model_name_or_path {base.hub_id or 'BASE'}")
    if base.hub_id is None:
        placeholders.append(f"`BASE` is {base.text}")
    elif config.base_revision is not None:
        command.append(f"--model_revision {config.base_revision}")
    if summary.trainer == "BC":
        command.append(f"--dataset_name {summary.dataset or 'LOG'}")
        if summary.dataset is None:
            placeholders.append("`LOG` is the interaction log it learned from")
    return {"train_command": " ".join([*command, f"--output_dir {name}"]), "placeholders": placeholders}


def _as_arguments(kwargs: Mapping[str, Any]) -> str:
    """`{"num_dists": 8}` -> `, env_kwargs={'num_dists': 8}`, for the code sample."""
    return f", env_kwargs={dict(kwargs)!r}" if kwargs else ""


def _panels(results: Mapping[str, Any]) -> list[dict[str, str]]:
    panels = {entry["panel"]["name"]: entry["panel"]["sha256"] for entry in results["suites"].values()}
    return [{"name": name, "sha256": sha256} for name, sha256 in panels.items()]


def _eval_command(repo_id: str, results: Mapping[str, Any] | None, summary: TrainingSummary | None) -> str | None:
    if results is None:
        return None
    if summary is None:
        return eval_command(repo_id, results, {})
    return eval_command(repo_id, results, summary.env_kwargs, summary.settings.get("env_module"))


def _episodes_url(repo_id: str) -> str:
    """Where the outcome of every episode behind a number can be read."""
    return f"https://huggingface.co/{repo_id}/blob/main/{RESULTS_NAME}"


def _model_index(results: Mapping[str, Any], repo_id: str) -> list[EvalResult]:
    return [
        EvalResult(
            task_type="reinforcement-learning",
            task_name="reinforcement-learning",
            dataset_type=", ".join(environments(entry)),
            dataset_name=f"{test} ({', '.join(environments(entry))})",
            dataset_revision=entry["panel"]["sha256"],
            metric_type="success_rate",
            metric_name=f"success rate, {mode}",
            metric_value=round(entry[mode]["success_rate"], 4),
            source_name=RESULTS_NAME,
            source_url=_episodes_url(repo_id),
        )
        for test, entry in results["suites"].items()
        for mode in ("sampled", "greedy")
        if mode in entry
    ]


def _write_eval_results(folder: Path, results: Mapping[str, Any], repo_id: str) -> None:
    entries = [
        EvalResultEntry(
            dataset_id=environments(entry)[0],
            task_id=test,
            value=round(100 * entry["success_rate"], 2),
            notes=(
                f"success rate in percent, {entry['mode']} actions, {entry['panel']['num_episodes']} episodes of "
                f"panel {entry['panel']['name']} (sha256 {entry['panel']['sha256'][:16]})"
            ),
            source_url=_episodes_url(repo_id),
            source_name=RESULTS_NAME,
        )
        for test, entry in results["suites"].items()
    ]
    path = folder / EVAL_RESULTS_NAME
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False), encoding="utf-8")


def write_log_card(folder: str | Path, facts: Mapping[str, Any], *, repo_id: str, license: str | None = None) -> Path:
    """
    Write the card of an interaction log.

    Args:
        folder (`str` or `Path`):
            The dataset's folder, with `data/{split}-*.parquet`.
        facts (`dict[str, Any]`):
            What [`~trl_glam.hub.log_facts.log_facts`] gives.
        repo_id (`str`):
            Where the folder goes on the Hub.
        license (`str`, *optional*):
            Licence of the dataset.

    Returns:
        `Path`: the card.
    """
    num_rows = sum(split["transitions"] for split in facts["splits"])
    data = DatasetCardData(
        license=license,
        language=facts["languages"],
        pretty_name=repo_id.split("/")[-1],
        size_categories=[_size_category(num_rows)],
        task_categories=["reinforcement-learning"],
        tags=["trl-glam", "interaction-log", "reinforcement-learning"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": s["name"], "path": f"data/{s['name']}-*.parquet"} for s in facts["splits"]],
            }
        ],
    )
    card = DatasetCard.from_template(
        data, template_str=card_template("log_card.md.jinja"), repo_id=repo_id, columns=columns_markdown(), **facts
    )
    path = Path(folder, CARD_NAME)
    card.save(path)
    return path


def _size_category(num_rows: int) -> str:
    steps = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")]
    return next((name for limit, name in steps if num_rows < limit), "10M<n<100M")
