# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The demonstrator: BabyAI's bot (huggingface.co/papers/1810.08272), as Minigrid ships it, behind BabyAI-Text.

[`BabyAIDemonstrator`] follows an episode whoever acts: it reads from the environment which action was really taken,
undoes what disturbs its plan and, when the plan has broken, plans afresh from the present state. Minigrid's bot can
plan for ever on some levels; here planning is bounded. It does not learn, and cannot solve `KeyInBox` and
`PutNext*Carrying`.
"""

from __future__ import annotations

import gymnasium as gym
from minigrid.core.actions import Actions
from minigrid.envs.babyai.core.verifier import AfterInstr, Instr, SeqInstr
from minigrid.utils.baby_ai_bot import BabyAIBot, DisappearedBoxError, DropSubgoal, GoNextToSubgoal

from ..types import InvalidInputError
from .babyai_text import BabyAITextEnv
from .fast_level import FastLevel


MAX_REPLANS = 100


class PlanningError(Exception):
    """The bot found no next action in a bounded number of changes of its plan."""


# Minigrid's bot reports a state it was not written for by failing in one of these ways.
_BROKEN_PLAN = (PlanningError, DisappearedBoxError, AssertionError, AttributeError, TypeError, LookupError)


class _BoundedBot(BabyAIBot):
    """Minigrid's bot with a bounded plan, started from any state of an episode."""

    def __init__(self, level: FastLevel) -> None:
        super().__init__(level)
        self._remember_current_state()
        self._process_obs()
        if level.carrying is not None:
            # A plan starts with free hands.
            self.stack.append(DropSubgoal(self))
            self.stack.append(GoNextToSubgoal(self, self._find_drop_pos()))

    def _process_instr(self, instr: Instr) -> None:
        if not isinstance(instr, SeqInstr):
            super()._process_instr(instr)
            return
        parts = [(instr.instr_a, instr.a_done), (instr.instr_b, instr.b_done)]
        # The plan is a stack: what is pushed last is done first.
        for part, done in parts if isinstance(instr, AfterInstr) else reversed(parts):
            if done != "success":
                self._process_instr(part)

    def suggest(self, action_taken: int | None) -> int | None:
        """`replan`, bounded: the suggested action, or `None` if the plan is at its end."""
        self._process_obs()
        self._check_erroneous_box_opening(action_taken)
        for subgoal in self.stack:
            subgoal.update_agent_attributes()
        if self.stack and action_taken is not None:
            self.stack[-1].replan_after_action(action_taken)
        while self.stack and self.stack[-1].is_exploratory():
            self.stack.pop()
        for _ in range(MAX_REPLANS):
            if not self.stack:
                return None
            suggestion = self.stack[-1].replan_before_action()
            if suggestion is not None:
                self._remember_current_state()
                return int(suggestion)
        raise PlanningError(f"no action after {MAX_REPLANS} changes of the plan")


class BabyAIDemonstrator:
    """
    BabyAI's bot for one episode; make a new one after each reset.

    Args:
        env (`gym.Env`):
            A BabyAI-Text environment, wrapped or not, just reset.

    Attributes:
        given_up (`bool`):
            The bot found no plan, not even a fresh one. It takes the first admissible action from then on and the
            episode runs into its time limit.

    Raises:
        [`~trl_glam.types.InvalidInputError`]: if the environment is no BabyAI level.
    """

    def __init__(self, env: gym.Env) -> None:
        if not isinstance(env.unwrapped, BabyAITextEnv):
            raise InvalidInputError(
                f"The bot plays BabyAI-Text levels only, not {type(env.unwrapped).__name__}: choose another policy, "
                "or write a demonstrator for this environment."
            )
        self._env = env.unwrapped
        self.given_up = False
        self._bot: _BoundedBot | None = None

    def act(self) -> int:
        """
        The bot's next action.

        Returns:
            `int`: an index into the environment's admissible actions.

        Raises:
            [`~trl_glam.types.InvalidInputError`]: if the action the bot needs is not admissible.
        """
        action = self._plan()
        if action not in self._env.action_codes:
            raise InvalidInputError(
                f"The bot needs the action {Actions(action).name!r} on {self._env.level_name}, admissible are only "
                f"{', '.join(self._env.admissible_actions)}: use the canonical set."
            )
        return self._env.action_codes.index(action)

    def _plan(self) -> int:
        level = self._env.level
        if not self.given_up and self._bot is not None:
            try:
                suggestion = self._bot.suggest(self._env.last_action)
                if suggestion is not None:
                    return suggestion
            except _BROKEN_PLAN:
                pass  # the plan rests on a state that is gone: plan afresh below
        if not self.given_up:
            try:
                self._bot = _BoundedBot(level)
                suggestion = self._bot.suggest(None)
                # An empty fresh plan: the goal is met by any action that leaves the present state alone.
                return self._stay() if suggestion is None else suggestion
            except _BROKEN_PLAN:
                self.given_up = True
        return self._env.action_codes[0]

    def _stay(self) -> int:
        ahead = self._env.level.grid.get(*self._env.level.front_pos)
        return int(Actions.left if ahead is None or ahead.can_overlap() else Actions.forward)
