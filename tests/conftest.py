# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""What every test shares: one thread a process, no usage ping, no Hub, a datasets cache of its own, and the real
models of the package index."""

import os


# Before torch and huggingface_hub are imported: they read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import pytest  # noqa: E402

from trl_glam.local_models import resolve_model  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def datasets_cache(tmp_path_factory):
    """`load_dataset` copies what it reads: not into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="session")
def real_t5() -> str:
    """Folder of the real encoder-decoder model, fetched on first use; mark the test `real`, or `slow`."""
    return resolve_model("local:flan-t5-small-titles")


@pytest.fixture(scope="session")
def real_causal() -> str:
    """Folder of the real causal model, fetched on first use; mark the test `real`, or `slow`."""
    return resolve_model("local:smollm2-135m-instruct")
