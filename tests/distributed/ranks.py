# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The processes of a launcher, kept for several jobs: started once by `torchrun` or `accelerate launch`, each forks a
child for every job, which is then a process of that launcher's environment like any other. A run takes seconds so,
and a job that fails or is killed leaves the rest alone.

    torchrun --nproc_per_node 2 -m tests.distributed.ranks FOLDER PID

Jobs are files `job-N.json` in FOLDER; each process answers with `job-N-RANK.pid` and, in the end, `job-N-RANK.exit`.
All end when the process PID does, or when `stop` is there.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import tests.distributed.job


ROOT = Path(__file__).parents[2]
# The slowest start that was seen on a loaded machine took a minute.
PATIENCE = 240.0  # seconds


class Ranks:
    """
    Starts a launcher and gives its processes jobs.

    Args:
        launchers (`list[list[str]]`):
            Commands that start the processes: one, or one for each machine.
        world_size (`int`):
            Number of processes they start together.
        folder (`Path`):
            Where jobs and outputs go.
        environ (`dict[str, str]`, *optional*):
            Added to the environment.
    """

    def __init__(
        self, launchers: list[list[str]], world_size: int, folder: Path, environ: dict[str, str] | None = None
    ) -> None:
        self.folder, self.world_size, self._number = folder, world_size, 0
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", **(environ or {})}
        program = ["-m", "tests.distributed.ranks", str(folder), str(os.getpid())]
        self._output = (folder / "launcher.txt").open("w+")
        self._launchers = [
            subprocess.Popen([*command, *program], cwd=ROOT, env=environment, stdout=self._output, stderr=self._output)
            for command in launchers
        ]

    def close(self) -> None:
        """End the processes and the launchers."""
        (self.folder / "stop").touch()
        for launcher in self._launchers:
            launcher.wait(120)
        self._output.close()

    def start(self, job: dict[str, Any]) -> int:
        """Hand a job to all processes; returns its number."""
        self._number += 1
        Path(job["folder"]).mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        text = json.dumps({**job, "port": port})
        path = self.folder / f"job-{self._number}.json"
        path.with_suffix(".tmp").write_text(text, encoding="utf-8")
        path.with_suffix(".tmp").rename(path)
        return self._number

    def pid(self, number: int, rank: int) -> int:
        """The process that plays a rank of a job."""
        return int(self._answer(f"job-{number}-{rank}.pid"))

    def wait(self, number: int) -> list[int]:
        """Exit codes of all processes of a job, negative for signals."""
        return [int(self._answer(f"job-{number}-{rank}.exit")) for rank in range(self.world_size)]

    def run(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """Play a job to its end; the facts of every process."""
        number = self.start(job)
        assert self.wait(number) == [0] * self.world_size, self.said(number)
        return [
            json.loads(Path(job["folder"], f"facts-{rank}.json").read_text(encoding="utf-8"))
            for rank in range(self.world_size)
        ]

    def said(self, number: int) -> str:
        """What the processes of a job printed."""
        paths = [self.folder / f"job-{number}-{rank}.txt" for rank in range(self.world_size)]
        return "\n".join(f"-- {path.name}\n{path.read_text()[-4000:]}" for path in paths if path.exists())

    def _answer(self, name: str) -> str:
        path, deadline = self.folder / name, time.monotonic() + PATIENCE
        while not path.exists():
            self._output.flush()
            assert time.monotonic() < deadline, f"{name} does not come: {self._launcher_said()}"
            assert all(launcher.poll() is None for launcher in self._launchers), self._launcher_said()
            time.sleep(0.02)
        return path.read_text()

    def _launcher_said(self) -> str:
        return Path(self._output.name).read_text()[-4000:]


def torchrun(world_size: int = 2) -> list[str]:
    """`torchrun` of this environment, on this machine alone."""
    options = ["--nproc_per_node", str(world_size), "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]
    return [sys.executable, "-m", "torch.distributed.run", *options]


def _serve(folder: Path, parent: int) -> None:
    number, rank = 0, int(os.environ["RANK"])
    while not (folder / "stop").exists() and Path(f"/proc/{parent}").exists():
        path = folder / f"job-{number + 1}.json"
        if not path.exists():
            time.sleep(0.05)
            continue
        number += 1
        child = os.fork()
        if child == 0:
            _play(json.loads(path.read_text(encoding="utf-8")), folder / f"job-{number}-{rank}.txt")
        _write(folder / f"job-{number}-{rank}.pid", child)
        _, status = os.waitpid(child, 0)
        _write(folder / f"job-{number}-{rank}.exit", os.waitstatus_to_exitcode(status))


def _write(path: Path, number: int) -> None:
    path.with_suffix(".new").write_text(str(number))
    path.with_suffix(".new").rename(path)


def _play(job: dict[str, Any], output: Path) -> None:
    code = 1
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        # The launcher's own store is taken: every job has one of its own.
        os.environ |= {"MASTER_PORT": str(job["port"]), "TORCHELASTIC_USE_AGENT_STORE": "False"}
        tests.distributed.job.run(job)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
