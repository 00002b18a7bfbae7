# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`BCTrainer`: behaviour cloning of an interaction log with the policy that PPO trains.

Trainer's own loop over a real dataset. Every prompt is written anew with the policy's template, so that the model is
trained on exactly what it will read when it acts. All losses go through the policy's packed forward: the `action` loss
scores the admissible actions as PPO does, the token losses score a set of one, the action taken with its end token.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from datasets import Dataset, IterableDataset, concatenate_datasets
from peft import PeftConfig
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, TrainerCallback

from ..logs import InteractionLog, load_log
from ..logs.dataset import as_log
from ..policy import PackedBatch, ScoringPolicy
from ..policy.candidates import CandidateEncoder
from ..policy.packing import Packer
from ..prompts import PromptTemplate
from ..training_summary import GLAM_PAPER, TrainingSummary
from ..types import InvalidInputError, NotFiniteError
from .bc_config import BCConfig
from .not_finite import not_finite, packed_tensors
from .policy_trainer import _PolicyTrainer


# Label positions of GLAM's own behaviour cloning: its actions are one or two tokens, the end token follows.
PAPER_LABELS = 3


class LabelEncoder(CandidateEncoder):
    """
    Builds layouts whose tokens are the labels of the token losses: an action's own, its end token, padding if wanted.

    Args:
        policy ([`ScoringPolicy`]):
            Gives the tokenizer and the architecture.
        num_labels (`int`, *optional*):
            Label positions, padded where an action has fewer; as many as it has if not given.
    """

    def __init__(self, policy: ScoringPolicy, num_labels: int | None = None) -> None:
        own = policy.packer.candidates
        super().__init__(own.tokenizer, own.encoder_decoder, start_id=own.start_id, end_id=None)
        self._prompts = own
        self.num_labels = num_labels
        self.pad_id = policy.packer.pad_id

    def _encode(self, action: str, after_space: bool) -> tuple[int, ...]:
        ids = (*super()._encode(action, after_space), self.tokenizer.eos_token_id)
        if self.num_labels is None:
            return ids
        if len(ids) > self.num_labels:
            raise InvalidInputError(
                f"loss='token_paper' has {self.num_labels} label positions, the action {action!r} needs {len(ids)} "
                "with its end token; choose loss='token'."
            )
        return ids + (self.pad_id,) * (self.num_labels - len(ids))

    def segment_ids(self, text: str, is_action: bool) -> Sequence[int]:
        """As the policy reads it: an action that was taken before is no label."""
        return self._prompts.segment_ids(text, is_action)


class BCTrainer(_PolicyTrainer):
    r"""
    Trainer for behaviour cloning of an interaction log, the baseline of [Grounding Large Language Models in
    Interactive Environments with Online Reinforcement Learning](https://huggingface.co/papers/2302.02662). What it
    saves is a [`ScoringPolicy`] folder like any other: PPO can start from it.

    Args:
        model (`str` or [`ScoringPolicy`]):
            Hub id, folder or `local:` name of a T5-like or causal language model, a saved policy, or a
            [`ScoringPolicy`].
        args ([`BCConfig`]):
            Settings of the run.
        train_dataset (`str`, `Path`, [`~trl_glam.logs.InteractionLog`] or [`~datasets.Dataset`]):
            The interaction log: what [`~trl_glam.logs.load_log`] reads or gives, or a dataset with the same columns.
            It holds whole episodes, because the prompts are written anew with the policy's template.
        environment_factory (`Callable[[], gym.Env]`, *optional*):
            Makes one environment to evaluate in; instead of `args.env_id`. With neither of them it is the environment
            of the log.
        prompt_template ([`PromptTemplate`], *optional*):
            Writes the prompts; the policy's own, or GLAM's, if not given.
        processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer, when it is not the model's own.
        callbacks (`list[TrainerCallback]`, *optional*):
            As in [`~transformers.Trainer`].
        peft_config ([`~peft.PeftConfig`], *optional*):
            Trains adapters instead of the language model's weights.
        quantization_config (*optional*):
            Loads the language model quantised, for training adapters.
        optimizers (`tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None]`, *optional*):
            As in [`~transformers.Trainer`].

    Raises:
        [`InvalidInputError`]: no log, an empty one, one of another schema version, missing columns, parts of episodes,
        actions outside the admissible ones.

    Example:

    ```python
    from trl_glam import BCConfig, BCTrainer

    trainer = BCTrainer("google/flan-t5-small", BCConfig(output_dir="bc_bot"), train_dataset="logs/bot")
    trainer.train()
    print(trainer.evaluate())
    ```
    """

    _tag_names = ["trl", "trl-glam", "glam", "behaviour-cloning"]
    _name = "BC"
    _paper = GLAM_PAPER
    # The loss is a sum over the micro-batch, divided by the number of labels of the whole optimizer step.
    loss_is_scaled_for_ga = True
    _trains_value = False

    def __init__(
        self,
        model: str | ScoringPolicy,
        args: BCConfig,
        train_dataset: str | Path | Dataset,
        environment_factory: Callable[[], gym.Env] | None = None,
        prompt_template: PromptTemplate | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: list[TrainerCallback] | None = None,
        peft_config: PeftConfig | None = None,
        quantization_config: Any | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
    ) -> None:
        self._log = _read_log(train_dataset)
        self._unlogged_loss: tuple[float, int] | None = None
        # What a recipe says of the log beside `args`, for the card: `trl-glam bc` fills it.
        self.data_settings: dict[str, Any] = {}
        if environment_factory is None and args.env_id is None:
            args.env_id, args.env_kwargs = _environment_of(self._log)
        super().__init__(
            model,
            args,
            environment_factory,
            prompt_template,
            processing_class,
            callbacks,
            peft_config,
            quantization_config,
            optimizers,
        )

    # -- data

    def _training_data(self, policy: ScoringPolicy, args: BCConfig) -> tuple[Dataset, Callable[[list], Any]]:
        if args.loss != "action":
            if policy.policy_config.head == "action":
                raise InvalidInputError(
                    f"loss={args.loss!r} trains the likelihood of action strings, and the policy has an action head; "
                    "choose loss='action'."
                )
            encoder = LabelEncoder(policy, PAPER_LABELS if args.loss == "token_paper" else None)
            self._label_packer = Packer(policy.tokenizer, encoder, max_positions=policy.packer.max_positions)
            self._label_packer.template = policy.prompt_template
        prompts = self._log.to_sft(policy.prompt_template).select_columns(["prompt"])
        choices = self._log.select_columns(["admissible_actions", "action_index"])
        return concatenate_datasets([prompts, choices], axis=1), lambda rows: {"rows": rows}

    def get_train_dataloader(self) -> DataLoader:
        """Rows of the log in Trainer's own order."""
        return super(_PolicyTrainer, self).get_train_dataloader()

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], int]:
        """The packed micro-batches of one optimizer step, and the number of labels in it over all processes."""
        if self._unlogged_loss is not None:
            # Trainer has begun its sum anew; a checkpoint between two logs counts again.
            loss, self._globalstep_last_logged = self._unlogged_loss
            self._tr_loss += loss
            self._unlogged_loss = None
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        # Inside an optimizer step the order is free: equal prompts, and prompts of like length, share a forward.
        rows = sorted(
            (row for batch in batches for row in batch["rows"]), key=lambda r: (len(r["prompt"]), r["prompt"])
        )
        self._step_rows = rows
        inputs, start = [], 0
        for batch in batches:
            end = start + len(batch["rows"])
            inputs.append({**self._pack(rows[start:end]), "rows": rows[start:end]})
            start = end
        num_labels = torch.tensor(sum(item["num_labels"] for item in inputs), device=device)
        return inputs, int(self.accelerator.reduce(num_labels, "sum").item())

    def _pack(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        prompts = [row["prompt"] for row in rows]
        if self.args.loss == "action":
            packed = self.policy.pack(prompts, [row["admissible_actions"] for row in rows])
            actions, num_labels = torch.tensor([row["action_index"] for row in rows]), len(rows)
        else:
            packed = self._label_packer.pack(
                prompts, [[row["admissible_actions"][row["action_index"]]] for row in rows]
            )
            actions, num_labels = torch.zeros(len(rows), dtype=torch.int64), _num_labels(packed)
        return {"packed": packed, "actions": actions, "num_labels": num_labels}

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self._useful_tokens = inputs["packed"].useful_tokens
        return {**inputs, **{name: inputs[name].to(self.args.device) for name in ("packed", "actions")}}

    # -- loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> torch.Tensor:
        """
        One micro-batch's part of the negative log-likelihood: over all micro-batches and processes the parts give the
        mean over the labels of the optimizer step.

        Raises:
            [`NotFiniteError`]: when it is not finite; the micro-batch is kept in `output_dir`.
        """
        by_action = self.args.loss == "action"
        logits = model(inputs["packed"], scoring=None if by_action else "sum").logits
        # Of a single candidate the score itself is the log-likelihood of its tokens.
        log_likelihoods = logits.log_softmax(-1) if by_action else logits
        taken = log_likelihoods.gather(1, inputs["actions"][:, None]).squeeze(1)
        # DDP averages over the processes.
        loss = -taken.sum() * self.args.world_size / num_items_in_batch
        mean, total = torch.stack([taken.detach().mean(), loss.detach()]).tolist()
        if not math.isfinite(total):
            raise self._not_finite(f"The behaviour cloning loss is {total}", inputs, {"logits": logits})
        self._metrics["bc/log_likelihood"].append(mean)
        if by_action:
            self._metrics["bc/accuracy"].append((logits.argmax(-1) == inputs["actions"]).float().mean().item())
        return loss

    def _not_finite(self, what: str, inputs: dict[str, Any], outputs: dict[str, torch.Tensor]) -> NotFiniteError:
        step, rank, output_dir = self.state.global_step, self.args.process_index, self.args.output_dir
        tensors = {**packed_tensors(inputs["packed"]), "actions": inputs["actions"], **outputs}
        return not_finite(what, output_dir, step, rank, {"rows": inputs["rows"]}, tensors)

    def _check_gradient_norm(self, norm: float) -> None:
        if not math.isfinite(norm):
            inputs = {**self._pack(self._step_rows), "rows": self._step_rows}
            raise self._not_finite(f"The gradient norm is {norm}", inputs, {})

    # -- resuming

    def _training_summary(self, dataset_name: str | None = None, tags: Sequence[str] = ()) -> TrainingSummary:
        summary = super()._training_summary(dataset_name, tags)
        summary.settings |= self.data_settings
        return summary

    def exact_state(self) -> dict[str, Any]:
        """What was cloned, and the loss and metrics since the last log."""
        return {
            "num_processes": self.args.world_size,
            "num_transitions": len(self._log),
            "metrics": {name: list(values) for name, values in self._metrics.items()},
            "loss": [self._tr_loss.item(), self._globalstep_last_logged],
        }

    def load_exact_state(self, state: dict[str, Any], rollout: Any) -> None:
        """Go on from [`~BCTrainer.exact_state`]; Trainer itself skips the rows that were seen."""
        now = {"num_processes": self.args.world_size, "num_transitions": len(self._log)}
        was = {name: state[name] for name in now}
        if was != now:
            raise InvalidInputError(
                f"The checkpoint is of a run with {was}, this one has {now}; resume with the same log on the same "
                "number of processes."
            )
        self._metrics.update(state["metrics"])
        self._unlogged_loss = tuple(state["loss"])


def _read_log(train_dataset: str | Path | Dataset) -> InteractionLog:
    if isinstance(train_dataset, str | Path):
        return load_log(train_dataset)
    if isinstance(train_dataset, IterableDataset) or not isinstance(train_dataset, Dataset):
        raise InvalidInputError(
            f"train_dataset is a {type(train_dataset).__name__}; give a log that load_log reads, its path or its "
            "repository, and no streamed one."
        )
    log = as_log(train_dataset.with_format(None), "train_dataset")
    return log.with_checked_actions("train_dataset")


def _environment_of(log: InteractionLog) -> tuple[str, dict[str, Any]]:
    env_ids, env_kwargs = log.unique("env_id"), log.unique("env_kwargs")
    if len(env_ids) > 1 or len(env_kwargs) > 1:
        raise InvalidInputError(
            f"The log holds several environments, {env_ids} with {env_kwargs}; set args.env_id to the one to evaluate "
            "in."
        )
    return env_ids[0], json.loads(env_kwargs[0])


def _num_labels(packed: PackedBatch) -> int:
    """Scored tokens of all decisions of a batch."""
    return int(packed.token_mask.sum((1, 2))[packed.layout_of[packed.row_of]].sum())
