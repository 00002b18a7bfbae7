# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Interaction logs as Datasets: written while rolling out, read back as rows, episodes or text, and replayed."""

from .collect import Collected, collect_log
from .dataset import InteractionLog, StreamedInteractionLog, load_log
from .replay import Difference, VerifyReport, verify_log
from .schema import FEATURES, SCHEMA_VERSION, columns_markdown
from .writer import LogWriter


__all__ = [
    "FEATURES",
    "SCHEMA_VERSION",
    "Collected",
    "Difference",
    "InteractionLog",
    "LogWriter",
    "StreamedInteractionLog",
    "VerifyReport",
    "collect_log",
    "columns_markdown",
    "load_log",
    "verify_log",
]
