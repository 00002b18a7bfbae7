# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam bc`: behaviour cloning of an interaction log, from a recipe.

trl-glam bc --model_name_or_path google/flan-t5-small --dataset_name logs/bot --output_dir outputs/bc_bot
accelerate launch recipes/bc.py --config paper/bc_bot --dataset_name logs/bot
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from trl import ModelConfig

from ..logs import InteractionLog, load_log
from ..logs.dataset import find_shards
from ..trainer import BCConfig, BCTrainer
from ..trainer.sharding import num_parameters
from ..types import InvalidInputError
from .recipe import model_arguments, parse_recipe, resume_request
from .train import announce, finish


@dataclass
class BCArguments:
    """
    What `trl-glam bc` takes beside [`BCConfig`] and TRL's `ModelConfig`: the log and its filters.

    Args:
        dataset_name (`str`):
            Folder of an interaction log, one of its files, or a dataset on the Hub.
        dataset_train_split (`str`, *optional*):
            Split of a dataset on the Hub; all of them if not given.
        dataset_revision (`str`, *optional*):
            Revision of a dataset on the Hub.
        only_successes (`bool`, *optional*, defaults to `False`):
            Clone the episodes that ended in success.
        min_return (`float`, *optional*):
            Clone the episodes whose raw return is at least this.
    """

    dataset_name: str | None = field(
        default=None, metadata={"help": "Interaction log: a folder, or a dataset on the Hub."}
    )
    dataset_train_split: str | None = field(
        default=None, metadata={"help": "Split of a dataset on the Hub; all of them if not given."}
    )
    dataset_revision: str | None = field(default=None, metadata={"help": "Revision of a dataset on the Hub."})
    only_successes: bool = field(default=False, metadata={"help": "Clone the episodes that ended in success."})
    min_return: float | None = field(
        default=None, metadata={"help": "Clone the episodes whose raw return is at least this."}
    )

    def load(self) -> InteractionLog:
        """The log, filtered."""
        if self.dataset_name is None:
            raise InvalidInputError(
                "No log is given: set dataset_name to a folder that `trl-glam collect` wrote, or to a dataset on the "
                "Hub."
            )
        return load_log(
            self.dataset_name,
            success=True if self.only_successes else None,
            min_return=self.min_return,
            split=self.dataset_train_split,
            revision=self.dataset_revision,
        )

    def recipe_settings(self) -> dict[str, Any]:
        """What a recipe says of a log that is not named: the choices that differ from the defaults."""
        choices = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {name: value for name, value in choices.items() if name != "dataset_name"}


def main(argv: Sequence[str]) -> int:
    """Clone; returns the exit code."""
    types = (BCArguments, BCConfig, ModelConfig)
    own, args, model_args = parse_recipe("bc", types, argv, "Train a scoring policy by cloning an interaction log.")
    trainer = make_trainer(own, args, model_args)
    announce(trainer, run_summary(trainer))
    trainer.train(resume_from_checkpoint=resume_request(args.resume_from_checkpoint))
    metrics = trainer.evaluate()
    is_repository = not find_shards(own.dataset_name)
    finish(trainer, own.dataset_name if is_repository else None)
    if trainer.is_world_process_zero():
        shown = {name: round(value, 3) for name, value in metrics.items()}
        print(f"Saved the policy in {args.output_dir}. Evaluation: {shown}")
    return 0


def make_trainer(own: BCArguments, args: BCConfig, model_args: ModelConfig, **kwargs: Any) -> BCTrainer:
    """Build the trainer a recipe describes."""
    model = model_arguments(model_args)
    args.model_init_kwargs = {**model.pop("model_init_kwargs"), **(args.model_init_kwargs or {})}
    trainer = BCTrainer(args=args, train_dataset=own.load(), **model, **kwargs)
    trainer.data_settings = own.recipe_settings()
    return trainer


def run_summary(trainer: BCTrainer) -> str:
    """One line on the sizes of a run."""
    args = trainer.args
    trainable = num_parameters(trainer.policy, trainable_only=True)
    return (
        f"{len(trainer.train_dataset)} transitions, {args.num_train_epochs:g} pass(es) in steps of "
        f"{args.minibatch_size}, loss {args.loss}; {trainable / 1e6:.1f}M trainable parameters; {args.world_size} "
        "process(es)."
    )
