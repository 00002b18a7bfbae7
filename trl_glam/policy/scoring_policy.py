# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`ScoringPolicy`: a language model that chooses among given action strings, with a value estimate from the same pass.

`pack` turns prompts and actions into tensors (tokenizer only), `forward` is the only code that touches parameters:
rollout, evaluation and loss all call it through the wrapped model. `score` = pack + forward, `act` = score + choose.
The policy is a `PreTrainedModel` whose `config` is the language model's own, so that `Trainer`, DeepSpeed and model
cards find what they look for. Left out: generation; training (`trl_glam/trainer/`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from peft import PeftConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .._compat import parameters_are_sharded
from ..prompts import PromptTemplate
from ..types import Decision, InvalidInputError
from . import calibration, packed_pass, saving
from .candidates import CandidateEncoder
from .config import PolicyConfig
from .encoder_cache import EncoderCache
from .episode_batch import EpisodeBatch, pack_episodes
from .heads import ActionHead, ValueHead
from .loading import attention_window, base_of, max_positions
from .output import PolicyOutput, choose
from .packing import PackedBatch, Packer
from .prefix_cache import PrefixCache
from .scoring import policy_logits
from .self_check import reads_episodes


class ScoringPolicy(PreTrainedModel):
    """
    A language model as a policy over action strings, and a value function. Build it with
    [`~ScoringPolicy.from_pretrained`].

    Args:
        lm ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Language model without dropout.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer.
        policy_config ([`PolicyConfig`]):
            How the model is turned into a policy.
    """

    # The checks of what the language model supports were made when it was loaded.
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    supports_gradient_checkpointing = True

    def __init__(
        self, lm: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, policy_config: PolicyConfig
    ) -> None:
        super().__init__(base_of(lm).config)
        base = base_of(lm)
        self.lm = lm
        self.tokenizer = tokenizer
        self.policy_config = policy_config
        self.is_encoder_decoder = policy_config.architecture == "encoder_decoder"
        width = base.get_input_embeddings().embedding_dim
        self.value_head = ValueHead(width, policy_config.value_head).to(base.device)
        if policy_config.head == "action":
            self.action_head = ActionHead(width, policy_config.num_actions).to(base.device)
            if base.get_output_embeddings().weight is not base.get_input_embeddings().weight:
                # Nothing reads the output layer, and DDP waits for a gradient of everything that may have one.
                base.get_output_embeddings().requires_grad_(False)
        paper = policy_config.scoring == "paper"
        start_id = base.config.decoder_start_token_id if self.is_encoder_decoder else None
        end_id = tokenizer.eos_token_id if paper else None
        self.packer = Packer(
            tokenizer,
            CandidateEncoder(tokenizer, self.is_encoder_decoder, start_id=start_id, end_id=end_id),
            max_positions=max_positions(base.config),
        )
        self.packer.template = self.prompt_template
        # Outside the module tree: neither trained nor saved. `calibration.reference_model` fills it when it is needed.
        self.__dict__["reference_lm"] = None
        self.__dict__["encoder_cache"] = None
        # Tokens of the longest row that is read packed: 0 for a model that reads none, `None` for no limit.
        self.longest_packed = attention_window(base.config)
        self._reads_episodes: bool | None = None
        self.post_init()
        # What Trainer, accelerate and DeepSpeed ask a model for.
        self._no_split_modules = base._no_split_modules
        self._hf_peft_config_loaded = isinstance(lm, PeftModel)
        self.is_quantized = getattr(base, "is_quantized", False)  # transformers sets it on quantized models only

    def init_weights(self) -> None:
        """Nothing: the language model and the heads are initialized where they are built."""

    def freeze_encoder(self) -> None:
        """
        Train the decoder alone, and encode each prompt once for as long as the policy lives.

        Raises:
            [`InvalidInputError`]: for a causal model, which has no encoder, or for one with an adapter.
        """
        if not self.is_encoder_decoder or isinstance(self.lm, PeftModel):
            raise InvalidInputError(
                "freeze_encoder needs an encoder-decoder (T5 family) without an adapter; a causal model has no "
                "encoder, and an adapter trains its layers there."
            )
        self.lm.encoder.requires_grad_(False)
        # Processes that share the encoder's parameters must all call it, whatever each of them has met before.
        self.__dict__["encoder_cache"] = None if parameters_are_sharded() else EncoderCache()

    def get_input_embeddings(self) -> torch.nn.Module:
        return base_of(self.lm).get_input_embeddings()

    def get_output_embeddings(self) -> torch.nn.Module:
        return base_of(self.lm).get_output_embeddings()

    @property
    def prompt_template(self) -> PromptTemplate | None:
        """The [`PromptTemplate`] recorded in `policy_config.json`, or `None`."""
        recorded = self.policy_config.prompt_template
        return None if recorded is None else PromptTemplate.from_dict(recorded)

    @prompt_template.setter
    def prompt_template(self, template: PromptTemplate) -> None:
        self.policy_config.prompt_template = template.to_dict()
        self.packer.template = template
        self.packer.clear()

    @property
    def shares_prefixes(self) -> bool:
        """
        Whether what decisions of an episode have in common is read once: the prompt template is append-only, and the
        model a causal one whose pass over episodes was found to be exact.
        """
        if self.is_encoder_decoder or self.packer.template is None or not self.packer.template.append_only:
            return False
        if self._reads_episodes is None:
            self._reads_episodes = reads_episodes(self)
        return self._reads_episodes

    # From text to tensors to numbers

    def pack(
        self,
        prompts: Sequence[str],
        actions: Sequence[Sequence[str]],
        cache: PrefixCache | None = None,
        slots: Sequence[int | None] | None = None,
    ) -> PackedBatch | EpisodeBatch:
        """
        Turn prompts and their admissible actions into one forward's input.

        Args:
            prompts (`list[str]`):
                B prompts.
            actions (`list[list[str]]`):
                Admissible actions of each; an empty list asks for the value alone.
            cache ([`PrefixCache`], *optional*):
                What was read before with the same weights; only if the policy
                [`shares prefixes`][ScoringPolicy.shares_prefixes].
            slots (`list[int | None]`, *optional*):
                Slot of each prompt in the cache.

        Returns:
            [`PackedBatch`], or [`EpisodeBatch`] if the policy shares prefixes: on the CPU.

        Raises:
            [`InvalidInputError`]: repeated or empty action strings, a prompt longer than the model takes, an action
            string whose calibration offset cannot be computed, actions that do not fit the action head.
        """
        config = self.policy_config
        if config.head == "action":
            if config.actions is None and (first := next(filter(None, actions), None)) is not None:
                self.policy_config = replace(config, actions=list(first))
            tables: dict[str, Any] = {"head_actions": self.policy_config.actions}
        elif config.calibration.mode != "none":
            calibration.complete_offsets(self, {action for row in actions for action in row})
            tables = {"offsets": config.calibration.offsets}
        else:
            tables = {}
        if self.shares_prefixes:
            return pack_episodes(self.packer, prompts, actions, **tables, cache=cache, slots=slots)
        return self.packer.pack(prompts, actions, **tables)

    def forward(
        self,
        batch: PackedBatch | EpisodeBatch,
        value_only: bool = False,
        lm: PreTrainedModel | PeftModel | None = None,
        scoring: str | None = None,
    ) -> PolicyOutput:
        """
        Logits and values of a batch.

        Args:
            batch ([`PackedBatch`] or [`EpisodeBatch`]):
                Output of [`~ScoringPolicy.pack`], on the model's device.
            value_only (`bool`, *optional*, defaults to `False`):
                Skip the actions: `logits` is `None`.
            lm ([`~transformers.PreTrainedModel`], *optional*):
                Another language model of the same kind, such as a frozen reference.
            scoring (`str`, *optional*):
                Return the bare scores of this mode, without temperature, instead of the policy's logits.

        Returns:
            [`PolicyOutput`]: float32 (float64 if the model is).
        """
        config = self.policy_config
        scores, state = self.score_rows(batch, value_only, lm, scoring)
        value_state = state.detach() if config.detach_value else state
        values = self.value_head(value_state)[batch.row_of]
        temperature = config.temperature if scoring is None else 1.0
        logits = None if scores is None else policy_logits(scores, batch, temperature)
        return PolicyOutput(logits=logits, mask=batch.action_mask, values=values)

    def computed_tokens(self, batch: PackedBatch | EpisodeBatch) -> int:
        """Tokens that pass through the language model for a batch, padding included."""
        return packed_pass.computed_tokens(base_of(self.lm), batch)

    def score_rows(
        self,
        batch: PackedBatch | EpisodeBatch,
        value_only: bool = False,
        lm: PreTrainedModel | PeftModel | None = None,
        scoring: str | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """
        Scores of shape `(R, A)` without calibration and temperature (`None` if `value_only`), and the states of shape
        `(R, d)` that the heads read; arguments as in [`~ScoringPolicy.forward`].
        """
        by_head = self.policy_config.head == "action"
        scores, states = packed_pass.run(
            base_of(self.lm if lm is None else lm),
            batch,
            scoring or self.policy_config.scoring,
            with_actions=not (value_only or by_head),
            cache=self.encoder_cache if lm is None else None,
            longest_packed=self.longest_packed,
        )
        if by_head and not value_only:
            scores = self.action_head(states).gather(1, batch.per_row(batch.head_index).expand(batch.num_rows, -1))
        return scores, states

    @torch.no_grad()
    def score(self, prompts: Sequence[str], actions: Sequence[Sequence[str]], batch_size: int = 64) -> PolicyOutput:
        """
        Logits and values of prompts, in eval mode and without gradients.

        Args:
            prompts (`list[str]`):
                B prompts.
            actions (`list[list[str]]`):
                Admissible actions of each.
            batch_size (`int`, *optional*, defaults to `64`):
                Distinct prompts per forward. Prompts of like length share one, so that little of it is padding.

        Returns:
            [`PolicyOutput`]: on the model's device; `log_softmax(logits)` is the policy.
        """
        if len(prompts) != len(actions) or not prompts:
            raise InvalidInputError(
                f"{len(prompts)} prompts were given with {len(actions)} lists of actions; give one or more of each, "
                "equally many."
            )
        rows = [(prompt, tuple(row)) for prompt, row in zip(prompts, actions, strict=True)]
        distinct = sorted(dict.fromkeys(rows), key=lambda row: len(row[0]))
        place = {row: i for i, row in enumerate(distinct)}
        width = max((len(row) for _, row in rows), default=0)
        logits, mask, values = [], [], []
        with self.eval_mode():
            for start in range(0, len(distinct), batch_size):
                chunk = distinct[start : start + batch_size]
                batch = self.pack([prompt for prompt, _ in chunk], [row for _, row in chunk])
                output = self(batch.to(self.device))
                padding = (0, width - output.logits.shape[1])
                logits.append(torch.nn.functional.pad(output.logits, padding, value=float("-inf")))
                mask.append(torch.nn.functional.pad(output.mask, padding, value=False))
                values.append(output.values)
        order = torch.tensor([place[row] for row in rows], device=self.device)
        return PolicyOutput(*(torch.cat(parts)[order] for parts in (logits, mask, values)))

    def act(
        self,
        prompts: Sequence[str],
        actions: Sequence[Sequence[str]],
        greedy: bool = False,
        generator: np.random.Generator | Sequence[np.random.Generator] | None = None,
        batch_size: int = 64,
    ) -> list[Decision]:
        """
        Choose an action for every prompt.

        Args:
            prompts (`list[str]`):
                B prompts.
            actions (`list[list[str]]`):
                Admissible actions of each, at least one.
            greedy (`bool`, *optional*, defaults to `False`):
                Take the most probable action instead of drawing one.
            generator (`np.random.Generator` or a list of B, *optional*):
                Source of the draws; one uniform number per decision. A fresh, unseeded one if not given.
            batch_size (`int`, *optional*, defaults to `64`):
                Distinct prompts per forward.

        Returns:
            `list[Decision]`: one per prompt, in order.
        """
        if empty := [prompt for prompt, row in zip(prompts, actions, strict=False) if not row]:
            raise InvalidInputError(f"A prompt has no admissible actions to choose from: {empty[0]!r}.")
        output = self.score(prompts, actions, batch_size)
        log_probs = output.logits.log_softmax(-1).float().cpu().numpy()
        values = output.values.tolist()
        generator = np.random.default_rng() if generator is None else generator
        generators = [generator] * len(prompts) if isinstance(generator, np.random.Generator) else generator
        decisions = []
        for i, (row, own) in enumerate(zip(actions, generators, strict=True)):
            chances = log_probs[i, : len(row)].copy()
            decisions.append(Decision(index=choose(chances, own, greedy), log_probs=chances, value=values[i]))
        return decisions

    # What is fixed at the start of training

    def calibrate(self, prompts: Sequence[str], actions: Sequence[str], batch_size: int = 64) -> dict[str, float]:
        """
        Compute and freeze the calibration offsets from the present weights: each string's mean score over the prompts.

        Args:
            prompts (`list[str]`):
                Mode `"prompts"`: some initial prompts. Mode `"content_free"`: prompts without content, such as the
                template filled with "N/A".
            actions (`list[str]`):
                Action strings. A string met later is scored on the same prompts by the reference model.
            batch_size (`int`, *optional*, defaults to `64`):
                Distinct prompts per forward.

        Returns:
            `dict[str, float]`: the offsets.
        """
        return calibration.calibrate(self, prompts, actions, batch_size)

    @torch.no_grad()
    def fit_value_normalizer(self, prompts: Sequence[str], batch_size: int = 64) -> None:
        """
        Freeze the statistics that standardize the value head's input, over the distinct prompts given (about 100).

        Args:
            prompts (`list[str]`):
                Initial prompts.
            batch_size (`int`, *optional*, defaults to `64`):
                Prompts per forward.
        """
        distinct = sorted(dict.fromkeys(prompts), key=len)
        states = []
        with self.eval_mode():
            for start in range(0, len(distinct), batch_size):
                chunk = distinct[start : start + batch_size]
                batch = self.packer.pack(chunk, [()] * len(chunk)).to(self.device)
                states.append(self.score_rows(batch, value_only=True)[1])
        self.value_head.fit(torch.cat(states))

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Eval mode inside, the present mode afterwards."""
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    # Folders

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike,
        *,
        scoring: str | None = None,
        temperature: float | None = None,
        calibration: str | None = None,
        head: str | None = None,
        num_actions: int | None = None,
        actions: Sequence[str] | None = None,
        value_head: str | None = None,
        detach_value: bool | None = None,
        prompt_template: PromptTemplate | None = None,
        init: str = "pretrained",
        tokenizer: PreTrainedTokenizerBase | None = None,
        peft_config: PeftConfig | None = None,
        quantization_config: Any | None = None,
        dtype: str | torch.dtype = "float32",
        attn_implementation: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        model_init_kwargs: dict[str, Any] | None = None,
    ) -> ScoringPolicy:
        """
        Make a policy from a language model, or load a saved one.

        `None` means what `policy_config.json` says, else the default. A given value overrides a saved policy's
        scoring, temperature, calibration, template and `detach_value`; one that contradicts its weights (head,
        num_actions, actions, value_head, init) is an error.

        Args:
            name_or_path (`str`):
                Folder or Hub id of a language model or of a saved policy, or `local:NAME`.
            scoring (`str`, *optional*, defaults to `"sum"`):
                `"sum"`, `"paper"`, `"token"` or `"word"`.
            temperature (`float`, *optional*, defaults to `1.0`):
                Divides the scores.
            calibration (`str`, *optional*, defaults to `"none"`):
                `"none"`, `"prompts"` or `"content_free"`; the last two wait for [`~ScoringPolicy.calibrate`].
            head (`str`, *optional*, defaults to `"scoring"`):
                `"scoring"` or `"action"`.
            num_actions (`int`, *optional*):
                Outputs of an action head.
            actions (`list[str]`, *optional*):
                The action head's fixed action set, in order.
            value_head (`str`, *optional*, defaults to `"standardized"`):
                `"standardized"` or `"paper"`.
            detach_value (`bool`, *optional*, defaults to `True`):
                Stop the value head's gradient before the language model.
            prompt_template ([`PromptTemplate`], *optional*):
                Recorded with the policy.
            init (`str`, *optional*, defaults to `"pretrained"`):
                `"pretrained"`, `"random"` or `"embeddings"`.
            tokenizer ([`~transformers.PreTrainedTokenizerBase`], *optional*):
                Instead of the model's own.
            peft_config ([`~peft.PeftConfig`], *optional*):
                Adapter to train instead of the language model's weights.
            quantization_config, dtype, attn_implementation, revision, trust_remote_code, model_init_kwargs:
                How the language model is loaded; see [`load_language_model`].

        Returns:
            [`ScoringPolicy`]: in eval mode, on the CPU unless `model_init_kwargs` says otherwise.
        """
        choices = {
            "scoring": scoring,
            "temperature": temperature,
            "calibration": calibration,
            "head": head,
            "num_actions": num_actions,
            "actions": None if actions is None else list(actions),
            "value_head": value_head,
            "detach_value": detach_value,
            "prompt_template": None if prompt_template is None else prompt_template.to_dict(),
        }
        choices = {name: value for name, value in choices.items() if value is not None}
        options = {
            "dtype": dtype,
            "attn_implementation": attn_implementation,
            "quantization_config": quantization_config,
            "trust_remote_code": trust_remote_code,
            "model_init_kwargs": model_init_kwargs,
        }
        return saving.load_policy(cls, str(name_or_path), choices, options, init, peft_config, revision, tokenizer)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        state_dict: dict[str, torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """
        Write the policy into a folder: the language model in its own layout (or its adapter), the tokenizer,
        `value_head.safetensors`, `action_head.safetensors` and, last, `policy_config.json`.

        Args:
            save_directory (`str`):
                The folder; made if it does not exist.
            is_main_process (`bool`, *optional*, defaults to `True`):
                Whether this process writes.
            state_dict (`dict[str, torch.Tensor]`, *optional*):
                The policy's own (possibly gathered) state, with its prefixes; the present weights if not given.
            kwargs:
                Passed to the language model's `save_pretrained`.
        """
        saving.save_policy(self, save_directory, is_main_process, state_dict, **kwargs)

    def load_weights(self, folder: str | os.PathLike) -> None:
        """
        Load the weights of a saved policy into this one, in place.

        Args:
            folder (`str`):
                A folder written by [`~ScoringPolicy.save_pretrained`] from a policy of the same shape.

        Raises:
            [`InvalidInputError`]: a file is missing or corrupt, or a weight is missing, unexpected or of another
            shape.
        """
        saving.load_weights(self, folder)
        if self.encoder_cache is not None:
            self.encoder_cache.clear()
