#!/usr/bin/env bash
# Everything that is to be known of one GPU, in pieces that fit any time limit: bash benchmarks/gpu.sh MINUTES [OPTIONS]
#
# Checks on the card that packed scores are the plain ones and that the first pass has a ratio of 1, measures the speed
# table, then trains recipes/gpu/gotolocal.yaml. When MINUTES are over it saves a checkpoint and ends; the same command
# goes on from there, and skips what is done. Results, curve and adapter: outputs/gpu (--output DIR). --tiny walks
# the whole way with a tiny model in a minute, on a CPU too. PYTHON=/path/to/python picks the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ ! "${1:-}" =~ ^[0-9]+(\.[0-9]+)?$ ]]; then
  echo "usage: bash benchmarks/gpu.sh MINUTES [--output DIR] [--tiny]" >&2
  exit 2
fi
python="${PYTHON:-.venv/bin/python}"
[[ -x "$(command -v "$python")" ]] || python=python
exec "$python" benchmarks/gpu.py --minutes "$@"
