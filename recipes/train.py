# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""PPO from a recipe, for `accelerate launch`. One process or many, the recipe means the same:

accelerate launch recipes/train.py --config recipes/paper/gotolocal.yaml --output_dir outputs/gotolocal
torchrun --nproc_per_node 2 recipes/train.py --config quickstart --use_cpu true --output_dir outputs/quickstart
"""

import sys

from trl_glam.cli.main import main


if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
