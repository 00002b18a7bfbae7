"""A text environment to start from. Say what your world is, what the agent is told and what it may do."""

import gymnasium as gym


DRINKS = ("tea", "coffee", "juice")


class Cafe(gym.Env):
    """Three guests order, one after the other; the first wrong drink ends the morning."""

    def __init__(self, guests: int = 3) -> None:
        self.guests = guests
        self.action_space = gym.spaces.Discrete(len(DRINKS))
        text = gym.spaces.Text(200)
        self.observation_space = gym.spaces.Dict({"mission": text, "text": text})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)  # all chance comes from self.np_random: an episode is told by its seed
        self.orders = [DRINKS[i] for i in self.np_random.integers(len(DRINKS), size=self.guests)]
        return self._observe(success=False)

    def step(self, action):
        right = self._actions()[action] == f"serve {self.orders.pop(0)}"
        success = right and not self.orders
        obs, info = self._observe(success)
        return obs, float(right) / self.guests, success or not right, False, info

    def _actions(self):
        return [f"serve {drink}" for drink in DRINKS]

    def _observe(self, success):
        text = f"A guest orders {self.orders[0]}." if self.orders else "The cafe is empty."
        info = {"admissible_actions": self._actions(), "success": success}
        return {"mission": "serve every guest", "text": text}, info


gym.register("Cafe/Morning-v0", entry_point=Cafe)
