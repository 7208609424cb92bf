// What the .cu files need of the CUDA runtime beside the language itself.
#pragma once
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace cocogs {

inline void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("CUDA failed to ") + what + ": " + cudaGetErrorString(error));
}

inline unsigned blocks_for(int64_t items, int threads) { return unsigned((items + threads - 1) / threads); }

#ifdef __CUDACC__  // else the tests bring their own, see tests/cuda_on_host
// Starts a kernel; nothing for an empty grid. The arguments become those of the kernel.
template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), dim3 grid, int threads, cudaStream_t stream,
            const A&... arguments) {
  if (grid.x == 0) return;
  kernel<<<grid, threads, 0, stream>>>(P(arguments)...);
  check(cudaGetLastError(), name);
}
#endif

}  // namespace cocogs
