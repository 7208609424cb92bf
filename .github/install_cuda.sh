#!/usr/bin/env bash
# Installs what compiles the GPU's module in the manylinux_2_28 image (AlmaLinux 8): nvcc, the runtime, CUB.
# CUDA 12.8 is the first that knows compute capability 12.0, and what it builds runs from driver 525 on; what
# CUDA 13 builds needs driver 580.
set -euo pipefail
version=12-8
case "$(uname -m)" in
  x86_64) architecture=x86_64 ;;
  aarch64) architecture=sbsa ;;
  *) echo "CUDA has no compiler for $(uname -m)." >&2; exit 1 ;;
esac
repository=https://developer.download.nvidia.com/compute/cuda/repos/rhel8/$architecture
curl --fail --silent --show-error --location "$repository/cuda-rhel8.repo" --output /etc/yum.repos.d/cuda.repo
dnf install --assumeyes --quiet "cuda-nvcc-$version" "cuda-cudart-devel-$version" "cuda-cccl-$version"
"/usr/local/cuda-${version/-/.}/bin/nvcc" --version
