#!/usr/bin/env bash
# What needs CUDA: compiles the plugin, the preprocessing library and their harnesses, runs the kernels against the CPU and times them, runs
# them under compute-sanitizer, and runs the tests marked "gpu". Without a GPU it compiles and says that nothing ran. Needs nvcc, but no
# CMake and no TensorRT; without TensorRT's headers the plugin is left out, which counts as a failure.
#
#   KEYPOSS_TENSORRT_INCLUDE_DIR, TENSORRT_ROOT   where TensorRT's headers are, if not installed nor in .venv/tensorrt-headers
#   GPU_ARCH                                      architectures, such as "sm_86 sm_87"; the GPU's own if there is one
#   GPU_CHECK_FOLDER                              where the products stay; a temporary folder if not set
set -euo pipefail
cd "$(dirname "$0")/.."
multilateration=plugins/multilateration preprocess=plugins/preprocess

if ! command -v nvcc >/dev/null; then
  echo "There is no CUDA compiler (nvcc) on PATH: no device code was compiled." >&2
  exit 1
fi
headers=
for folder in "${KEYPOSS_TENSORRT_INCLUDE_DIR:-}" "${TENSORRT_ROOT:-}" "${TENSORRT_ROOT:-}/include" .venv/tensorrt-headers \
  /usr/include/x86_64-linux-gnu /usr/include/aarch64-linux-gnu; do
  if [ -n "$folder" ] && [ -f "$folder/NvInferRuntime.h" ]; then
    headers=$folder
    break
  fi
done

gpu=$(nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader 2>/dev/null | head -n 1) || gpu=
own=$(printf '%s' "$gpu" | sed -n 's/.*, \([0-9]*\)\.\([0-9]*\)$/sm_\1\2/p')
architectures=${GPU_ARCH:-${own:-sm_75 sm_80 sm_86 sm_87 sm_89 sm_90 sm_120}}
codes=()
for arch in $architectures; do
  codes+=(-gencode "arch=compute_${arch#sm_},code=$arch")
done

out=${GPU_CHECK_FOLDER:-$(mktemp -d)}
[ -n "${GPU_CHECK_FOLDER:-}" ] || trap 'rm -rf "$out"' EXIT
mkdir -p "$out"
compile() {
  nvcc -std=c++17 -O3 -lineinfo --Werror all-warnings -Xcompiler -Wall,-Wextra,-Wconversion,-Wshadow,-Werror \
    -cudart static "${codes[@]}" "$@"
}
# $1: the map of the functions that it shows
compile_library() {
  compile -shared -Xcompiler -fPIC,-fvisibility=hidden -Xlinker "--version-script=$1" "${@:2}"
}

status=0 # what fails does not keep the rest from running
names=()
compile_library "$preprocess/preprocess_library.map" "$preprocess"/preprocess_{kernel.cu,library.cpp} -o "$out/preprocess.so"
compile "$preprocess"/harness/{main,gpu,timing}.cpp "$multilateration/harness/empty.cu" -ldl -o "$out/preprocess_harness"
names+=(preprocess)
if [ -n "$headers" ]; then
  compile_library "$multilateration/plugin_library.map" -isystem "$headers" \
    "$multilateration"/multilateration_{kernel.cu,plugin.cpp,creator.cpp,attributes.cpp} "$multilateration"/plugin_{log,library}.cpp -ldl \
    -o "$out/multilateration.so"
  compile -isystem "$headers" "$multilateration"/harness/{main,creation,contract,gpu,timing}.cpp "$multilateration/harness/empty.cu" -ldl \
    -o "$out/multilateration_harness"
  names+=(multilateration)
else
  echo "TensorRT's headers were not found, so the plugin is not checked: set KEYPOSS_TENSORRT_INCLUDE_DIR, or run make .venv/.headers to" \
    "download them." >&2
  status=1
fi
echo "Compiled for $architectures: ${names[*]}."

for name in "${names[@]}"; do
  "$out/${name}_harness" "$out/$name.so" || status=1
done
if [ -z "$gpu" ]; then
  echo "There is no NVIDIA GPU here: the device code compiles, and nothing of it was run."
  exit "$status"
fi

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
if [ -n "$sanitizer" ]; then
  for name in "${names[@]}"; do
    for tool in memcheck racecheck initcheck synccheck; do
      echo "compute-sanitizer --tool $tool: $name"
      "$sanitizer" --tool "$tool" --error-exitcode 9 "$out/${name}_harness" "$out/$name.so" --brief || status=1
    done
  done
else
  echo "There is no compute-sanitizer here: memory and races were not checked."
fi

python=.venv/bin/python
[ -x "$python" ] || python=python3
if ! "$python" -c 'import pytest, numpy, keyposs_trt.training' 2>/dev/null; then # the checkout alone is no installation
  echo "pytest or keyposs-trt is not installed here: the tests marked gpu did not run."
  exit "$status"
fi
tested=0
"$python" -m pytest -m gpu || tested=$?
[ "$tested" = 0 ] || [ "$tested" = 5 ] || status=1 # 5 is pytest's code for "no tests"
exit "$status"
