# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Success rates of a policy, for `accelerate launch`: the processes share the episodes, the numbers are those of one.

accelerate launch --num_processes 4 recipes/eval.py outputs/gotolocal --suite no_change --output_dir outputs/eval
torchrun --nproc_per_node 2 recipes/eval.py outputs/gotolocal --suite no_change --output_dir outputs/eval

Each process holds the whole policy.
"""

import sys

from trl_glam.cli.main import main


if __name__ == "__main__":
    sys.exit(main(["eval", *sys.argv[1:]]))
