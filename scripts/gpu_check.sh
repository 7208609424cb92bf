#!/usr/bin/env bash
# Everything that needs a GPU, in one command: build, tests, memory and race checks, speed, a short training.
#
#   scripts/gpu_check.sh [PYTHON]        PYTHON has torch with CUDA, pytest, nanobind, cmake, ninja and what
#                                        pyproject.toml lists; cocogs itself need not be installed
#
# Takes under 9 minutes on an H200. Prints a table at the end; exits with 1 if any part failed. The logs
# stay in build/gpu_check. Parts whose program is not on the machine are called absent, not passed.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
logs=build/gpu_check
mkdir -p "$logs"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" CUDAARCHS=${CUDAARCHS:-native}
export TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-9.0} MAX_JOBS=${MAX_JOBS:-16}  # for gsplat's own build
failed=0
table=$(printf '%-34s %-8s %s' part result seconds)

# part NAME SECONDS LOG COMMAND...: runs a command under a time limit and adds a line to the table.
part() {
  local name=$1 limit=$2 log=$logs/$3 began=$SECONDS result=passed
  shift 3
  echo "== $name"
  timeout "$limit" "$@" >"$log" 2>&1 || { result=FAILED; failed=1; }
  tail -n 25 "$log"
  table+=$'\n'$(printf '%-34s %-8s %s' "$name" $result $((SECONDS - began)))
}
absent() { table+=$'\n'$(printf '%-34s %-8s %s' "$1" absent -); }

build() {
  cmake -S . -B build/gpu -G Ninja -DPython_EXECUTABLE="$(command -v "$python")" &&
    cmake --build build/gpu && cp build/gpu/_native*.so build/gpu/_cuda*.so cocogs/
}
# A training on the GPU with its evaluation; the figures are in the log.
train() {
  rm -rf "$logs/run" &&
    "$python" -m cocogs train data/demo --out "$logs/run" --iterations 1000 --max-gaussians 60000 --device cuda &&
    "$python" -m cocogs eval "$logs/run"
}
export -f build train
export python logs

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
part "build" 150 build.log bash -c build
part "tests marked cuda" 150 tests.log "$python" -m pytest -q -m cuda -p no:cacheprovider tests
checked="ordinary or own_sets or dense or large_image"
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    part "compute-sanitizer $tool" 100 $tool.log compute-sanitizer --tool $tool --error-exitcode 9 \
      "$python" -m pytest -q -m cuda -p no:cacheprovider tests/test_rasterize.py tests/test_ssim.py \
      -k "gradients_match and ($checked) or native_matches"
  done
else
  absent "compute-sanitizer"
fi
part "benchmark, beside gsplat" 240 benchmark.log "$python" scripts/bench_rasterizer.py --device cuda
part "benchmark of SSIM" 60 ssim.log "$python" scripts/bench_ssim.py --device cuda
if command -v ncu >/dev/null; then
  part "kernels: bandwidth, occupancy" 90 ncu.log ncu --clock-control none --metrics \
    gpu__time_duration.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed,sm__throughput.avg.pct_of_peak_sustained_elapsed,sm__warps_active.avg.pct_of_peak_sustained_active \
    -k regex:_kernel "$python" scripts/bench_rasterizer.py --device cuda --once
else
  absent "kernels: bandwidth, occupancy"
fi
part "training and evaluation" 90 train.log bash -c train

echo
echo "$table"
exit $failed
