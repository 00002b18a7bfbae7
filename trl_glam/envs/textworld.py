# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""TextWorld games (huggingface.co/papers/1806.11532): rooms, objects and commands that are others at every step.

Games are generated offline by TextWorld itself and kept in a cache by their options and seed, so that only the first
visit to a game costs seconds. [`TextWorldEnv`] plays them behind the contract of `contract.py`, [`Walkthrough`] is
their demonstrator. Training and evaluation never meet in a game: which of the two a game belongs to follows from its
map and solution. TextWorld is an extra, imported where it is used; it runs on Linux and macOS.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import io
import json
import operator
import os
import re
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
from filelock import FileLock
from gymnasium import spaces

from ..types import InvalidInputError


# Reset seeds from here on, those of evaluation panels, open games that no training seed opens.
HELD_OUT_SEEDS = 1_000_000_000
# Written into the key of the cache: a change in how games are made must not meet older ones.
_CACHE_VERSION = 2
_MAX_ATTEMPTS = 200

# Game -> TextWorld's module and the settings a user may change, with their defaults.
CHALLENGES: dict[str, tuple[str, dict[str, Any]]] = {
    "CoinCollector": ("coin_collector", {"level": 105}),
    "TreasureHunter": ("treasure_hunter", {"level": 11}),
    "Simple": ("simple", {"rewards": "dense", "goal": "detailed"}),
    "Cooking": (
        "cooking",
        {"recipe": 1, "take": 1, "go": 1, "open": False, "cook": False, "cut": False, "drop": False},
    ),
}
# Settings that TextWorld asks for and that have one sensible value here: the split is ours, by map and solution.
_FIXED_SETTINGS: dict[str, dict[str, Any]] = {
    "Simple": {"test": False},
    "Cooking": {"recipe_seed": 0, "split": None},
}
_EXITS = ("north_of", "south_of", "east_of", "west_of")

# TextWorld generates games from module-level random states and a shared grammar.
_generation = threading.Lock()


def register_textworld() -> None:
    """Register `TextWorld/<challenge>-v0`; cheap, safe to repeat, and without importing TextWorld."""
    for name in CHALLENGES:
        env_id = f"TextWorld/{name}-v0"
        if env_id not in gym.registry:
            entry_point = "trl_glam.envs.textworld:TextWorldEnv"
            gym.register(env_id, entry_point=entry_point, kwargs={"challenge": name})


def cache_directory() -> Path:
    """Where games are kept: the folder `textworld` of the cache that the local models use too."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "trl_glam"
    return Path(os.environ.get("TRL_GLAM_CACHE") or base) / "textworld"


def _textworld(module: str = "textworld") -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != "textworld":
            raise
        raise InvalidInputError(
            'TextWorld is not installed, and the environments TextWorld/* need it: pip install "trl-glam[textworld]".'
        ) from None


def game_file(challenge: str, settings: dict[str, Any], game: int, held_out: bool = False) -> Path:
    """
    A compiled game, made if the cache does not hold it.

    Args:
        challenge (`str`):
            Key of `CHALLENGES`.
        settings (`dict[str, Any]`):
            All settings of the challenge.
        game (`int`):
            Number of the game, from 0.
        held_out (`bool`, *optional*, defaults to `False`):
            A game for evaluation. Half of all maps and solutions, by their hash, belong to training, the other half to
            evaluation, so that no game of one side is a game of the other.

    Returns:
        `Path`: a `.z8` file; the `.json` file beside it is TextWorld's description of the game.
    """
    what = {"version": _CACHE_VERSION, "textworld": _textworld("textworld.version").__version__,
            "challenge": challenge, "settings": settings, "game": game, "held_out": held_out}  # fmt: skip
    key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:20]
    path = cache_directory() / f"{challenge}-{key}" / "game.z8"
    if path.is_file():
        return path
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    with _generation, FileLock(path.parent.with_suffix(".lock")):
        if not path.is_file():
            with tempfile.TemporaryDirectory(dir=path.parent.parent) as folder:
                _generate(challenge, settings, game, held_out, Path(folder, "made", "game.z8"))
                Path(folder, "made").replace(path.parent)
    return path


def _generate(challenge: str, settings: dict[str, Any], game: int, held_out: bool, path: Path) -> None:
    textworld = _textworld()
    module = _textworld(f"textworld.challenges.tw_{CHALLENGES[challenge][0]}.{CHALLENGES[challenge][0]}")
    path.parent.mkdir()
    # Generation reports on stdout what is no concern of a training run.
    with contextlib.redirect_stdout(io.StringIO()):
        for attempt in range(_MAX_ATTEMPTS):
            options = textworld.GameOptions()
            options.seeds = 2 * (game * _MAX_ATTEMPTS + attempt) + held_out
            options.path = str(path)
            try:
                made = module.make({**settings, **_FIXED_SETTINGS.get(challenge, {})}, options)
            except (ValueError, AssertionError, KeyError) as error:
                raise InvalidInputError(f"TextWorld/{challenge} cannot be made with {settings}: {error}") from error
            if _is_held_out(made) == held_out:
                textworld.generator.compile_game(made, options)
                return
    raise InvalidInputError(
        f"TextWorld/{challenge} with {settings} has too few different games: {_MAX_ATTEMPTS} seeds in a row gave none "
        f"for {'evaluation' if held_out else 'training'}. Make it harder."
    )


def _is_held_out(game: Any) -> bool:
    """Whether a game belongs to evaluation: a coin that its map and its solution toss, however it is worded."""
    exits = sorted(str(fact) for fact in game.world.facts if fact.name in _EXITS)
    identity = json.dumps([exits, list(game.metadata.get("walkthrough", []))])
    return hashlib.sha256(identity.encode()).digest()[0] % 2 == 1


class TextWorldEnv(gym.Env):
    """
    One kind of TextWorld game: the reset seed says which game, the admissible actions are TextWorld's commands.

    An observation is `{"mission": str, "text": str}`: the game's objective, and what the last command brought, the
    room and the inventory, which `info["descriptions"]` lists one by one. `info["admissible_actions"]` is sorted and
    changes at every step. The reward is the gain in score, in parts of the highest score: a game that is won returns
    1, and `info["success"]` says whether it was. A game that is lost terminates.

    Args:
        challenge (`str`):
            `"CoinCollector"`, `"TreasureHunter"`, `"Simple"` or `"Cooking"`.
        num_games (`int`, *optional*, defaults to `100`):
            Different games that training seeds open, and as many others for evaluation seeds (from `HELD_OUT_SEEDS`).
        max_steps (`int`, *optional*, defaults to `50`):
            Time limit of an episode; it truncates.
        exclude (`list[str]`, *optional*):
            Verbs whose commands are not admissible, like `["examine", "look"]`.
        max_actions (`int`, *optional*, defaults to `128`):
            Size of the action space: the largest number of admissible actions.
        **settings:
            The challenge's own, with TextWorld's meaning: `level` of CoinCollector (1-300) and TreasureHunter (1-30);
            `rewards` (`dense`, `balanced`, `sparse`) and `goal` (`detailed`, `brief`, `none`) of Simple; `recipe`,
            `take`, `go`, `open`, `cook`, `cut`, `drop` of Cooking.

    Raises:
        [`~trl_glam.types.InvalidInputError`]: for an unknown challenge or setting, a value that TextWorld refuses, an
        action index past the admissible ones, or if TextWorld is not installed.

    Example:

    ```python
    import gymnasium as gym
    import trl_glam

    env = gym.make("TextWorld/CoinCollector-v0", level=3)
    obs, info = env.reset(seed=0)
    obs, reward, terminated, truncated, info = env.step(info["admissible_actions"].index("look"))
    ```
    """

    metadata = {"render_modes": []}

    def __init__(
        self,
        challenge: str,
        num_games: int = 100,
        max_steps: int = 50,
        exclude: Sequence[str] = (),
        max_actions: int = 128,
        **settings: Any,
    ) -> None:
        _textworld()
        if challenge not in CHALLENGES:
            raise InvalidInputError(f"challenge={challenge!r} is not known: choose one of {', '.join(CHALLENGES)}.")
        defaults = CHALLENGES[challenge][1]
        unknown = sorted(set(settings) - set(defaults))
        if unknown:
            raise InvalidInputError(
                f"TextWorld/{challenge} got the setting {unknown[0]!r}: it takes {', '.join(defaults)}, num_games, "
                "max_steps, exclude and max_actions."
            )
        for name, value in (("num_games", num_games), ("max_steps", max_steps), ("max_actions", max_actions)):
            if not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"{name}={value!r} is given; it must be an integer of at least 1.")
        self.challenge = challenge
        self.settings = {**defaults, **settings}
        _check_settings(challenge, self.settings)
        self.num_games = num_games
        self.max_steps = max_steps
        self.exclude = tuple(exclude)
        self.action_space = spaces.Discrete(max_actions)
        text = spaces.Text(max_length=100_000, min_length=0)
        self.observation_space = spaces.Dict({"mission": text, "text": text})
        self._infos = _textworld().EnvInfos(feedback=True, description=True, inventory=True, objective=True, won=True,
                                            score=True, max_score=True, admissible_commands=True)  # fmt: skip
        self._game: Any = None
        self._path: Path | None = None
        self._admissible: list[str] = []

    @property
    def admissible_actions(self) -> list[str]:
        """The commands that may be given now."""
        return self._admissible

    def follow_solution(self) -> None:
        """Keep [`~TextWorldEnv.solution`] from here on, for a third of the speed; to be called before a first step."""
        if not self._infos.policy_commands:
            self._infos.policy_commands = True
            self._state = self._game.reset()

    @property
    def solution(self) -> list[str]:
        """Commands that win from the present state; empty when the game is over or cannot be won any more."""
        return list(self._state["policy_commands"])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        super().reset(seed=seed)
        if options:
            raise InvalidInputError(f"reset got the option {sorted(options)[0]!r}: a TextWorld episode takes none.")
        if seed is None:
            seed = int(self.np_random.integers(HELD_OUT_SEEDS))
        path = game_file(self.challenge, self.settings, seed % self.num_games, held_out=seed >= HELD_OUT_SEEDS)
        if path != self._path:
            self.close()
            self._game, self._path = _textworld().start(str(path), self._infos), path
        # Winning, losing and score come from the game's text and facts; its own dice fall alike every time.
        self._game.seed(0)
        self._state = self._game.reset()
        self._score, self._steps = 0, 0
        self._mission = _one_line(self._state["objective"])
        return self._observe("")

    def step(self, action: int) -> tuple[dict[str, str], float, bool, bool, dict[str, Any]]:
        index = operator.index(action)
        if not 0 <= index < len(self._admissible):
            raise InvalidInputError(
                f"Action {index} is out of range: {len(self._admissible)} commands are admissible, 0 to "
                f"{len(self._admissible) - 1}."
            )
        self._state, score, done = self._game.step(self._admissible[index])
        reward = (score - self._score) / self._state["max_score"]
        self._score = score
        self._steps += 1
        observation, info = self._observe(self._state["feedback"])
        return observation, float(reward), bool(done), self._steps >= self.max_steps and not done, info

    def close(self) -> None:
        if self._game is not None:
            self._game.close()
            self._game = self._path = None

    def _observe(self, feedback: str) -> tuple[dict[str, str], dict[str, Any]]:
        state = self._state
        commands = state["admissible_commands"]
        self._admissible = [command for command in commands if command.split()[0] not in self.exclude]
        if not self._admissible:
            raise InvalidInputError(f"exclude={list(self.exclude)} leaves no command of {commands}: exclude less.")
        if len(self._admissible) > self.action_space.n:
            raise InvalidInputError(
                f"TextWorld/{self.challenge} has {len(self._admissible)} admissible commands here, the action space "
                f"{self.action_space.n}: make it with a larger max_actions."
            )
        room, inventory = _one_line(state["description"]), _one_line(state["inventory"])
        news = _one_line(_STATUS.sub(" ", feedback))
        # Walking into a room, or looking, tells the room; it need not be told twice.
        told = [part for part in (news.replace(room, "").replace(inventory, "").strip(), room, inventory) if part]
        info = {
            "descriptions": told,
            "admissible_actions": list(self._admissible),
            "success": bool(state["won"]),
        }
        return {"mission": self._mission, "text": " ".join(told)}, info


def _check_settings(challenge: str, settings: dict[str, Any]) -> None:
    """TextWorld's own parser knows types, ranges and choices; a level's range it checks in the middle of its work."""
    name = CHALLENGES[challenge][0]
    parser = _textworld(f"textworld.challenges.tw_{name}.{name}").build_argparser(
        argparse.ArgumentParser(exit_on_error=False)
    )
    for action in parser._actions:
        if action.dest not in settings:
            continue
        value, wanted = settings[action.dest], bool if action.nargs == 0 else action.type or str
        if type(value) is not wanted or (action.choices and value not in action.choices):
            allowed = ", ".join(map(str, action.choices)) if action.choices else f"a value of type {wanted.__name__}"
            raise InvalidInputError(f"TextWorld/{challenge}: {action.dest}={value!r} is given; it takes {allowed}.")
    highest = {"CoinCollector": 300, "TreasureHunter": 30}.get(challenge)
    if highest is not None and not 1 <= settings["level"] <= highest:
        raise InvalidInputError(
            f"TextWorld/{challenge}: level={settings['level']} is given; it goes from 1 to {highest}."
        )


# The interpreter's status line, its prompt, and what follows the end of a game.
_STATUS = re.compile(
    r">[ \t]+-= .*|\*\*\* .*|Would you like to RESTART.*|Your score has just gone up.*?point\w*\.", re.S
)


def _one_line(text: str) -> str:
    """A text without line breaks and without the decoration of room names."""
    return " ".join(re.sub(r"-= (.*?) =-", r"\1:", text).replace(">", " ").split())


class Walkthrough:
    """
    The demonstrator of TextWorld: the game's own solution, taken up again from wherever the episode has got to.

    Args:
        env (`gym.Env`):
            A TextWorld environment, wrapped or not, just reset.
    """

    def __init__(self, env: gym.Env) -> None:
        self._env: TextWorldEnv = env.unwrapped
        self._env.follow_solution()

    def act(self) -> int:
        """
        The next command of a solution.

        Returns:
            `int`: its index among the admissible actions; 0 where no solution is left.

        Raises:
            [`~trl_glam.types.InvalidInputError`]: if the command's verb is excluded.
        """
        if not self._env.solution:
            return 0
        command = self._env.solution[0]
        if command not in self._env.admissible_actions:
            raise InvalidInputError(
                f"The walkthrough needs {command!r}, which exclude={list(self._env.exclude)} forbids: exclude less."
            )
        return self._env.admissible_actions.index(command)
