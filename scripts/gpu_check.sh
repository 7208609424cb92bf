#!/usr/bin/env bash
# Everything that needs a GPU, in one command: build, tests, memory and race checks, a short training, speed.
#
#   scripts/gpu_check.sh [PYTHON]        PYTHON has torch with CUDA, pytest, beartype, nanobind, cmake, ninja and what
#                                        pyproject.toml lists but viser; cocogs itself need not be installed
#
# Ends within 9 minutes even if a part hangs: each part has a time limit, and so have all together. Prints a table at
# the end, and exits with 1 if any part failed. The logs stay in build/gpu_check, all of them in all.txt. The table
# calls a tool that is not on the machine absent, not passed.
#
# On a machine without network, give it the packages that it lacks as wheels, for Python 3.12 for instance:
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
#     --platform manylinux2014_x86_64 -d .whl -c constraints.txt \
#     gsplat pycolmap plyfile tyro docstring_parser typeguard flip-evaluator jaxtyping wadler_lindig beartype
# and there, before this script:
#   pip install --no-index --no-deps --target /tmp/site .whl/*.whl && export PYTHONPATH=/tmp/site
set -uo pipefail
cd "$(dirname "$0")/.."
python=$(command -v "${1:-python3}") || { echo "There is no ${1:-python3} here." >&2; exit 1; }
logs=build/gpu_check
rm -rf $logs && mkdir -p $logs
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" CUDAARCHS=${CUDAARCHS:-native}
export TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-9.0} MAX_JOBS=${MAX_JOBS:-$(nproc)}  # for gsplat's own build
all_seconds=530

row() { printf '%-34s %-10s %s\n' "$@" >>$logs/table; }
row part result seconds
# part NAME SECONDS LOG COMMAND...: runs a command under a time limit and adds a line to the table. Several parts may
# run at the same time.
part() {
  local name=$1 limit=$2 log=$logs/$3 began=$SECONDS result=passed
  shift 3
  ((limit > all_seconds - SECONDS)) && limit=$((all_seconds - SECONDS))
  if ((limit < 5)); then
    row "$name" "no time" -
    return
  fi
  timeout -k 5 "$limit" "$@" >"$log" 2>&1 || result=FAILED
  echo "== $name"
  tail -n 25 "$log"
  row "$name" $result $((SECONDS - began))
}

build() {
  cmake -S . -B build/gpu -G Ninja -DPython_EXECUTABLE="$python" -DCOCOGS_CUDA=ON &&
    cmake --build build/gpu && cp build/gpu/_native*.so build/gpu/_cuda*.so cocogs/
}
# gsplat compiles itself when first used. torch's headers include those of CUDA's libraries. A toolkit may lack them,
# but torch's own packages bring them.
build_gsplat() {
  CPLUS_INCLUDE_PATH=$("$python" -c 'import pathlib, torch
print(*pathlib.Path(torch.__file__).parents[1].glob("nvidia/*/include"), sep=":")') \
    "$python" -c 'from gsplat.cuda._backend import _C; assert _C is not None'
}
# A training on the GPU with its evaluation; the figures are in the log.
train() {
  "$python" -m cocogs train data/demo --out "$logs/run" --preset full --iterations 1000 --max-gaussians 60000 --device cuda &&
    "$python" -m cocogs eval "$logs/run"
}
export -f build build_gsplat train
export python logs

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
part "build" 120 build.log bash -c build
timeout -k 5 330 nice -n 19 bash -c build_gsplat >$logs/gsplat.log 2>&1 &  # beside what follows
gsplat=$!
# A newer torch than the one of the constraints may warn: that is no error here.
tests=("$python" -m pytest -q -W default -m cuda -p no:cacheprovider)
"$python" -c 'import xdist' 2>/dev/null && beside=(-n 8) || beside=()
part "tests marked cuda" 150 tests.log "${tests[@]}" "${beside[@]}" \
  tests/test_cuda.py tests/test_device.py tests/test_rasterize.py tests/test_ssim.py tests/test_replay.py \
  tests/test_ops.py tests/test_training.py &
untimed=$!
if command -v compute-sanitizer >/dev/null; then
  checked="ordinary or own_sets or dense or large_image"
  for tool in memcheck racecheck; do
    # Without torch's cache every tensor is an allocation of its own, whose ends are watched.
    part "compute-sanitizer $tool" 90 $tool.log env PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
      compute-sanitizer --tool $tool --kernel-regex kns=cocogs --error-exitcode 9 "${tests[@]}" \
      tests/test_rasterize.py tests/test_ssim.py -k "gradients_match and ($checked) or native_matches" &
    untimed+=" $!"
  done
else
  row "compute-sanitizer" absent -
fi
wait $untimed
if command -v ncu >/dev/null; then
  part "kernels: bandwidth, occupancy" 60 ncu.log ncu --clock-control none --metrics \
    gpu__time_duration.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed,sm__throughput.avg.pct_of_peak_sustained_elapsed,sm__warps_active.avg.pct_of_peak_sustained_active \
    -k 'regex:_kernel|Radix|Scan' "$python" scripts/bench_rasterizer.py --device cuda --once
else
  row "kernels: bandwidth, occupancy" absent -
fi
alone=()
if wait $gsplat; then
  row "gsplat's own build" passed -
else
  row "gsplat's own build" "not built" -
  alone=(--alone)
  tail -n 25 $logs/gsplat.log  # not our failure
fi
part "training and evaluation" 70 train.log bash -c train
part "training step, 20 and 300 photos" 75 steps.log "$python" scripts/bench_training.py data/demo --device cuda
part "benchmark, beside gsplat" 120 benchmark.log "$python" scripts/bench_rasterizer.py --device cuda "${alone[@]}"
part "benchmark of SSIM" 30 ssim.log "$python" scripts/bench_ssim.py --device cuda
for log in $logs/*.log; do
  echo "==== $log"
  cat "$log"
done >$logs/all.txt

echo
cat $logs/table
! grep -qE "FAILED|no time" $logs/table
