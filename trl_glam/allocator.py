# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Memory that is freed stays with the process, for models that run on a processor.

glibc gives large blocks back to the system as soon as they are freed, and the system clears their pages before they
are handed out again. The layers of a model allocate and free the same megabytes hundreds of times a forward, and a
tenth of its time went there. The process then keeps what it needed at its peak.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any


# From <malloc.h>. Blocks above the larger threshold are mapped and given back as before; glibc allows no more.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_TRIM_THRESHOLD, _MMAP_THRESHOLD = 2**31 - 1, 32 * 2**20


def keep_freed_memory() -> bool:
    """
    Tell glibc to keep what is freed, for the rest of the process.

    Returns:
        `bool`: whether it was done; not where there is no glibc, and not if the environment has settings of its own
        (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_` or `GLIBC_TUNABLES`).
    """
    chosen = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys()
    if chosen:
        return False
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD))


def give_back_freed_memory() -> None:
    """Return what has been freed and kept to the system now, where glibc can."""
    if (malloc_trim := _glibc("malloc_trim")) is not None:
        malloc_trim(0)


def _glibc(name: str) -> Any | None:
    """A function of glibc; `None` on other systems."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
