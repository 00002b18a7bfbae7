# Every target sets up what it needs in .venv and skips what is done.
#   make demo         train a real model by PPO on BabyAI-Text and show what it learned
#   make test         all tests that are not slow    make test-slow   the slow ones (real models, minutes each)
#   make test-faults  kill -9 at random moments, resumed and compared (a quarter of an hour of one core)
#   make quality      ruff and mypy                  make format      let ruff rewrite
#   make bench        all benchmarks, more than an hour of two cores; JSON in outputs/bench
#   make bench-check  some minutes of one core; fails when a ratio lost 15 % against the committed table
#   make docs         the documentation site, in site/
# Another environment, whose torch is kept: make demo VENV=/path/to/environment
# Another torch (PyTorch's CPU index avoids the CUDA libraries): make demo TORCH="torch==2.13.0 --index-url URL"

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
PY = $(VENV)/bin/python
RUN_STAMP = $(VENV)/.trl-glam-run
DEV_STAMP = $(VENV)/.trl-glam-dev
DOCS_STAMP = $(VENV)/.trl-glam-docs
DEEPSPEED_STAMP = $(VENV)/.trl-glam-deepspeed
# Two cores and several processes: one thread each, or they fight.
TEST_ENV = OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_TELEMETRY=1

.PHONY: demo test test-slow test-faults quality format bench bench-check docs install install-dev clean

demo: $(RUN_STAMP)
	$(PY) -m trl_glam demo

test: $(DEV_STAMP)
	$(TEST_ENV) $(PY) -m pytest -q -n 2 --dist loadgroup

test-slow: $(DEV_STAMP) $(DEEPSPEED_STAMP)
	$(TEST_ENV) $(PY) -m pytest -q -m slow

test-faults: $(DEV_STAMP) $(DEEPSPEED_STAMP)
	$(TEST_ENV) $(PY) -m pytest -q -m faults -s tests/faults tests/distributed

quality: $(DEV_STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(DEV_STAMP)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

BENCH = $(PY) benchmarks
BENCH_OUT = outputs/bench
T5 = local:flan-t5-small-titles
CAUSAL = local:smollm2-135m-instruct

bench: $(DEV_STAMP)
	mkdir -p $(BENCH_OUT)
	$(BENCH)/env_speed.py --output $(BENCH_OUT)/env_speed.json
	$(BENCH)/end_to_end.py --precision bf16 --output $(BENCH_OUT)/end_to_end_bf16.json
	$(BENCH)/end_to_end.py --precision fp32 --output $(BENCH_OUT)/end_to_end_fp32.json
	$(BENCH)/scoring_speed.py --models $(T5) --tokens 220 160 --output $(BENCH_OUT)/scoring_speed_t5.json
	$(BENCH)/scoring_speed.py --models $(T5) --tokens 500 --prompts 8 --output $(BENCH_OUT)/scoring_speed_t5_long.json
	$(BENCH)/scoring_speed.py --models $(CAUSAL) --tokens 220 160 --prompts 4 --output $(BENCH_OUT)/scoring_speed_smollm2.json
	$(BENCH)/scoring_speed.py --models $(CAUSAL) --tokens 500 --prompts 2 --output $(BENCH_OUT)/scoring_speed_smollm2_long.json
	$(BENCH)/scoring_speed.py --actions --prompts 8 --output $(BENCH_OUT)/actions.json
	$(BENCH)/update_speed.py --models $(T5) --output $(BENCH_OUT)/update_speed_t5.json
	$(BENCH)/update_speed.py --models $(T5) --samples 2 --precisions float64 --output $(BENCH_OUT)/update_float64.json
	$(BENCH)/update_speed.py --models $(CAUSAL) --samples 2 --output $(BENCH_OUT)/update_speed_smollm2.json
	$(BENCH)/scaling.py --output $(BENCH_OUT)/scaling.json --plot $(BENCH_OUT)/scaling.png
	$(BENCH)/append_only.py --output $(BENCH_OUT)/append_only.json
	$(BENCH)/token_shares.py --output $(BENCH_OUT)/token_shares.json
	$(BENCH)/update_options.py --output $(BENCH_OUT)/update_options_t5.json
	$(BENCH)/memory_table.py
	$(BENCH)/log_cost.py --output $(BENCH_OUT)/log_cost.json
	$(BENCH)/bootstrap_coverage.py

bench-check: $(DEV_STAMP)
	$(BENCH)/bench_check.py

# Any warning fails the build: a broken link, a name that is gone, a docstring that cannot be read.
docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build -q --strict

install: $(RUN_STAMP)
install-dev: $(DEV_STAMP)

# torch comes first and is then left alone: a torch that is already there stays, whatever its version.
$(PY):
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trl_glam needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.trl-glam-torch: | $(PY)
	$(PY) -c 'import torch' 2>/dev/null || $(PY) -m pip install -q $(TORCH)
	touch $@

$(VENV)/.trl-glam-constraints: constraints.txt | $(VENV)/.trl-glam-torch
	grep -v '^torch==' constraints.txt > $@

$(RUN_STAMP): pyproject.toml $(VENV)/.trl-glam-constraints
	$(PY) -m pip install -q -e '.[local]' -c $(VENV)/.trl-glam-constraints
	touch $@

$(DEV_STAMP): pyproject.toml $(VENV)/.trl-glam-constraints
	$(PY) -m pip install -q -e '.[local,test,dev]' -c $(VENV)/.trl-glam-constraints
	touch $@ $(RUN_STAMP)

# Its kernels are left out: they would be compiled, and nothing here uses them.
$(DEEPSPEED_STAMP): pyproject.toml $(VENV)/.trl-glam-constraints
	DS_BUILD_OPS=0 $(PY) -m pip install -q -e '.[deepspeed]' -c $(VENV)/.trl-glam-constraints
	touch $@

$(DOCS_STAMP): pyproject.toml $(VENV)/.trl-glam-constraints
	$(PY) -m pip install -q -e '.[docs]' -c $(VENV)/.trl-glam-constraints
	touch $@

clean:
	rm -rf build dist outputs .pytest_cache .ruff_cache .mypy_cache
