#!/usr/bin/env bash
# Runs the unit tests on each Python that is claimed, besides the one of .venv, as far as this machine has it.
# PyTorch is left out: its builds for a CPU are not to be had everywhere, and the unit tests need none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Prints the path of an interpreter, on PATH or among those of pyenv.
interpreter() {
  local candidate
  for candidate in "$(command -v "python$1" || true)" "$(pyenv root 2>/dev/null || true)"/versions/"$1".*/bin/python; do
    if [ -x "$candidate" ] && "$candidate" -c '' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
}

for version in "$@"; do
  python=$(interpreter "$version")
  if [ -z "$python" ]; then
    echo "Python $version is not on this machine: not tested"
    continue
  fi
  venv=.venv-$version
  if [ ! -e "$venv/.installed" ] || [ pyproject.toml -nt "$venv/.installed" ]; then
    "$python" -m venv "$venv"
    "$venv/bin/python" - > "$venv/requirements.txt" <<'PYTHON'
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
needed = [*project["dependencies"], *project["optional-dependencies"]["test"]]
print(*(line for line in needed if not line.startswith(("torch>", "accelerate>"))), sep="\n")
PYTHON
    install=("$venv/bin/python" -m pip install --disable-pip-version-check --quiet)
    "${install[@]}" -c constraints.txt -r "$venv/requirements.txt"
    "${install[@]}" --no-deps -e .
    touch "$venv/.installed"
  fi
  echo "Python $version:"
  OMP_NUM_THREADS=1 "$venv/bin/pytest" -n 2 --dist worksteal -q -m "not slow and not cluster and not torch" \
    -k "not (replay or forecast or outlook or time_left or pruning or estimate)" tests/unit
done
