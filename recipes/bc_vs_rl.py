# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Online RL against behaviour cloning of the same data, end to end, for `accelerate launch`:

accelerate launch recipes/bc_vs_rl.py --config bc_vs_rl --output_dir outputs/bc_vs_rl

PPO and behaviour cloning run on all processes; collecting and evaluating on the first one, the others wait for its
files. Several machines need a folder that all of them see.
"""

import sys

from trl_glam.cli.main import main


if __name__ == "__main__":
    sys.exit(main(["bc-vs-rl", *sys.argv[1:]]))
