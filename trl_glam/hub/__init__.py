# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""To the Hub and back: what leaves is staged, scanned and committed at once; what comes is checked."""

from .import_lamorel import import_lamorel
from .pull import pull
from .push import prepare_log, prepare_policy, push_log, push_policy


__all__ = ["import_lamorel", "prepare_log", "prepare_policy", "pull", "push_log", "push_policy"]
