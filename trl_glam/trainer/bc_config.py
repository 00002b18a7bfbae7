# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`BCConfig`: every setting of behaviour cloning, its default, and the checks that need no model.

The batch is a total over all processes, as in `GLAMConfig`. What is cloned, the interaction log, is the trainer's
argument; its filters are `load_log`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..types import InvalidInputError
from .policy_trainer_config import _PolicyTrainerConfig
from .sharding import started_processes


LOSSES = ("action", "token", "token_paper")


@dataclass
class BCConfig(_PolicyTrainerConfig):
    r"""
    Configuration of [`BCTrainer`]; a [`~transformers.TrainingArguments`] like any other TRL config.

    `minibatch_size` is a total over all processes; `gradient_accumulation_steps` is derived from it. Passes over the
    log are `num_train_epochs`, their order is `train_sampling_strategy` (`"random"`, or `"sequential"` for the log's
    own order), both Trainer's. The defaults are what was measured to learn on small machines; `recipes/paper/` holds
    the paper's.

    Parameters:
        loss (`str`, *optional*, defaults to `"action"`):
            `"action"`: cross-entropy of the policy, the distribution over the admissible actions. `"token"`: mean
            negative log-likelihood of the tokens of the action taken and of its end token, as in
            [`~trl.SFTTrainer`]. `"token_paper"`: the same over three label positions, padding counted, as in GLAM's
            own experiments.
        minibatch_size (`int`, *optional*, defaults to `32`):
            Transitions of one optimizer step, over all processes.
    """

    loss: str = field(
        default="action",
        metadata={
            "help": "action: cross-entropy over the admissible actions; token: mean NLL of the action's tokens and "
            "its end token; token_paper: over three label positions, padding counted."
        },
    )
    minibatch_size: int = field(
        default=32, metadata={"help": "Transitions of one optimizer step, over all processes."}
    )

    # Overridden defaults.
    num_train_epochs: float = field(default=1.0, metadata={"help": "Passes over the log."})
    logging_strategy: str = field(
        default="steps", metadata={"help": "`steps` logs every `logging_steps` optimizer steps; no, epoch."}
    )

    def __post_init__(self) -> None:
        self._check_choice("loss", LOSSES)
        self._check_positive("minibatch_size", "num_train_epochs")
        if self.loss != "action" and self.head == "action":
            raise InvalidInputError(
                f"loss={self.loss!r} trains the likelihood of action strings, and head='action' scores no strings; "
                "choose loss='action'."
            )
        self._derive_sizes(started_processes())
        super().__post_init__()

    # A model that is trained on the likelihood of strings is its own policy; one that is trained on the policy starts
    # best where the policy is near uniform.

    @property
    def learning_temperature(self) -> float:
        return super().learning_temperature if self.loss == "action" else 1.0

    @property
    def learning_calibration(self) -> str:
        return super().learning_calibration if self.loss == "action" else "none"

    def _derive_sizes(self, world_size: int) -> None:
        if self.minibatch_size % world_size:
            raise InvalidInputError(
                f"minibatch_size={self.minibatch_size} does not divide over {world_size} processes; choose a multiple "
                f"of {world_size}."
            )
        local = self.minibatch_size // world_size
        wanted = self.per_device_train_batch_size
        micro = max(size for size in range(1, local + 1) if local % size == 0 and size <= max(wanted, 1))
        if self.gradient_accumulation_steps not in (1, local // micro):
            raise InvalidInputError(
                f"gradient_accumulation_steps={self.gradient_accumulation_steps} is given; it follows from "
                "minibatch_size, the number of processes and per_device_train_batch_size: leave it out."
            )
        self.per_device_train_batch_size = micro
        self.gradient_accumulation_steps = local // micro
