#!/usr/bin/env bash
# Gradescope runs this once, as root, while it builds the image: a Python, torch for CPUs, and the grader.
set -euo pipefail

root="${AUTOGRADER_ROOT:-/autograder}"
source="$root/source"
chmod 700 "$source"
chmod 600 "$source/hidden-seed" "$source/rubric.toml"

# Python 3.11 or newer, with venv: the image's own, else the distribution's, else one that uv fetches.
works() { command -v "$1" > /dev/null && "$1" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }
find_python() { for python in python3.12 python3.11 python3; do works "$python" && return; done; return 1; }

if ! find_python; then
    apt-get update -qq || true
    for version in 3.12 3.11; do
        apt-get install -y -qq "python$version" "python$version-venv" > /dev/null 2>&1 && break
    done
fi
if find_python; then
    "$python" -m venv "$root/venv"
else
    python3 -m pip install -q uv
    python3 -m uv venv --quiet --seed --python 3.12 "$root/venv"
fi

# Versions are those that the project is tested with. Torch without CUDA, gigabytes smaller, has an index of its own;
# where that cannot be reached, the usual torch does as well.
pip() { "$root/venv/bin/python" -m pip install -q -c "$source/project/constraints.txt" "$@"; }
pip --no-deps --retries 1 --index-url https://download.pytorch.org/whl/cpu torch torchvision || true
pip "$source/project"
"$root/venv/bin/python" -m compileall -q "$root/venv" > /dev/null || true
