# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What the agent learned and does, as one static page: curves, tables and an episode viewer."""

from .page import write_report


__all__ = ["write_report"]
