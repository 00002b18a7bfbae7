# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""The loopback Hub as the Hub of this process, with fresh caches, and small policies and logs to push.

HF_ENDPOINT is read when huggingface_hub is imported, long before a test begins: every place that keeps it is patched.
`test_cli.py` sets the variable itself, for a process of its own.
"""

import re
import shutil
import time

import datasets
import huggingface_hub
import numpy as np
import pytest
import transformers
from huggingface_hub import constants

from tests.hub_server import TOKEN, HubServer
from tests.tiny_models import tiny_t5
from trl_glam import PromptTemplate, ScoringPolicy
from trl_glam.hub import client
from trl_glam.training_summary import TrainingSummary, curves_of


ENV_ID = "BabyAI-Text/GoToLocalS5N2-v0"
ACTIONS = ("turn left", "turn right", "go forward")
REPO = "org/policy"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with HubServer() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", server.url)
        monkeypatch.setattr(transformers.utils.hub.hf_api(), "endpoint", server.url)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", False)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets_cache")
        monkeypatch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
        for module in (huggingface_hub.utils._http, huggingface_hub.file_download):
            monkeypatch.setattr(module, "time", _NoSleep())
        monkeypatch.setattr(client, "WAITS", (0.01, 0.01, 0.01))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        huggingface_hub.utils.close_session()
        yield server


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return tiny_t5(tmp_path_factory.mktemp("base"))


class _NoSleep:
    """The module `time`, in a hurry."""

    def __getattr__(self, name):
        return getattr(time, name)

    def sleep(self, seconds):
        """Retries of huggingface_hub wait for seconds; nothing here needs them to."""


@pytest.fixture(scope="session")
def saved_once(tmp_path_factory, base):
    policy = ScoringPolicy.from_pretrained(
        base, temperature=2.0, calibration="prompts", prompt_template=PromptTemplate(num_observations=1)
    )
    prompts = [policy.prompt_template.render(f"go to the {c} ball", [["You see a wall"]], [], ACTIONS) for c in "abc"]
    policy.fit_value_normalizer(prompts)
    policy.calibrate(prompts, list(ACTIONS))
    folder = tmp_path_factory.mktemp("saved_once")
    policy.save_pretrained(folder)
    write_summary(folder)
    return folder


@pytest.fixture
def saved(tmp_path, saved_once):
    """A trained-looking policy: calibrated, with a fitted critic and a training summary."""
    return shutil.copytree(saved_once, tmp_path / "saved")


def write_summary(folder):
    rows = [{"env_steps": 100 * i, "rollout/success_rate": 0.1 * i} for i in range(6)]
    TrainingSummary(
        "GLAM",
        ENV_ID,
        {"actions": list(ACTIONS), "max_steps": 8},
        settings={"gamma": 0.95, "seed": 0},
        curves=curves_of(rows),
        tags=["babyai"],
    ).save(folder)


def scores(policy):
    prompts = [f"Goal of the agent: go to the {colour} ball \n Action 0: " for colour in ("red", "blue", "green")]
    output = policy.score(prompts, [list(ACTIONS)] * 3)
    return np.concatenate([output.logits.flatten().numpy(), output.values.numpy()])


def code_blocks(card):
    """The Python samples of a card."""
    return re.findall(r"```python\n(.*?)```", card, re.DOTALL)
