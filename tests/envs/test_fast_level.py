# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The fast levels and views against Minigrid's own, draw by draw and bit by bit."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import load_env_creator
from minigrid.envs.babyai.core.verifier import ObjDesc, SeqInstr

from trl_glam.envs.fast_level import RandomStream
from trl_glam.envs.language import phrasebook
from trl_glam.envs.levels import MIXED_LEVELS, SINGLE_LEVELS, make_level, minigrid_levels
from trl_glam.envs.registration import GLAM_LEVELS, MINIGRID_LEVELS
from trl_glam.envs.view import look, render_image, view_from_image
from trl_glam.types import InvalidInputError


def test_stream_draws_what_numpy_draws():
    for seed in range(5):
        ours = RandomStream(seed)
        numpys = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        choices = np.random.default_rng(seed)
        for _ in range(2000):
            if choices.random() < 0.05:
                assert ours.uniform(0, 1) == numpys.uniform(0, 1)
            else:
                low, span = int(choices.integers(-3, 5)), int(choices.integers(1, 2 ** int(choices.integers(1, 31))))
                assert ours.integers(low, low + span) == numpys.integers(low, low + span)


def test_stream_skips_to_a_position():
    for halves in (0, 1, 2, 127, 128, 129, 1001):
        walked, skipped = RandomStream(3), RandomStream(3)
        for _ in range(halves):
            walked.integers(0, 2)
        skipped.skip(halves)
        assert skipped.position == walked.position == halves
        assert [skipped.integers(0, 1000) for _ in range(200)] == [walked.integers(0, 1000) for _ in range(200)]


def test_listed_levels_are_those_of_minigrid_and_ours():
    assert set(MINIGRID_LEVELS) == set(minigrid_levels())
    assert set(GLAM_LEVELS) == {*MIXED_LEVELS, *SINGLE_LEVELS}


@pytest.mark.parametrize("name", MINIGRID_LEVELS)
def test_random_walk_equals_minigrids(name, capsys):
    spec = gym.spec(minigrid_levels()[name])
    theirs = load_env_creator(spec.entry_point)(**spec.kwargs)
    ours = make_level(name)
    capsys.readouterr()
    for seed in (0, 1):
        theirs.reset(seed=seed)
        obs = theirs.gen_obs()  # `reset` of PutNext*Carrying returns the view before the object is taken
        capsys.readouterr()  # Minigrid reports its rejected tries
        ours.reset(seed=seed)
        assert ours.max_steps == theirs.max_steps
        assert phrasebook().mission(ours.instrs) == ours.mission == theirs.mission
        for action in np.random.default_rng(seed).choice(7, 60, p=[0.15, 0.15, 0.4, 0.1, 0.05, 0.1, 0.05]).tolist():
            assert ours.grid.encode().tolist() == theirs.grid.encode().tolist()
            assert (*ours.agent_pos, ours.agent_dir) == (*theirs.agent_pos, theirs.agent_dir)
            np.testing.assert_array_equal(render_image(ours), obs["image"])
            assert look(ours) == view_from_image(obs["image"])
            obs, *result, _ = theirs.step(action)
            assert list(ours.step(action)[1:4]) == result
            if result[1] or result[2]:
                break
        assert capsys.readouterr().out == ""


def _known_places(instruction):
    """Where the verifier believes the named objects to be."""
    if isinstance(instruction, SeqInstr):
        return _known_places(instruction.instr_a) + _known_places(instruction.instr_b)
    descriptions = [value for value in vars(instruction).values() if isinstance(value, ObjDesc)]
    return [[tuple(map(int, place)) for place in description.obj_poss] for description in descriptions]


@pytest.mark.parametrize("name", ["PutNextLocal", "PutNextS5N2Carrying", "MoveTwoAcrossS5N2", "SynthSeq"])
def test_verifier_follows_moved_objects_like_minigrids(name):
    spec = gym.spec(minigrid_levels()[name])
    theirs = load_env_creator(spec.entry_point)(**spec.kwargs)
    ours = make_level(name)
    for seed in range(6):
        theirs.reset(seed=seed)
        ours.reset(seed=seed)
        for action in np.random.default_rng(seed).choice(6, 100, p=[0.1, 0.1, 0.3, 0.25, 0.2, 0.05]).tolist():
            _, *result, _ = theirs.step(action)
            assert list(ours.step(action)[1:4]) == result
            assert _known_places(ours.instrs) == _known_places(theirs.instrs)
            if result[1]:
                break


@pytest.mark.parametrize("options", [{"agent_view_size": 3}, {"agent_view_size": 9}, {"agent_view_size": 5}])
@pytest.mark.parametrize("see_through", [False, True])
@pytest.mark.parametrize("name", ["GoToLocal", "BossLevel"])
def test_view_respects_its_size_and_transparent_walls(name, options, see_through):
    level = make_level(name, **options)
    for seed in range(3):
        level.reset(seed=seed)
        level.see_through_walls = see_through
        for action in np.random.default_rng(seed).choice(6, 40, p=[0.15, 0.15, 0.4, 0.1, 0.1, 0.1]).tolist():
            # Minigrid's way from the grid to the image, which `gen_obs` of a fast level leaves out.
            grid, visible = level.gen_obs_grid()
            np.testing.assert_array_equal(render_image(level), grid.encode(visible))
            assert look(level) == view_from_image(grid.encode(visible))
            level.step(action)


def test_rare_episode_is_the_same_when_played_again():
    first, again = (make_level("MixedTestLocal", "putnext") for _ in range(2))
    for seed in range(6):
        first.reset(seed=seed)
        again.reset(seed=seed)
        assert first.grid.encode().tolist() == again.grid.encode().tolist()
        assert (first.mission, first.agent_pos, first.agent_dir) == (again.mission, again.agent_pos, again.agent_dir)


def test_objects_that_do_not_fit_are_an_error():
    with pytest.raises(InvalidInputError, match="room_size=4.*fewer objects"):
        make_level("GoToLocal", room_size=4, num_dists=20).reset(seed=0)
