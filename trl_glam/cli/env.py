# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""`trl-glam env`: versions and hardware as a Markdown list for bug reports, without paths and user names."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform


PACKAGES = (
    "trl-glam", "trl", "transformers", "torch", "datasets", "accelerate", "peft", "tokenizers", "safetensors",
    "huggingface_hub", "minigrid", "gymnasium", "numpy", "scipy", "matplotlib",
    "deepspeed", "bitsandbytes", "textworld", "onnx", "gguf", "tensorboard", "trackio",
)  # fmt: skip


def version(package: str) -> str:
    """The installed version of a distribution, or `not installed`."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="trl-glam env", description="Print versions and hardware, for bug reports.")
    parser.parse_args(argv)
    import torch

    print(f"- Platform: {platform.platform()}")
    print(f"- Python: {platform.python_version()}")
    for package in PACKAGES:
        print(f"- {package}: {version(package)}")
    print(f"- CPU cores: {os.cpu_count()}; torch threads: {torch.get_num_threads()}")
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    print(f"- GPUs: {', '.join(devices) or 'none'} (CUDA {torch.version.cuda})")
    return 0
