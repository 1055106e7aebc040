#!/usr/bin/env bash
# What needs CUDA: compiles the device code, runs it against the CPU, and runs the tests marked "gpu".
# Without a GPU it compiles and says that nothing ran. GPU_ARCH chooses the architectures.
set -euo pipefail
cd "$(dirname "$0")/.."
architectures=${GPU_ARCH:-sm_75 sm_86 sm_87 sm_89 sm_90 sm_120}

if ! command -v nvcc >/dev/null; then
  echo "There is no CUDA compiler (nvcc) on PATH: no device code was compiled." >&2
  exit 1
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
codes=()
for arch in $architectures; do
  codes+=(-gencode "arch=compute_${arch#sm_},code=$arch")
done
nvcc -std=c++17 -O2 --Werror all-warnings -Xcompiler -Wall,-Wextra,-Werror "${codes[@]}" \
  plugins/multilateration/smoke.cu -o "$out/smoke"
echo "Compiled the solver for $architectures."

if ! nvidia-smi -L 2>/dev/null; then
  echo "There is no NVIDIA GPU here: the device code compiles, and nothing of it was run."
  exit 0
fi
"$out/smoke"
python=.venv/bin/python
[ -x "$python" ] || python=python3
status=0
"$python" -m pytest -m gpu || status=$?
if [ "$status" = 5 ]; then # pytest's code for "no tests"
  echo "No test is marked gpu yet."
  status=0
fi
exit "$status"
