# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam bc-vs-rl`: does online RL ground better than cloning the same data? GLAM's fourth question, end to end.

PPO trains a policy; the trained policy and the bot each play as many transitions; one model is cloned from each of
these logs and one from PPO's own training log; all of them meet the same episodes. Every stage is a folder that a
re-run keeps, and whose settings are in `stages/`. Nothing is computed here that another command does not do.

trl-glam bc-vs-rl --config bc_vs_rl --output_dir outputs/bc_vs_rl
accelerate launch recipes/bc_vs_rl.py --config bc_vs_rl --output_dir outputs/bc_vs_rl
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import HfApi
from trl import ModelConfig

from ..agents import ScoringAgent
from ..evaluation import Panel, SuiteTest
from ..evaluation.results import read_results, write_results
from ..evaluation.scorer import MODES, Scorer
from ..hub import push_log, push_policy
from ..hub.client import call
from ..hub.scan import check_outgoing
from ..logs import InteractionLog, collect_log, load_log
from ..report.comparison import CLONES, POLICIES, comparison_document, comparison_text, draw_comparison
from ..trainer import BCConfig, GLAMConfig
from ..trainer.policy_trainer_config import JSONObject
from ..types import InvalidInputError
from . import bc, common, train
from .collect import CollectProgress, weights_revision
from .recipe import parse_recipe


@dataclass
class ComparisonArguments:
    """
    What `trl-glam bc-vs-rl` takes.

    Args:
        output_dir (`str`, *optional*, defaults to `"outputs/bc_vs_rl"`):
            Everything goes here, and what is here already is kept.
        model_name_or_path (`str`):
            The language model that PPO and behaviour cloning start from.
        env_id (`str`), env_module (`str`, *optional*), env_kwargs (`dict[str, Any]`, *optional*):
            The environment.
        ppo (`dict[str, Any]`):
            Settings of PPO: fields of [`GLAMConfig`] and TRL's `ModelConfig`.
        bc (`dict[str, Any]`):
            Settings of behaviour cloning: fields of [`BCConfig`] and TRL's `ModelConfig`.
        transitions (`int`, *optional*):
            Transitions that each clone learns from, rounded up to whole episodes; as many as PPO's training takes if
            not given.
        eval_panel (`str`, *optional*):
            Panel to evaluate on; `eval_episodes` episodes of the environment if not given.
        eval_episodes (`int`, *optional*, defaults to `500`):
            Number of evaluation episodes without a panel.
        greedy (`bool`, *optional*, defaults to `False`):
            Also evaluate the most probable action; the headline is sampled, as in the paper.
        seed (`int`, *optional*, defaults to `0`):
            Seed of everything.
        push (`str`, *optional*):
            Owner on the Hub to publish models, logs and table under.
        public (`bool`, *optional*, defaults to `False`):
            Whether the repositories are public.
    """

    output_dir: str = field(default="outputs/bc_vs_rl", metadata={"help": "Everything goes here, and is kept."})
    model_name_or_path: str | None = field(default=None, metadata={"help": "The language model all start from."})
    env_id: str | None = field(default=None, metadata={"help": "Gymnasium id of the environment."})
    env_module: str | None = field(default=None, metadata={"help": "Python module to import first."})
    env_kwargs: JSONObject | None = field(default=None, metadata={"help": "Keyword arguments, as JSON."})
    ppo: JSONObject | None = field(default=None, metadata={"help": "Settings of PPO, as JSON."})
    bc: JSONObject | None = field(default=None, metadata={"help": "Settings of behaviour cloning, as JSON."})
    transitions: int | None = field(
        default=None, metadata={"help": "Transitions each clone learns from. Default: as many as PPO's training."}
    )
    eval_panel: str | None = field(default=None, metadata={"help": "Panel. Default: episodes of the environment."})
    eval_episodes: int = field(default=500, metadata={"help": "Number of evaluation episodes without a panel."})
    greedy: bool = field(default=False, metadata={"help": "Also evaluate the most probable action."})
    seed: int = field(default=0, metadata={"help": "Seed of everything."})
    push: str | None = field(default=None, metadata={"help": "Owner on the Hub to publish everything under."})
    public: bool = field(default=False, metadata={"help": "Make the repositories public."})

    def __post_init__(self) -> None:
        for name in ("env_kwargs", "ppo", "bc"):
            value = getattr(self, name)
            if isinstance(value, str):
                try:
                    value = json.loads(value)
                except json.JSONDecodeError as error:
                    raise InvalidInputError(f"{name}={value!r} is not JSON: {error}.") from None
            if value is not None and not isinstance(value, dict):
                raise InvalidInputError(f"{name}={value!r} is given; it must be a mapping of settings.")
            setattr(self, name, value or {})
        for name in ("model_name_or_path", "env_id"):
            if getattr(self, name) is None:
                raise InvalidInputError(f"{name} is not set; take the recipe bc_vs_rl as a model.")
        for name in ("transitions", "eval_episodes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InvalidInputError(f"{name}={getattr(self, name)} is given; it must be at least 1.")


def main(argv: Sequence[str]) -> int:
    """Compare; returns the exit code."""
    own, *_ = parse_recipe("bc-vs-rl", (ComparisonArguments,), argv, "Online RL against behaviour cloning.")
    study = _Study(own)
    study.run()
    if study.is_first:
        print(study.table())
        print(f"\nWritten to {study.root / 'table'}")
        if own.push is not None:
            study.publish()
    return 0


class _Study:
    def __init__(self, own: ComparisonArguments) -> None:
        self.own = own
        self.root = Path(own.output_dir)
        # Known from the start; `torch.distributed` is not, before the first training.
        self.is_first = int(os.environ.get("RANK", "0")) == 0
        panel = Panel.load(own.eval_panel) if own.eval_panel else None
        self.panel = panel or Panel.from_env(own.env_id, own.eval_episodes, env_kwargs=own.env_kwargs)
        # A wrong setting is found now, not after hours of PPO.
        ppo, _ = self._parse("ppo", own.ppo, (GLAMConfig, ModelConfig), log_interactions=True)
        for log in ("ppo", "bot", "training"):
            self._parse(f"bc/{log}", own.bc, (bc.BCArguments, BCConfig, ModelConfig), dataset_name=str(self.log(log)))
        self.num_transitions = own.transitions or ppo.num_updates * ppo.num_envs * ppo.rollout_steps

    def log(self, name: str) -> Path:
        return self.root / "logs" / name

    def run(self) -> None:
        own, world = self.own, {"env_id": self.own.env_id, "env_kwargs": self.own.env_kwargs}
        self._stage("ppo", self._recipe("ppo"), self._train_ppo, everywhere=True)
        played = {**world, "transitions": self.num_transitions, "seed": own.seed + 1}
        self._stage("logs/ppo", {"policy": "ppo", **played}, lambda folder: self._collect("ppo", folder))
        self._stage("logs/bot", {"policy": "bot", **played}, lambda folder: self._collect("bot", folder))
        self._stage("logs/training", {"transitions": self.num_transitions}, self._thin_training_log)
        for name in CLONES:
            self._stage(name, self._recipe(name), lambda folder, name=name: self._clone(name, folder), everywhere=True)
        asked = {"panel": self.panel.hash, "tests": [asdict(test) for test in self.tests], "modes": self.modes}
        for name in POLICIES:
            settings = {"policy": name, "seed": own.seed, **asked}
            self._stage(f"results/{name}", settings, lambda folder, name=name: self._evaluate(name, folder))
        if self.is_first:
            self._write_table()

    # -- stages

    def _stage(
        self, name: str, settings: dict[str, Any], make: Callable[[Path], None], everywhere: bool = False
    ) -> None:
        """
        Make one folder, unless an earlier start has made it.

        Args:
            name (`str`):
                The folder.
            settings (`dict[str, Any]`):
                What it depends on: a folder of other settings is an error, and never mixed with this run.
            make (`Callable[[Path], None]`):
                Fills the folder, or goes on filling it.
            everywhere (`bool`, *optional*, defaults to `False`):
                Whether all processes make it together; the others wait for its record otherwise.
        """
        folder, record = self.root / name, self.root / "stages" / f"{name.replace('/', '-')}.json"
        settings = json.loads(json.dumps(settings))
        if not self.is_first:
            if everywhere and not _read(record).get("finished"):
                make(folder)
                gc.collect()
            while not _read(record).get("finished"):
                time.sleep(1.0)
            return
        known = _read(record)
        if known and known["settings"] != settings:
            differing = sorted(
                k for k in {*settings, *known["settings"]} if settings.get(k) != known["settings"].get(k)
            )
            raise InvalidInputError(
                f"{folder} was made with other settings ({', '.join(differing)}); give another output_dir, or remove "
                f"{folder}, {record} and what was made from them."
            )
        if not known and folder.exists():
            raise InvalidInputError(f"{folder} is there, but not from this command; give another output_dir.")
        if known.get("finished"):
            print(f"{name}: kept", flush=True)
            return
        print(f"{name} ...", flush=True)
        _write(record, {"settings": settings, "finished": False})
        started = time.perf_counter()
        make(folder)
        # Trainers hold themselves in cycles, and their models the memory that the next stage needs.
        gc.collect()
        seconds = round(time.perf_counter() - started, 1)
        _write(record, {"settings": settings, "finished": True, "seconds": seconds})
        print(f"{name}: {seconds} s", flush=True)

    def _parse(self, name: str, section: dict[str, Any], types: Sequence[type], **forced: Any) -> tuple[Any, ...]:
        """Write a stage's recipe, which `train` and `bc` also take, and read it."""
        own = self.own
        shared = {key: getattr(own, key) for key in ("model_name_or_path", "env_id", "env_module", "seed")}
        shared |= {"env_kwargs": own.env_kwargs or None, "output_dir": str(self.root / name), **forced}
        if twice := sorted(set(section) & set(shared)):
            raise InvalidInputError(
                f"{', '.join(twice)} cannot be set in a section of the recipe; leave it out there."
            )
        path = self._recipe_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        settings = {key: value for key, value in shared.items() if value is not None} | section
        # Every process writes the same; moved into place, so that none reads half of it.
        own_copy = path.with_suffix(f".{os.getpid()}")
        own_copy.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        own_copy.replace(path)
        return parse_recipe("bc-vs-rl", types, ["--config", str(path)], "")

    def _recipe_path(self, name: str) -> Path:
        return self.root / "recipes" / f"{name.replace('/', '-')}.yaml"

    def _recipe(self, name: str) -> dict[str, Any]:
        recipe = yaml.safe_load(self._recipe_path(name).read_text(encoding="utf-8"))
        # The folder may be named from elsewhere, or moved.
        return {key: value for key, value in recipe.items() if key not in ("output_dir", "dataset_name")}

    def _can_resume(self, folder: Path) -> bool:
        if any(folder.glob("checkpoint-*/manifest.json")):
            return True
        if self.is_first:
            # What a run leaves that was cut off before its first checkpoint would mix with the next one's.
            shutil.rmtree(folder, ignore_errors=True)
        return False

    def _train_ppo(self, folder: Path) -> None:
        resume = self._can_resume(folder)
        words = ["--config", str(self._recipe_path("ppo"))]
        trainer = train.make_trainer(*parse_recipe("bc-vs-rl", (GLAMConfig, ModelConfig), words, ""))
        trainer.save_model(str(self.root / "untrained"))
        trainer.train(resume_from_checkpoint=resume)
        train.finish(trainer)

    def _clone(self, name: str, folder: Path) -> None:
        resume = self._can_resume(folder)
        words = ["--config", str(self._recipe_path(name))]
        types = (bc.BCArguments, BCConfig, ModelConfig)
        trainer = bc.make_trainer(*parse_recipe("bc-vs-rl", types, words, ""))
        trainer.train(resume_from_checkpoint=resume)
        train.finish(trainer)

    def _agent(self, name: str):
        return common.agent_from_spec(name if name in ("random", "bot") else str(self.root / name))

    def _collect(self, name: str, folder: Path) -> None:
        own, agent = self.own, self._agent(name)
        is_model = isinstance(agent, ScoringAgent)
        collect_log(
            agent,
            folder,
            env_id=own.env_id,
            env_kwargs=own.env_kwargs,
            env_module=own.env_module,
            # The same episodes for both policies, and others than PPO's training.
            seed=own.seed + 1,
            policy=name,
            policy_revision=weights_revision(agent.policy) if is_model else None,
            num_steps=self.num_transitions,
            template=agent.template if is_model else None,
            sinks=[CollectProgress(None, self.num_transitions, 0)],
        )

    def _thin_training_log(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        log = load_log(self.root / "ppo" / "interactions")
        thin_log(log, self.num_transitions).to_parquet(str(folder / "episodes.parquet"))

    @property
    def tests(self) -> list[SuiteTest]:
        tests = [SuiteTest("unchanged", self.panel.name)]
        if self.own.env_id.startswith("BabyAI-Text/"):
            tests.append(SuiteTest("invented words", self.panel.name, {"lexicon": "invented_words"}))
        return tests

    @property
    def modes(self) -> tuple[str, ...]:
        return MODES if self.own.greedy else MODES[:1]

    def _evaluate(self, name: str, folder: Path) -> None:
        own, agent = self.own, self._agent(name)
        scorer = Scorer(
            agent,
            seed=own.seed,
            modes=self.modes if isinstance(agent, ScoringAgent) else MODES[:1],
            references=[],
            make_env=common.env_maker(own.env_module),
            make_sinks=lambda description, count: [common.EpisodeProgress(description, count)],
        )
        write_results(folder, name, own.seed, {test.name: scorer.score(test, self.panel) for test in self.tests})

    # -- the table

    def _write_table(self) -> None:
        folder = self.root / "table"
        folder.mkdir(exist_ok=True)
        # The table may be published: it names no folder of this machine.
        model = self.own.model_name_or_path
        model = Path(model).name if Path(model).is_dir() else model
        document = {
            "arguments": asdict(self.own) | {"output_dir": self.root.name, "model_name_or_path": model},
            "panel": {"name": self.panel.name, "sha256": self.panel.hash, "num_episodes": len(self.panel)},
            **comparison_document(
                {name: read_results(self.root / "results" / name) for name in POLICIES},
                {name: load_log(self.log(name.removeprefix("bc/"))) for name in CLONES},
            ),
            "seconds": {path.stem: _read(path)["seconds"] for path in sorted((self.root / "stages").glob("*.json"))},
        }
        _write(folder / "table.json", document)
        text = f"{comparison_text(document)}\n\n![success rates](table.png)\n"
        (folder / "README.md").write_text(text, encoding="utf-8")
        draw_comparison(document, folder / "table.png")

    def table(self) -> str:
        """The table as Markdown."""
        return (self.root / "table" / "README.md").read_text(encoding="utf-8")

    def publish(self) -> None:
        """Put models, logs and table on the Hub."""
        own, private = self.own, not self.own.public
        base = f"{own.push}/{self.root.name}"
        for name in ("ppo", *CLONES):
            shutil.copy(self.root / "results" / name / "results.json", self.root / name)
            repo_id = f"{base}-{name.replace('/', '-')}"
            push_policy(self.root / name, repo_id, private=private)
            print(f"Pushed to {repo_id}")
        commit = push_log(self.root / "logs", f"{base}-logs", private=private, env_module=own.env_module)
        print(f"Pushed to {commit.repo_url}")
        check_outgoing(self.root / "table")
        api = HfApi()
        call(base, lambda: api.create_repo(base, repo_type="dataset", private=private, exist_ok=True))
        commit = call(
            base, lambda: api.upload_folder(folder_path=self.root / "table", repo_id=base, repo_type="dataset")
        )
        print(f"Pushed to {commit.repo_url}")


def thin_log(log: InteractionLog, num_transitions: int) -> InteractionLog:
    """
    Whole episodes of a log, evenly spaced over it.

    Args:
        log ([`InteractionLog`]):
            Whole episodes, for example of a training.
        num_transitions (`int`):
            Transitions to keep, rounded up to the end of an episode; all of them if the log has fewer.
    """
    share = min(num_transitions / len(log), 1.0)
    kept: list[int] = []
    start = 0
    for length in log.episodes()["length"]:
        if len(kept) < share * (start + length):
            kept.extend(range(start, start + length))
        start += length
    return log.select(kept)


def _read(record: Path) -> dict[str, Any]:
    return json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
