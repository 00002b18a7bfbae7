# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Every way in which an environment can fail, and what becomes of its episode, its neighbours and the run.

Each fault is a row of the table in docs/reliability.md.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from tests.rollout import worlds
from tests.rollout.worlds import GARBAGE_STEPS, faulty
from trl_glam.agents import BotAgent, RandomAgent
from trl_glam.envs.maker import EnvironmentMaker
from trl_glam.prompts import PromptTemplate
from trl_glam.rollout import EpisodeCollector, Rollout, Runner, SeededEpisodes, Sink
from trl_glam.types import EnvironmentFault, InvalidInputError


ROOT = Path(__file__).parents[2]
AT_A_STEP = [*GARBAGE_STEPS, "raise", "exit"]
TIME_LIMIT = 5.0  # seconds


class Faults(Sink):
    def __init__(self):
        self.faults = []

    def on_episode_dropped(self, fault):
        self.faults.append(fault)


def make_runner(make_env=worlds.make_corridor, num_slots=4, **kwargs) -> Runner:
    return Runner(make_env, SeededEpisodes("toy", 7), num_slots, RandomAgent(), PromptTemplate(), seed=7, **kwargs)


@pytest.fixture
def runners():
    """Makes runners that are closed in the end."""
    made = []

    def make(*args, **kwargs) -> Runner:
        made.append(make_runner(*args, **kwargs))
        return made[-1]

    yield make
    for runner in made:
        runner.close()


def story(transitions):
    return [
        (t.observation.episode.episode_id, t.observation.prompt, t.decision.index, t.reward, t.dropped)
        for t in transitions
    ]


def whole_episodes(make_env, runners, steps=40, **kwargs):
    """Records of the episodes that ended, and the faults, of a run of so many steps."""
    records, faults = EpisodeCollector(), Faults()
    runner = runners(make_env, sinks=[records, faults], **kwargs)
    for _ in range(steps):
        runner.step()
    return {record.key.episode_id: record for record in records.records}, faults.faults


@pytest.mark.parametrize("fault", AT_A_STEP)
def test_fault_at_a_step_stops_the_run_by_name(fault, runners):
    runner = runners(faulty(fault), num_slots=1)
    with pytest.raises(
        EnvironmentFault, match=r"Environment toy \(slot 0, .* seed \d+\) failed at step 1: "
    ) as caught:
        for _ in range(3):
            runner.step()
    error = caught.value
    assert len(error.actions) == 2 and error.key.seed == SeededEpisodes("toy", 7).next(0).seed
    assert f"Actions so far: {list(error.actions)}" in str(error)


@pytest.mark.parametrize("fault", AT_A_STEP)
def test_fault_at_a_step_costs_its_episode_and_nothing_else(fault, runners):
    # One episode in three fails. The others are those of the healthy world, which plays the same keys.
    healthy, _ = whole_episodes(faulty(fault, every=10**12), runners, steps=80)
    played, faults = whole_episodes(faulty(fault, 3), runners, on_environment_error="drop")
    assert len(faults) > 5 and all(len(one.actions) == 2 for one in faults)
    assert {one.key.episode_id for one in faults}.isdisjoint(played)
    assert len(played) > 10
    assert all(record.key.seed % 3 for record in played.values())
    assert played == {name: healthy[name] for name in played}


def test_fault_at_the_reset_is_followed_by_the_next_episode(runners):
    with pytest.raises(
        EnvironmentFault, match=r"failed at its reset: ConnectionError: the server is gone \(worlds.py"
    ):
        runners(faulty("raise at reset")).step()
    played, faults = whole_episodes(faulty("raise at reset", 3), runners, on_environment_error="drop")
    assert len(faults) > 3 and all(one.actions == () for one in faults)
    assert played and all(record.key.seed % 3 for record in played.values())


def test_environment_that_always_fails_ends_the_run(runners):
    for fault in ("raise", "raise at reset"):
        runner = runners(faulty(fault), num_slots=2, on_environment_error="drop")
        with pytest.raises(EnvironmentFault, match="It is the 10th episode in a row that fails here"):
            for _ in range(50):
                runner.step()


def test_environment_that_cannot_be_made_is_a_wrong_setting(runners):
    with pytest.raises(InvalidInputError, match="'NoSuchWorld-v0' cannot be made") as caught:
        runner = Runner(
            EnvironmentMaker(), SeededEpisodes("NoSuchWorld-v0", 0), 1, RandomAgent(), PromptTemplate(), 0,
            on_environment_error="drop",
        )  # fmt: skip
        runner.step()
    assert not isinstance(caught.value, EnvironmentFault)


# -- in processes of their own


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("hang", r"not answered for 5 seconds \(env_timeout\); its process was killed"),
        ("hang at reset", "its process was killed"),
        ("die", r"its process died \(exit code 3\)"),
        ("nan reward", "the reward is nan"),
        ("exit", "SystemExit: good-bye"),
    ],
)
def test_process_of_a_fault_is_replaced_and_its_neighbours_come_back(fault, reason, runners):
    # Two processes of two environments each; "raise" in this process says what should become of everybody. A healthy
    # environment must make the time limit on a busy machine too.
    same = "raise at reset" if fault == "hang at reset" else "raise"
    expected = runners(faulty(same, 5), on_environment_error="drop")
    heard = Faults()
    spread = runners(faulty(fault, 5), workers=2, timeout=TIME_LIMIT, on_environment_error="drop", sinks=[heard])
    for _ in range(8):
        assert story(spread.step()) == story(expected.step())
    assert heard.faults and all(re.search(reason, one.reason) for one in heard.faults)


def test_fault_in_a_process_stops_the_run_by_name_and_leaves_no_process(runners):
    before = children()
    runner = make_runner(faulty("hang", 2), workers=2, timeout=TIME_LIMIT)
    assert len(children() - before) >= 2
    with pytest.raises(EnvironmentFault, match=r"failed at step 1: it has not answered for 5 seconds"):
        for _ in range(5):
            runner.step()
    runner.close()
    assert workers_among(children() - before) == set()


def test_process_that_died_between_two_steps_is_replaced(runners):
    expected, spread = runners(), runners(workers=2)
    for step in range(12):
        assert story(spread.step()) == story(expected.step())
        if step == 5:
            victim = spread._environments._workers[1].process
            os.kill(victim.pid, signal.SIGKILL)
            victim.join()


def test_neighbour_that_does_not_come_back_is_dropped_too(runners):
    heard = Faults()
    spread = runners(
        worlds.make_fault_beside_unseeded, num_slots=2, workers=1, on_environment_error="drop", sinks=[heard]
    )
    for _ in range(6):
        spread.step()
    reasons = {fault.key.slot: fault.reason for fault in heard.faults}
    assert "process died" in reasons[0]
    assert "killed because of another environment, and it does not come back by replay" in reasons[1]


def test_workers_end_when_the_run_is_killed(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import time
            from tests.faults.test_environment_faults import make_runner
            from tests.rollout.worlds import make_corridor

            runner = make_runner(make_corridor, workers=3)
            runner.step()
            print(*[worker.process.pid for worker in runner._environments._workers], flush=True)
            time.sleep(600)
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.Popen([sys.executable, script], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
    pids = {int(word) for word in run.stdout.readline().split()}
    assert len(pids) == 3 and pids <= processes()
    run.kill()
    run.wait()
    run.stdout.close()
    deadline = time.monotonic() + 30
    while pids & processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not pids & processes()


def test_factory_that_cannot_be_sent_and_agent_that_needs_the_environment(runners):
    with pytest.raises(InvalidInputError, match="env_workers=2 .* cannot be sent there"):
        make_runner(lambda key: None, workers=2)
    with pytest.raises(InvalidInputError, match="bot asks the environment itself"):
        Runner(worlds.make_corridor, SeededEpisodes("toy", 0), 1, BotAgent(), PromptTemplate(), 0, workers=1)


# -- in the run's own process


def test_hang_ends_the_run_by_name(runners):
    runner = runners(faulty("hang"), num_slots=1, timeout=TIME_LIMIT, on_environment_error="drop")
    started = time.monotonic()
    with pytest.raises(
        EnvironmentFault, match=r"slot 0, .* seed \d+\) failed at step 1: its step has not returned for"
    ):
        for _ in range(3):
            runner.step()
    assert time.monotonic() - started < 120  # it would sleep for an hour


def test_hang_that_swallows_the_interrupt_ends_the_process_by_name(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            from tests.faults.test_environment_faults import Stubborn, make_runner
            from trl_glam.envs import watchdog

            runner = make_runner(lambda key: Stubborn(), num_slots=1, timeout=5.0)
            runner._environments._watchdog.grace = 1.0
            for _ in range(3):
                runner.step()
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert run.returncode == 1
    assert "Environment toy (slot 0, episode 0, seed " in run.stderr and "hangs: its step after 1 steps" in run.stderr
    assert "in step" in run.stderr  # where it stands


def test_hang_ends_a_run_that_ignores_interrupts_too(tmp_path):
    # As a shell without job control starts `run &`: the watchdog's own interrupt must arrive, others must not.
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal
            from tests.faults.test_environment_faults import make_runner
            from tests.rollout.worlds import faulty
            from trl_glam.types import EnvironmentFault

            runner = make_runner(faulty("hang"), num_slots=1, timeout=5.0)
            runner.observations
            os.kill(os.getpid(), signal.SIGINT)
            print("still here", flush=True)
            try:
                for _ in range(3):
                    runner.step()
            except EnvironmentFault as error:
                print(error, flush=True)
            """
        )
    )
    run = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$0" "$1"', sys.executable, str(script)],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("still here") and "its step has not returned for 5 seconds" in run.stdout


class Stubborn(worlds.CorridorEnv):
    def step(self, action):
        while self.time == 1:
            try:
                time.sleep(3600)
            except KeyboardInterrupt:
                continue
        return super().step(action)


# -- what becomes of the rows


def test_rows_of_a_dropped_episode_stay_with_weight_0_and_touch_no_others(runners):
    runner = runners(faulty("raise", 3), on_environment_error="drop")
    steps = [runner.step() for _ in range(12)]
    steps = [[with_numbers(t) for t in row] for row in steps]
    rollout = Rollout.from_transitions(steps)
    rollout.finish(np.zeros(4, dtype=np.float32), gamma=0.9, gae_lambda=0.8)
    dropped = {t.observation.episode.episode_id for row in steps for t in row if t.dropped}
    assert dropped and rollout.shape == (12, 4)
    names = np.array([[t.observation.episode.episode_id for t in row] for row in steps])
    assert np.array_equal(rollout.weights == 0, np.isin(names, list(dropped)))
    # Advantages of the others do not see the dropped rows, whatever stands in them.
    before = rollout.advantages[rollout.kept].copy()
    rollout.values[~rollout.kept] = 1e6
    rollout.finish(np.zeros(4, dtype=np.float32), gamma=0.9, gae_lambda=0.8)
    assert np.array_equal(rollout.advantages[rollout.kept], before)


def with_numbers(transition):
    decision = type(transition.decision)(transition.decision.index, transition.decision.log_probs, 0.5)
    return type(transition)(**{**vars(transition), "decision": decision})


# -- processes


def processes() -> set[int]:
    """Processes that run; those that have ended and are only waited for do not count."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z":
            found.add(int(path.parent.name))
    return found


def children(parent: int | None = None) -> set[int]:
    """All descendants of this process."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z":
            parents[int(path.parent.name)] = int(fields[1])
    found, new = set(), {parent or os.getpid()}
    while new:
        new = {pid for pid, above in parents.items() if above in new} - found
        found |= new
    return found


def workers_among(pids: set[int]) -> set[int]:
    """Those that are children of multiprocessing's fork server: environments."""
    servers = {pid for pid in pids | children() if b"forkserver" in command(pid)}
    return {pid for pid in pids if any(pid in children(server) for server in servers)}


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
