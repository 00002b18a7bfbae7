# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Ends a run whose environment hangs in the run's own process, and says which one it was.

Python cannot stop a call from outside, so the watchdog first does what Ctrl-C does, which breaks Python code and
waiting system calls, and the run ends with an ordinary error. Code that does not react is left to the last resort: the
message, where every thread stands, and the end of the process. A C extension that never gives the interpreter back
stops the watchdog too; environments in processes of their own (`workers.py`) are killed whatever they do.
"""

from __future__ import annotations

import _thread
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any


class Hang(Exception):
    """A call took longer than it may."""


class Watchdog:
    """
    Watches calls of one thread, one at a time.

    Args:
        timeout (`float`):
            Seconds a call may take.
        grace (`float`, *optional*, defaults to `10.0`):
            Further seconds it has to react to the interrupt, before the process ends.
    """

    def __init__(self, timeout: float, grace: float = 10.0) -> None:
        self.timeout = timeout
        self.grace = grace
        self._lock = threading.Lock()
        self._message: Callable[[], str] | None = None
        self._deadline = 0.0
        self._interrupted = False
        self._caller: threading.Thread | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def call(self, message: Callable[[], str], function: Callable, *args: Any) -> Any:
        """
        Call a function.

        Args:
            message (`Callable[[], str]`):
                Says what hangs, if it does.
            function (`Callable`), args:
                What to call.

        Returns:
            What the function returns.

        Raises:
            [`Hang`]: when it took longer than it may.
        """
        if self._thread is None:
            _hear_interrupts()
            self._thread = threading.Thread(target=self._watch, name="trl_glam-watchdog", daemon=True)
            self._thread.start()
        with self._lock:
            self._interrupted = False
            self._caller = threading.current_thread()
            self._deadline = time.monotonic() + self.timeout
            self._message = message
        try:
            try:
                result = function(*args)
            finally:
                self._message = None
                with self._lock:
                    pass  # a watchdog that is about to interrupt does it now, or never
            if self._interrupted:
                time.sleep(0.1)  # the call swallowed the interrupt, or it is still on its way
        except KeyboardInterrupt:
            if not self._interrupted:
                raise
        if self._interrupted:
            raise Hang(message())
        return result

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(min(self.timeout / 4, 1.0)):
            with self._lock:
                message, late = self._message, time.monotonic() - self._deadline
                if message is None or late < 0:
                    continue
                # A signal reaches the main thread alone.
                in_main = self._caller is threading.main_thread()
                if in_main and not self._interrupted:
                    self._interrupted = True
                    _interrupt_main()
                elif not in_main or late > self.grace:
                    _end_process(message())


# Interrupts that watchdogs have sent and that have not arrived yet.
_under_way: list[bool] = []


def _hear_interrupts() -> None:
    """
    A run that a script starts in the background ignores SIGINT, and a watchdog's would be lost there too: it is heard,
    all others stay ignored.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, _on_interrupt)


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    if _under_way:
        _under_way.clear()
        raise KeyboardInterrupt


def _interrupt_main() -> None:
    _under_way.append(True)
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        # To the thread itself, so that a system call it waits in returns.
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def _end_process(message: str) -> None:
    sys.stderr.write(f"{message} It does not react to an interrupt, so the process ends here.\n")
    sys.stderr.flush()
    faulthandler.dump_traceback(file=sys.__stderr__, all_threads=True)
    os._exit(1)
