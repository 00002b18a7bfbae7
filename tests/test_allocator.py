# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Freed memory stays with the process when it was asked for, and only then."""

import os
import platform
import subprocess
import sys

import pytest


# Page faults of twenty rounds that take and free three blocks, which glibc by itself gives back at the end of each.
COUNT_FAULTS = """
import resource, sys
import numpy as np
from trl_glam.allocator import keep_freed_memory

def rounds():
    for _ in range(20):
        blocks = [np.ones(6 * 2**20, np.float32) for _ in range(3)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

done = keep_freed_memory() if sys.argv[1] == "keep" else None
before = rounds()
print(done, rounds() - before)
"""


def faults(mode: str, **environment: str) -> tuple[str, int]:
    glibc = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}
    output = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS, mode], env=glibc | environment, capture_output=True, text=True, check=True
    ).stdout
    done, count = output.split()
    return done, int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators have no such settings")
def test_freed_memory_stays_and_its_pages_are_not_cleared_again():
    plain, kept = faults("plain"), faults("keep")
    assert plain[0] == "None" and kept[0] == "True"
    # 20 x 72 MiB are 368,640 pages of 4 KiB.
    assert plain[1] > 1000 > 10 * kept[1]


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_settings_of_the_user_win(name):
    assert faults("keep", **{name: "" if name == "GLIBC_TUNABLES" else "131072"})[0] == "False"
