# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Behaviour cloning from a recipe, for `accelerate launch`. One process or many, the recipe means the same:

accelerate launch recipes/bc.py --config paper/bc_bot --dataset_name logs/bot --output_dir outputs/bc_bot
torchrun --nproc_per_node 2 recipes/bc.py --config paper/bc_bot --dataset_name logs/bot --use_cpu true
"""

import sys

from trl_glam.cli.main import main


if __name__ == "__main__":
    sys.exit(main(["bc", *sys.argv[1:]]))
