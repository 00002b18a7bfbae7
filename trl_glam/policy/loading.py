# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A name -> language model and tokenizer, as a policy needs them: supported, complete, without dropout, with the
weights asked for.

A name is a folder, a Hub id or `local:NAME`. Heads, scoring and saved policies are the business of
`scoring_policy.py`.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from peft import PeftConfig, PeftModel, PeftType, TaskType, get_peft_model
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.activations import NewGELUActivation
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

from .._compat import untie_output_layer
from ..local_models import resolve_model
from ..types import InvalidInputError
from . import encoder_decoder


logger = logging.getLogger(__name__)

_LOADING_ERRORS = (OSError, ValueError, KeyError, SafetensorError, HFValidationError)


def load_language_model(
    name: str,
    *,
    revision: str | None = None,
    init: str = "pretrained",
    dtype: str | torch.dtype = "float32",
    attn_implementation: str | None = None,
    quantization_config: Any | None = None,
    trust_remote_code: bool = False,
    model_init_kwargs: dict[str, Any] | None = None,
    strict: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """
    Load a language model and its tokenizer.

    Args:
        name (`str`):
            Folder, Hub id or `local:NAME`.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        init (`str`, *optional*, defaults to `"pretrained"`):
            `"pretrained"`; `"random"`: freshly initialized; `"embeddings"`: freshly initialized but for the input
            embeddings (section 4 of GLAM, https://huggingface.co/papers/2302.02662). An output layer that is not tied
            to the embeddings in the checkpoint is not tied in the new model either.
        dtype (`str` or `torch.dtype`, *optional*, defaults to `"float32"`):
            Type of the weights; `"auto"` takes the checkpoint's.
        attn_implementation (`str`, *optional*):
            `"sdpa"` or `"eager"`.
        quantization_config (*optional*):
            Passed to `from_pretrained`.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code from the model's repository may run.
        model_init_kwargs (`dict`, *optional*):
            More keyword arguments of `from_pretrained`.
        strict (`bool`, *optional*, defaults to `False`):
            Refuse weights that the model does not have, as in a folder that we wrote ourselves there are none. Missing
            ones are always refused.

    Returns:
        `tuple[PreTrainedModel, PreTrainedTokenizerBase]`: the model, in eval mode, and the tokenizer.

    Raises:
        [`InvalidInputError`]: nothing loadable there, weights missing, or an architecture that cannot score actions.
    """
    path = resolve_model(name)
    hub = {"revision": revision, "trust_remote_code": trust_remote_code}
    if attn_implementation not in (None, "sdpa", "eager"):
        raise InvalidInputError(
            f"attn_implementation={attn_implementation!r} takes no 4-D mask, which scoring several actions in one "
            "row needs; use 'sdpa' or 'eager'."
        )
    try:
        config = AutoConfig.from_pretrained(path, **hub)
        tokenizer = AutoTokenizer.from_pretrained(path, **hub)
    except _LOADING_ERRORS as error:
        raise _unloadable(name, error) from error
    check_architecture(config, name, trust_remote_code)
    if config.is_encoder_decoder and dtype in ("float16", torch.float16):
        raise InvalidInputError(
            "dtype=float16 overflows in T5 models; use 'float32' (with bf16 autocast) or 'bfloat16'."
        )
    zero_dropout(config)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    # Weights of another shape are reported below, together with missing ones.
    # And no pickle: where there is no safetensors file, transformers would read `pytorch_model.bin`.
    options = {"ignore_mismatched_sizes": True, "use_safetensors": True, **(model_init_kwargs or {})}
    if attn_implementation is not None:
        options["attn_implementation"] = attn_implementation
    if quantization_config is not None:
        options["quantization_config"] = quantization_config
    if init != "pretrained" and is_deepspeed_zero3_enabled():
        raise InvalidInputError(
            f"init={init!r} makes new weights, which ZeRO-3 would have split already; save such a policy on one "
            "process (ScoringPolicy.save_pretrained), and start from its folder."
        )
    try:
        with _ties_of_the_checkpoint(config, path, hub):
            lm, info = auto.from_pretrained(
                path, config=config, dtype=dtype, output_loading_info=True, **hub, **options
            )
    except _LOADING_ERRORS as error:
        raise _unloadable(name, error) from error
    except ImportError as error:
        if quantization_config is None:
            raise
        raise InvalidInputError(
            f"{name} cannot be loaded quantised ({str(error).splitlines()[0]}): pip install 'trl-glam[quantization]'."
        ) from error
    # transformers fills the holes with random weights, and only warns.
    faults = {
        "missing": info["missing_keys"],
        "of another shape": {key for key, *_ in info["mismatched_keys"]},
        "unexpected": info["unexpected_keys"] if strict else set(),
    }
    if any(faults.values()):
        found = "; ".join(f"{len(keys)} {fault}, such as {sorted(keys)[:3]}" for fault, keys in faults.items() if keys)
        raise InvalidInputError(f"{name} does not hold the weights of a {type(lm).__name__}: {found}. Is it complete?")
    if lm.config.is_encoder_decoder and lm.lm_head.weight is not lm.shared.weight:
        untie_output_layer(lm)
    if init != "pretrained":
        lm = reinitialize(lm, keep_embeddings=init == "embeddings")
    zero_dropout_of_modules(lm)
    fuse_activations(lm)
    if quantization_config is not None:
        keep_differentiable(lm)
    return lm.eval(), tokenizer


@contextmanager
def _ties_of_the_checkpoint(config: PreTrainedConfig, path: str, hub: dict[str, Any]) -> Iterator[None]:
    """
    Load a T5 output layer that differs from the embeddings as it is, under ZeRO-3 too.

    transformers compares the two after loading, to leave them apart. ZeRO-3 has split both by then, what is left to
    compare is empty and equal, and the output layer would be replaced by the embeddings without a word.
    """
    if not (config.is_encoder_decoder and is_deepspeed_zero3_enabled() and _has_own_output_layer(path, hub)):
        yield
        return
    model_class = MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[type(config)]
    ties = model_class._tied_weights_keys
    model_class._tied_weights_keys = {key: value for key, value in ties.items() if key != "lm_head.weight"}
    try:
        yield
    finally:
        model_class._tied_weights_keys = ties


def _has_own_output_layer(path: str, hub: dict[str, Any]) -> bool:
    """Whether a T5 checkpoint holds an output layer that is not its embeddings."""
    options = {"revision": hub["revision"], "_raise_exceptions_for_missing_entries": False}
    index = cached_file(path, SAFE_WEIGHTS_INDEX_NAME, **options)
    homes = {} if index is None else json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
    tables = []
    for key in ("lm_head.weight", "shared.weight"):
        file = cached_file(path, homes.get(key, SAFE_WEIGHTS_NAME), **options)
        if file is None:
            return False
        with safe_open(file, framework="pt") as weights:
            if key not in weights.keys():
                return False
            tables.append(weights.get_tensor(key))
    return not torch.equal(*tables)


def _unloadable(name: str, error: Exception) -> InvalidInputError:
    reason = str(error).strip().split("\n")[0]
    return InvalidInputError(
        f"No language model could be loaded from {name!r} ({type(error).__name__}: {reason}). Give a folder with "
        "config.json, safetensors weights and a tokenizer, the id of a model on the Hub, or a local: name "
        "(`trl-glam models list`)."
    )


def check_architecture(config: PreTrainedConfig, name: str, trust_remote_code: bool = False) -> None:
    """Raise [`InvalidInputError`] unless actions can be scored with this kind of model."""
    if config.is_encoder_decoder:
        if config.model_type not in encoder_decoder.MODEL_TYPES:
            raise InvalidInputError(
                f"{name} is an encoder-decoder of type {config.model_type!r}; supported are "
                f"{', '.join(encoder_decoder.MODEL_TYPES)} (such as google/flan-t5-small) and causal models."
            )
        return
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    if not causal and not trust_remote_code:
        raise InvalidInputError(
            f"{name} is of type {config.model_type!r}, which has no decoder that could score actions; use a causal "
            "model or one of the T5 family."
        )


def zero_dropout(target: Any) -> None:
    """Set every number named like a dropout probability to 0, in a config or a module (T5 keeps such attributes)."""
    for name, value in vars(target).items():
        named = "dropout" in name or "layerdrop" in name or name.endswith("pdrop")
        if named and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(target, name, 0.0)


def zero_dropout_of_modules(model: nn.Module) -> None:
    """Switch dropout off in a built model: the ratio of PPO compares two passes, which must be the same function."""
    for module in model.modules():
        zero_dropout(module)
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def fuse_activations(model: nn.Module) -> None:
    """Compute `gelu_new` (T5 v1.1, Flan-T5, GPT-2) in one kernel; transformers' seven also keep as many tensors."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def reinitialize(lm: PreTrainedModel, keep_embeddings: bool) -> PreTrainedModel:
    """
    A freshly initialized model of the same shape and the same ties.

    Args:
        lm ([`~transformers.PreTrainedModel`]):
            The pretrained model.
        keep_embeddings (`bool`):
            Copy the input embeddings, and what else GLAM's code takes for them: every weight with `embed` or `shared`
            in its name.

    Returns:
        [`~transformers.PreTrainedModel`]: the new model, initialized from torch's global generator.
    """
    config = copy.deepcopy(lm.config)
    untied = config.is_encoder_decoder and lm.lm_head.weight is not lm.shared.weight
    if untied:
        # A T5 config forces True when it is built; False afterwards makes the class initialize its output layer by
        # itself.
        config.tie_word_embeddings = False
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    fresh = auto.from_config(config, dtype=lm.dtype)
    if untied:
        fresh.set_input_embeddings(fresh.shared)
        fresh.config.tie_word_embeddings = True
        untie_output_layer(fresh)
        fresh.tie_weights()
    if keep_embeddings:
        pretrained = lm.state_dict()
        tables = {key: pretrained[key] for key in pretrained if "embed" in key or "shared" in key}
        fresh.load_state_dict(tables, strict=False)
        with torch.no_grad():
            fresh.get_input_embeddings().weight.copy_(lm.get_input_embeddings().weight)
    fresh.name_or_path = lm.name_or_path
    return fresh


def keep_differentiable(lm: PreTrainedModel) -> None:
    """
    Keep bitsandbytes from repacking 4-bit weights on a processor at the first forward in eval mode: nothing is
    differentiated through packed ones, so after the first rollout every gradient would be 0, without a word.
    """
    for module in lm.modules():
        if type(module).__name__ == "Linear4bit":
            module.support_avx512bf16_for_cpu = False


def add_adapter(lm: PreTrainedModel, peft_config: PeftConfig, base_model: str) -> PeftModel:
    """
    Wrap the language model with a PEFT adapter.

    Args:
        lm ([`~transformers.PreTrainedModel`]):
            The base; its own weights are frozen by PEFT.
        peft_config ([`~peft.PeftConfig`]):
            A method that changes the model's layers (LoRA and its kin). A missing `task_type` is filled in; a wrong
            one is an error.
        base_model (`str`):
            Name written into the adapter's config.

    Returns:
        [`~peft.PeftModel`]: with the adapter's dropout off.
    """
    config = copy.deepcopy(peft_config)
    wanted = TaskType.SEQ_2_SEQ_LM if lm.config.is_encoder_decoder else TaskType.CAUSAL_LM
    if config.task_type is None:
        config.task_type = wanted
    if config.task_type != wanted:
        raise InvalidInputError(
            f"peft_config.task_type={str(config.task_type)!r} does not fit a model of type {lm.config.model_type!r}; "
            f"it must be {wanted.value!r} (lora_task_type in a recipe)."
        )
    if config.is_prompt_learning or config.peft_type == PeftType.POLY:
        raise InvalidInputError(
            f"peft_type={config.peft_type.value!r} changes the input instead of the model's layers and cannot be "
            "combined with packed scoring; use LoRA or another method that adapts layers."
        )
    zero_dropout(config)
    adapted = get_peft_model(lm, config, autocast_adapter_dtype=not is_deepspeed_zero3_enabled())
    # PEFT writes the folder the base was loaded from; a local: name means the same on every machine.
    adapted.active_peft_config.base_model_name_or_path = base_model
    zero_dropout_of_modules(adapted)
    return adapted


def base_of(lm: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The transformers model inside, with the adapter's layers in place."""
    return lm.get_base_model() if isinstance(lm, PeftModel) else lm


def max_positions(config: PreTrainedConfig) -> int | None:
    """Tokens that a model can read, prompt and action together; `None` if its positions are relative, or if none."""
    return None if config.is_encoder_decoder else getattr(config.get_text_config(), "max_position_embeddings", None)


def attention_window(config: PreTrainedConfig) -> int | None:
    """
    Tokens back that some layer of a causal model attends to; `None` if all attend to everything.

    The packed mask covers whole rows, which equals the model's own mask only while a row fits into the window.
    """
    if config.is_encoder_decoder:
        return None
    text = config.get_text_config()
    names = ("sliding_window", "attention_window_size", "attention_chunk_size", "window_size")
    windows = [getattr(text, name, None) for name in names]
    if not getattr(text, "use_sliding_window", True):
        windows[0] = None
    return min((window for window in windows if isinstance(window, int)), default=None)
