# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""A small world for tests: walk along a line to a place; fewer actions at its ends. `time.sleep` makes it slow."""

import time

import gymnasium as gym


class WalkEnv(gym.Env):
    def __init__(self, length=6, seconds=0.0):
        self.length = length
        self.seconds = seconds
        self.observation_space = gym.spaces.Dict()
        self.action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.goal = (int(x) for x in self.np_random.choice(self.length, size=2, replace=False))
        self.goal = (options or {}).get("goal", self.goal)
        self.steps = 0
        return self._look()

    def step(self, action):
        time.sleep(self.seconds)
        name = self._actions()[action]
        self.place += {"walk left": -1, "walk right": 1, "wait": 0}[name]
        self.steps += 1
        there = self.place == self.goal
        return self._look()[0], float(there) / 3, there, self.steps == 8, self._look()[1]

    def _actions(self):
        left, right = self.place > 0, self.place < self.length - 1
        return ["walk left"] * left + ["walk right"] * right + ["wait"]

    def _look(self):
        sentences = [f"You are at {self.place}", f"It is {self.steps} o'clock"]
        kind = "far" if self.goal > 2 else "near"
        info = {"admissible_actions": self._actions(), "descriptions": sentences, "task_kind": kind}
        return {"mission": f"go to {self.goal}", "text": ". ".join(sentences)}, info


gym.register("LogWalk-v0", entry_point=WalkEnv, disable_env_checker=True)
