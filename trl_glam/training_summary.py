# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`TrainingSummary`: what a policy's own files do not say of its training; the file `training_summary.json`.

The environment, the settings as a recipe, the learning curves and the versions: with it a card can be rendered again
when results arrive, elsewhere, without the trainer. The full arguments are in `training_args.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from . import __version__
from .types import InvalidInputError


SUMMARY_NAME = "training_summary.json"

GLAM_PAPER = {
    "title": "Grounding Large Language Models in Interactive Environments with Online Reinforcement Learning",
    "id": "2302.02662",
    "citation": """@inproceedings{carta2023grounding,
    title     = {{Grounding Large Language Models in Interactive Environments with Online Reinforcement Learning}},
    author    = {Carta, Thomas and Romac, Cl{\\'e}ment and Wolf, Thomas and Lamprier, Sylvain and Sigaud, Olivier and
                 Oudeyer, Pierre-Yves},
    booktitle = {International Conference on Machine Learning},
    year      = 2023
}""",
}

_PACKAGES = ("trl", "transformers", "torch", "datasets", "accelerate", "peft", "minigrid", "gymnasium")
# Of Trainer's own arguments, those that decide what is learned. The others say where and how fast it runs, and what is
# reported; how often it is saved and evaluated counts only if the best checkpoint is taken.
_LEARNING = (
    "num_train_epochs",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "warmup_steps",
    "optim",
    "optim_args",
    "optim_target_modules",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "label_smoothing_factor",
    "neftune_noise_alpha",
    "bf16",
    "fp16",
    "tf32",
    "data_seed",
    "train_sampling_strategy",
)
_BEST_MODEL = (
    "load_best_model_at_end",
    "metric_for_best_model",
    "greater_is_better",
    "eval_strategy",
    "eval_steps",
    "save_strategy",
    "save_steps",
)
_SUCCESS = ("success_rate", "success_rate_by_return")


def _installed_versions() -> dict[str, str]:
    return {"trl-glam": __version__, **{package: version(package) for package in _PACKAGES}}


@dataclass
class TrainingSummary:
    """
    What a card says about the training of a policy; the content of `training_summary.json`.

    Args:
        trainer (`str`):
            `"GLAM"` or `"BC"`.
        env_id (`str`):
            Gymnasium id of the environment, or the name of its class.
        env_kwargs (`dict[str, Any]`, *optional*):
            Its keyword arguments.
        registered (`bool`, *optional*, defaults to `True`):
            Whether `gym.make(env_id)` makes it; otherwise a factory made it, and only its author has it.
        settings (`dict[str, Any]`, *optional*):
            The training arguments that differ from the defaults, as a recipe has them; see [`recipe_settings`].
        curves (`dict[str, list[dict]]`, *optional*):
            Rows `env_steps, success_rate` and maybe `low, high`, of the training episodes and of the evaluations; see
            [`curves_of`].
        tags (`list[str]`, *optional*):
            Tags of the model card.
        dataset (`str`, *optional*):
            Dataset on the Hub that the policy learned from.
        paper (`dict[str, str]`, *optional*):
            `title`, `id` on huggingface.co/papers and `citation` (BibTeX) of the method.
        versions (`dict[str, str]`, *optional*):
            Versions of the libraries; those installed now if not given.
    """

    trainer: str
    env_id: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    registered: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    dataset: str | None = None
    paper: dict[str, str] = field(default_factory=lambda: dict(GLAM_PAPER))
    versions: dict[str, str] = field(default_factory=_installed_versions)

    def save(self, folder: str | Path) -> None:
        """Write `training_summary.json` into a folder."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        Path(folder, SUMMARY_NAME).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> TrainingSummary | None:
        """Read it from a folder; `None` if the folder has none."""
        path = Path(folder, SUMMARY_NAME)
        if not path.exists():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise InvalidInputError(f"{path} is no training summary ({error}); remove it to go on without.") from None


def recipe_settings(args: TrainingArguments) -> dict[str, Any]:
    """
    The training arguments that decide what is learned and differ from their defaults: what a recipe has to say.

    Args:
        args ([`~transformers.TrainingArguments`]):
            Those of a run. All that trl_glam itself defines count, and of Trainer's own those in `_LEARNING`.

    Returns:
        `dict[str, Any]`: name to JSON value.
    """
    ours = [cls for cls in type(args).__mro__ if cls.__module__.startswith("trl_glam.")]
    names = {name for cls in ours for name in cls.__annotations__ if not name.startswith("_")} | set(_LEARNING)
    if args.load_best_model_at_end:
        names |= set(_BEST_MODEL)
    values = args.to_dict()
    changed = {f.name for f in fields(args) if f.name in names and values[f.name] != f.default}
    return {name: values[name] for name in sorted(changed)} | {"seed": args.seed}


def adapter_settings(folder: str | Path) -> dict[str, Any]:
    """
    What a recipe has to say of the LoRA adapter in a folder; the arguments of TRL's `ModelConfig`.

    Args:
        folder (`str` or `Path`):
            A saved policy.

    Returns:
        `dict[str, Any]`: empty without an adapter, and for another kind than LoRA, which no recipe can ask for.
    """
    path = Path(folder, "adapter_config.json")
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if config.get("peft_type") != "LORA":
        return {}
    modules = config["target_modules"]
    settings = {
        "use_peft": True,
        "lora_r": config["r"],
        "lora_alpha": config["lora_alpha"],
        "lora_target_modules": modules if isinstance(modules, str) else sorted(modules),
    }
    if config["modules_to_save"]:
        settings["lora_modules_to_save"] = config["modules_to_save"]
    return settings | {name: True for name in ("use_rslora", "use_dora") if config[name]}


def curves_of(log_history: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, float]]]:
    """
    Success against environment steps, out of Trainer's log.

    Args:
        log_history (`list[dict]`):
            `trainer.state.log_history`; rows without `env_steps` are skipped.

    Returns:
        `dict[str, list[dict]]`: rows of `"training episodes"` and of `"evaluation"`, for those that were logged.
    """
    curves: dict[str, list[dict[str, float]]] = {"training episodes": [], "evaluation": []}
    for row in log_history:
        for name in _SUCCESS:
            if "env_steps" not in row:
                continue
            steps = row["env_steps"]
            if (value := row.get(f"rollout/{name}")) is not None:
                curves["training episodes"].append({"env_steps": steps, "success_rate": value})
            if (value := row.get(f"eval_{name}")) is not None:
                band = {"low": row[f"eval_{name}_low"], "high": row[f"eval_{name}_high"]}
                curves["evaluation"].append({"env_steps": steps, "success_rate": value, **band})
    return {name: rows for name, rows in curves.items() if rows}
