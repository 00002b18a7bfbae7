# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The command line: one file a command, each with `main(argv) -> exit code`; `main.py` picks the file."""
