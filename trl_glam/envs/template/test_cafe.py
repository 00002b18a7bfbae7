"""Run with `pytest`: holds the environment to the contract, and to what only you know of it."""

from cafe import Cafe

from trl_glam.envs import check_text_env


def test_contract():
    check_text_env(Cafe())


def test_right_drinks_win():
    env = Cafe(guests=2)
    env.reset(seed=0)
    for _ in range(2):
        action = env._actions().index(f"serve {env.orders[0]}")
        _, _, terminated, _, info = env.step(action)
    assert terminated and info["success"]
