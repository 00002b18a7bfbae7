# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Starts short runs, kills them with SIGKILL in a chosen phase, and reads what came out in the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple


ROOT = Path(__file__).parents[2]


class Kill(NamedTuple):
    """Where a run died: the phase it was in, which one of its kind, and how far into it."""

    phase: str
    number: int
    seconds: float


class Runs:
    """Short runs, each a process of its own; one program forks them all."""

    def __init__(self, model: str, folder: Path, **job: Any) -> None:
        self.folder, self.job = folder, {"model": model, **job}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._program = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.short_run"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment | {"HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"},
        )
        assert self._program.stdout.readline() == "ready\n"
        self._durations: dict[str, list[float]] = {}

    def close(self) -> None:
        self._program.stdin.close()
        self._program.wait(30)
        self._program.stdout.close()

    def unbroken(self) -> dict[str, Any]:
        """Run to the end; how long each phase took says later where to kill."""
        child, events = self._start("unbroken")
        began = {}
        with events:
            for line in events:
                phase, what = line.split()
                if what == "begins":
                    began[phase] = time.monotonic()
                else:
                    self._durations.setdefault(phase, []).append(time.monotonic() - began[phase])
        assert self._wait(child) == 0, self.said("unbroken")
        return self.outcome("unbroken")

    def kill_in(self, name: str, phase: str, draw: random.Random, part: float = 0.9) -> Kill | None:
        """
        Start (or go on with) a run and kill it at a random moment of a phase.

        Args:
            name (`str`):
                The run.
            phase (`str`):
                Where to kill it.
            draw (`random.Random`):
                Draws which phase of that kind, and when in it.
            part (`float`, *optional*, defaults to `0.9`):
                How many of the phases of an unbroken run to draw from; a resumed run has fewer.

        Returns:
            [`Kill`] or `None`: where it died, which under load may be in a later phase; `None` when it came to its end
            before.
        """
        child, events = self._start(name)
        durations = self._durations.get(phase, [0.05])
        number = draw.randrange(max(1, round(part * len(durations))))
        delay = draw.random() * durations[number]
        seen, now, since = 0, "between", time.monotonic()
        with events:
            for line in events:
                if line == f"{phase} begins\n":
                    seen += 1
                    now, since = phase, time.monotonic()
                    if seen > number:
                        time.sleep(delay)
                        os.kill(child, signal.SIGKILL)
                        break
            killed = time.monotonic()
            for line in events:  # what it still said before the signal reached it
                now = line.split()[0] if line.endswith("begins\n") else "between"
        code = self._wait(child)
        assert code in (0, -signal.SIGKILL), self.said(name)
        return None if code == 0 else Kill(now, number, killed - since)

    def finish(self, name: str) -> dict[str, Any]:
        """Go on with a run to its end."""
        child, events = self._start(name)
        with events:
            for _ in events:
                pass
        assert self._wait(child) == 0, self.said(name)
        return self.outcome(name)

    def checkpoints(self, name: str) -> list[str]:
        """The checkpoints that a run has left, with a mark where one is not whole."""
        found = sorted(self.folder.glob(f"{name}/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        return [path.name if (path / "manifest.json").is_file() else f"{path.name} (cut)" for path in found]

    def outcome(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / name / "outcome.json").read_text(encoding="utf-8"))

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.txt").read_text(encoding="utf-8")[-3000:]

    def _start(self, name: str):
        channel = self.folder / f"{name}.events"
        channel.unlink(missing_ok=True)
        os.mkfifo(channel)
        child = int(self._ask({**self.job, "folder": str(self.folder / name), "events": str(channel)}))
        return child, _open_events(channel)

    def _wait(self, child: int) -> int:
        return int(self._ask({"wait": child}))

    def _ask(self, job: dict[str, Any]) -> str:
        self._program.stdin.write(json.dumps(job) + "\n")
        self._program.stdin.flush()
        return self._program.stdout.readline()


def _open_events(channel: Path):
    """The reading end; a child that fails before it opens the writing end must not block us for ever."""
    reader = os.open(channel, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    # Until somebody writes, a read says the end at once.
    deadline = time.monotonic() + 300
    first = b""
    while not first and time.monotonic() < deadline:
        first = os.read(reader, 1)
        if not first:
            time.sleep(0.002)
    return _Lines(os.fdopen(reader, "r", encoding="utf-8", buffering=1), first.decode())


class _Lines:
    """The lines of a channel whose first character was read already."""

    def __init__(self, file, first: str) -> None:
        self.file, self.first = file, first

    def __iter__(self):
        return self

    def __next__(self) -> str:
        line, self.first = self.first + self.file.readline(), ""
        if not line:
            raise StopIteration
        return line

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()
