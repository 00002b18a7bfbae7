# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`python -m trl_glam COMMAND ...`: the same as `trl-glam COMMAND ...`."""

from trl_glam.cli.main import main


if __name__ == "__main__":
    raise SystemExit(main())
