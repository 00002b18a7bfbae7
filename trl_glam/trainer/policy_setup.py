# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""From a trainer's arguments to the policy it trains: load it or check the given one, and give it its prompt template.

A plain language model takes the defaults that learn (temperature, calibration, a detached value head); a saved policy,
or a [`ScoringPolicy`] that is handed over, keeps what it was made with, and an argument that says otherwise is an
error.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from peft import PeftConfig
from transformers import PreTrainedTokenizerBase

from ..policy import Calibration, ScoringPolicy
from ..prompts import PromptTemplate
from ..types import InvalidInputError
from .policy_trainer_config import _PolicyTrainerConfig


# Entries of `model_init_kwargs` that `ScoringPolicy.from_pretrained` takes by name.
_LOADING_OPTIONS = ("dtype", "attn_implementation", "revision", "trust_remote_code")


def build_policy(
    model: str | ScoringPolicy,
    args: _PolicyTrainerConfig,
    processing_class: PreTrainedTokenizerBase | None,
    peft_config: PeftConfig | None,
    quantization_config: Any | None,
    num_actions: int,
) -> ScoringPolicy:
    """
    Load the policy a trainer was asked for, or check the one it was given against its arguments; an action head that
    is asked for gets `num_actions` outputs.
    """
    if isinstance(model, ScoringPolicy):
        _check_agreement(model, args, peft_config, quantization_config, processing_class)
        return model
    options = dict(args.model_init_kwargs or {})
    named = {name: options.pop(name) for name in _LOADING_OPTIONS if name in options}
    policy = ScoringPolicy.from_pretrained(
        model,
        scoring=args.scoring,
        temperature=args.temperature,
        calibration=args.calibration,
        head=args.head,
        num_actions=num_actions if args.head == "action" else None,
        value_head=args.value_head,
        detach_value=args.detach_value,
        init=args.init,
        tokenizer=processing_class,
        peft_config=peft_config,
        quantization_config=quantization_config,
        model_init_kwargs=options,
        **named,
    )
    if policy.is_quantized and not policy._hf_peft_config_loaded:
        raise InvalidInputError(
            "A quantised model has no weights that could be trained: pass a peft_config (use_peft in a recipe), which "
            "trains an adapter on top of it."
        )
    if policy.prompt_template is None:
        # A plain language model, not a saved policy.
        config = policy.policy_config
        changes: dict[str, Any] = {}
        if args.temperature is None:
            changes["temperature"] = args.learning_temperature
        if args.calibration is None and config.head == "scoring":
            changes["calibration"] = Calibration(args.learning_calibration)
        if args.detach_value is None:
            changes["detach_value"] = config.value_head != "paper"
        policy.policy_config = replace(config, **changes)
    return policy


def _check_agreement(
    policy: ScoringPolicy,
    args: _PolicyTrainerConfig,
    peft_config: Any | None,
    quantization_config: Any | None,
    processing_class: Any | None,
) -> None:
    given = {
        "peft_config": peft_config,
        "quantization_config": quantization_config,
        "processing_class": processing_class,
        "args.model_init_kwargs": args.model_init_kwargs,
    }
    extra = [name for name, value in given.items() if value]
    if extra:
        raise InvalidInputError(
            f"{', '.join(extra)} cannot be applied to a ScoringPolicy that is already built; pass it to "
            "ScoringPolicy.from_pretrained, or pass the model's name to the trainer."
        )
    config = policy.policy_config
    actual = {name: getattr(config, name) for name in ("scoring", "temperature", "head", "value_head", "detach_value")}
    actual["calibration"] = config.calibration.mode
    for name, value in actual.items():
        asked = getattr(args, name)
        if asked is not None and asked != value:
            raise InvalidInputError(
                f"args.{name}={asked!r} differs from the given ScoringPolicy's {value!r}; leave it out of the "
                "arguments."
            )


def set_template(policy: ScoringPolicy, template: PromptTemplate | None, args: _PolicyTrainerConfig) -> None:
    """Give the policy its template: the given one, its own, or GLAM's with the window (or none) asked for."""
    base = template or policy.prompt_template
    if base is None:
        policy.prompt_template = PromptTemplate(None if args.append_only else args.num_observations or 3)
        return
    asked = f"num_observations={args.num_observations}" if args.num_observations is not None else "append_only=True"
    differs = args.num_observations not in (None, base.num_observations)
    if differs or (args.append_only and not base.append_only):
        whose = "the given prompt_template" if template is not None else "the policy"
        window = "which is append-only" if base.append_only else f"whose window is {base.num_observations}"
        raise InvalidInputError(f"args.{asked} differs from {whose}, {window}; leave one of them out.")
    policy.prompt_template = base
