# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The environments of a runner in processes of their own: they run side by side, and one that hangs or dies is killed.

Slot s lives in process s modulo the number of processes. A process that is killed takes its other environments along;
they come back in a new one by replay, and go on as if nothing had happened. Only checked, plain values
cross the pipes (`host.py`). Processes come from multiprocessing's fork server where there is one, so that nothing of
the run (CUDA, threads, locks) is inherited, and end with the run, however it ends.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any

import gymnasium as gym

from ..types import EpisodeKey, InvalidInputError
from .host import EnvironmentHost, Failure, Outcome


logger = logging.getLogger(__name__)

# Seconds until a new process has imported what it needs.
_START_TIMEOUT = 300.0
# Seconds that the environments of a process may take to close.
_CLOSE_TIMEOUT = 5.0

Request = tuple[Any, ...]


@dataclass
class _Episode:
    """How a slot's environment came to where it is."""

    key: EpisodeKey
    digest: str
    state: dict[str, Any] | None = None
    actions: list[int] = field(default_factory=list)


class WorkerEnvironments:
    """
    Environments in subprocesses.

    Args:
        make_env (`Callable[[EpisodeKey], gym.Env]`):
            Makes the environment of an episode; it is pickled, so it is defined at the top of a module.
        num_workers (`int`):
            Number of processes.
        timeout (`float`, *optional*):
            Seconds that one reset or step may take before its process is killed; no limit if not given.

    Raises:
        [`~trl_glam.types.InvalidInputError`]: if `make_env` cannot be sent to another process, or none comes up.
    """

    def __init__(
        self, make_env: Callable[[EpisodeKey], gym.Env], num_workers: int, timeout: float | None = None
    ) -> None:
        try:
            self._maker = pickle.dumps(make_env)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise InvalidInputError(
                f"env_workers={num_workers} makes the environments in other processes, and what makes them cannot be "
                f"sent there ({error}): give env_id (and env_module), or an environment_factory that is a class or a "
                "function at the top of a module."
            ) from error
        self.timeout = timeout
        self._workers = [_Worker(self._maker) for _ in range(num_workers)]
        self._episodes: dict[int, _Episode] = {}
        self._lost: dict[int, Failure] = {}
        try:
            for worker in self._workers:
                worker.wait_until_ready()
        except BaseException:
            self.close()
            raise

    def begin(self, episodes: Sequence[tuple[int, EpisodeKey]]) -> list[Outcome | Failure]:
        for slot, _ in episodes:
            self._episodes.pop(slot, None)
            self._lost.pop(slot, None)
        return self._exchange([("begin", slot, key) for slot, key in episodes])

    def step(self, actions: Sequence[tuple[int, int]]) -> list[Outcome | Failure]:
        return self._exchange([("step", slot, action) for slot, action in actions])

    def states(self, slots: Sequence[int]) -> list[dict[str, Any] | Failure | None]:
        return self._exchange([("state", slot) for slot in slots])

    def restore(self, saved: Sequence[tuple[int, EpisodeKey, dict[str, Any]]]) -> list[Outcome | Failure]:
        for slot, _, _ in saved:
            self._episodes.pop(slot, None)
            self._lost.pop(slot, None)
        return self._exchange([("restore", slot, key, state) for slot, key, state in saved])

    def environment(self, slot: int) -> gym.Env | None:
        return None

    def discard(self, slot: int) -> None:
        self._episodes.pop(slot, None)
        self._exchange([("discard", slot)])

    def close(self) -> None:
        for worker in self._workers:
            worker.ask_to_close()
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        for worker in self._workers:
            worker.end(max(deadline - time.monotonic(), 0.0))

    # -- exchanging

    def _exchange(self, requests: list[Request]) -> list[Any]:
        """Answers in the order of the requests; each process has one request at a time, the processes run abreast."""
        answers: list[Any] = [None] * len(requests)
        queues: dict[_Worker, deque[int]] = {}
        for number, request in enumerate(requests):
            queues.setdefault(self._workers[request[1] % len(self._workers)], deque()).append(number)
        while queues:
            for worker in list(queues):
                self._serve(worker, queues[worker], requests, answers)
                if not queues[worker]:
                    del queues[worker]
            if queues:
                deadlines = [worker.deadline for worker in queues if worker.deadline is not None]
                left = None if not deadlines else max(min(deadlines) - time.monotonic(), 0.0)
                wait([worker.connection for worker in queues], left)
        return answers

    def _serve(self, worker: _Worker, queue: deque[int], requests: list[Request], answers: list[Any]) -> None:
        """Take what a process has answered, and send it its next requests."""
        while queue:
            request = requests[queue[0]]
            if not worker.is_busy:
                if not worker.process.is_alive():
                    logger.warning("A process for environments died while nothing was asked of it; it is replaced.")
                    self._replace(worker)
                if request[1] in self._lost:
                    answers[queue.popleft()] = self._lost[request[1]]
                    continue
                worker.send(request, self.timeout)
            if not worker.poll():
                return
            answer = answers[queue.popleft()] = worker.answer
            if worker.is_broken:
                self._episodes.pop(request[1], None)
                self._replace(worker)
            elif isinstance(answer, Outcome):
                self._take_note(request, answer)

    def _take_note(self, request: Request, outcome: Outcome) -> None:
        """Remember at once what an environment has come to: the next request may cost it its process."""
        if request[0] == "step":
            self._episodes[request[1]].actions.append(request[2])
            self._episodes[request[1]].digest = outcome.digest
        else:
            _, slot, key, *state = request
            self._episodes[slot] = _Episode(key, outcome.digest, *state)

    # -- replacing a process

    def _replace(self, worker: _Worker) -> None:
        """Start a process anew, and bring back the environments that were in it and did nothing wrong."""
        index = self._workers.index(worker)
        worker.restart(self._maker)
        slots = [slot for slot in sorted(self._episodes) if slot % len(self._workers) == index]
        while slots:
            reason = self._replay(worker, slots[0])
            if reason is None:
                slots.pop(0)
                continue
            self._lost[slots[0]] = Failure(
                f"its process was killed because of another environment, and it does not come back by replay: {reason}"
            )
            del self._episodes[slots.pop(0)]
            if worker.is_broken:
                return self._replace(worker)

    def _replay(self, worker: _Worker, slot: int) -> str | None:
        """Bring one environment back; what is wrong with it, if it is not where it was."""
        episode = self._episodes[slot]
        first: Request = ("begin", slot, episode.key)
        if episode.state is not None:
            first = ("restore", slot, episode.key, episode.state)
        digest = None
        for request in (first, *(("step", slot, action) for action in episode.actions)):
            worker.send(request, self.timeout)
            while not worker.poll():
                wait([worker.connection], None if worker.deadline is None else worker.deadline - time.monotonic())
            if isinstance(worker.answer, Failure):
                return worker.answer.reason
            digest = worker.answer.digest
        return None if digest == episode.digest else "it says something else than before."


class _Worker:
    """One process, as its parent sees it. It has one request at a time."""

    def __init__(self, maker: bytes) -> None:
        self._start(maker)

    def _start(self, maker: bytes) -> None:
        context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
        if sys.platform != "win32":
            # What every process needs is imported once, in the server.
            context.set_forkserver_preload([__name__])
        self.connection, child = context.Pipe()
        self.process = context.Process(target=_work, args=(child, maker), name="trl_glam-env", daemon=True)
        with nullcontext() if b"__main__" in maker else _without_main():
            self.process.start()
        child.close()
        self.deadline: float | None = None
        self.answer: Any = None
        self.is_busy = False
        self.is_broken = False

    def wait_until_ready(self) -> None:
        try:
            if self.connection.poll(_START_TIMEOUT) and self.connection.recv() == "ready":
                return
        except (EOFError, ConnectionError):
            pass
        self.process.join(1.0)
        self.kill()
        raise InvalidInputError(
            f"A process for environments did not start (exit code {self.process.exitcode}); its own message is above. "
            "A script that defines its environments itself keeps what it does under `if __name__ == '__main__':`, "
            "because each process imports it."
        )

    def restart(self, maker: bytes) -> None:
        self.kill()
        self._start(maker)
        self.wait_until_ready()

    def send(self, request: Request, timeout: float | None) -> None:
        self.is_busy = True
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self._sent = time.monotonic()
        try:
            self.connection.send(request)
        except ConnectionError:
            pass  # it died while nobody asked: `poll` finds out

    def poll(self) -> bool:
        """Whether `answer` is there by now: the process's own, or a failure when there will be none."""
        try:
            if self.connection.poll():
                (self.answer,) = self.connection.recv()
                self.is_busy = False
                return True
        except (EOFError, ConnectionError):
            self.process.join(1.0)
            code = self.process.exitcode
            how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
            return self._give_up(f"its process died ({how}).")
        if self.deadline is not None and time.monotonic() >= self.deadline:
            waited = self.deadline - self._sent
            return self._give_up(f"it has not answered for {waited:g} seconds (env_timeout); its process was killed.")
        return False

    def _give_up(self, reason: str) -> bool:
        self.is_busy, self.is_broken = False, True
        self.kill()
        self.answer = Failure(reason)
        return True

    def ask_to_close(self) -> None:
        if self.connection.closed:
            return
        try:
            self.connection.send(None)
        except ConnectionError:
            pass  # it is gone already

    def end(self, timeout: float) -> None:
        self.process.join(timeout)
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


@contextmanager
def _without_main() -> Iterator[None]:
    """
    Spare new processes the import of the run's main script, which may hold a whole training: multiprocessing looks for
    it in `sys.modules`. Environments that are defined elsewhere do not need it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


# ---- in the other process -----------------------------------------------------------------------------------------


def _work(connection: Connection, maker: bytes) -> None:
    """Answer requests until there are no more."""
    # Ctrl-C reaches the whole group of processes: the run decides what happens then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    host = EnvironmentHost(pickle.loads(maker))
    connection.send("ready")
    methods: dict[str, Callable[..., Any]] = {
        "begin": host.begin,
        "step": host.step,
        "state": host.state,
        "restore": host.restore,
        "discard": host.discard,
    }
    while True:
        try:
            request = connection.recv()
        except (EOFError, ConnectionError):
            os._exit(0)
        if request is None:
            host.close()
            return
        name, *args = request
        connection.send((methods[name](*args),))


def _end_with_the_run() -> None:
    """A run that is killed cannot close its processes, and one that hangs would not notice."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
