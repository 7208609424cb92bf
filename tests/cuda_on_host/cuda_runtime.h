// As much of CUDA as the .cu files use, on a CPU: so that tests run the very kernels where there is no
// GPU. The threads of a block are fibers of one thread of the system; a fiber runs until it has to wait for
// its warp or its block. They are started in a different order at every block, so that a barrier that is
// missing shows as a wrong result, and one that not all threads reach as an error.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <climits>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static  // blocks run one after another
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

template <class T>
T min(T a, T b) {
  return std::min(a, b);
}
inline int __ffs(unsigned bits) { return __builtin_ffs(int(bits)); }
inline int __popcll(uint64_t bits) { return __builtin_popcountll(bits); }
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

namespace on_host {

constexpr int kWarp = 32;
constexpr size_t kStack = 128 << 10;

struct Barrier {
  int arrived = 0, phase = 0;
};
struct Fiber {
  ucontext_t start;
  jmp_buf here;
  bool started = false, done = false;
  unsigned thread = 0;
};
struct Warp {
  Barrier barrier;
  int alive = 0;
  uint64_t exchanged[kWarp];
};
struct Block {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  Barrier barrier;
  int alive = 0, votes = 0;
  bool progress = false;
  Fiber* current = nullptr;
  jmp_buf scheduler;
  const std::function<void()>* body = nullptr;
};
inline Block block;
inline std::vector<char> stacks;
inline unsigned random_state = 1;

inline void pause() {
  if (!_setjmp(block.current->here)) _longjmp(block.scheduler, 1);
}
// Waits until `alive` threads have come; the last one calls `last` before any goes on.
template <class Last>
void wait(Barrier& barrier, const int& alive, Last last) {
  const int phase = barrier.phase;
  ++barrier.arrived;
  const auto release = [&] {
    if (barrier.phase == phase && barrier.arrived >= alive) {
      last();
      barrier.arrived = 0;
      ++barrier.phase;
    }
  };
  block.progress = true;
  for (release(); barrier.phase == phase; release()) pause();
  block.progress = true;
}

inline Warp& warp() { return block.warps[threadIdx.x / kWarp]; }
inline void wait_for_warp() {
  wait(warp().barrier, warp().alive, [] {});
}
inline void wait_for_block() {
  wait(block.barrier, block.alive, [] {});
}
// The value of another lane.
template <class T>
T exchange(T value, int lane) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  std::memcpy(&warp().exchanged[threadIdx.x % kWarp], &value, sizeof value);
  wait_for_warp();
  std::memcpy(&value, &warp().exchanged[lane], sizeof value);
  wait_for_warp();
  return value;
}

inline void run_fiber() {
  (*block.body)();
  block.current->done = true;
  --block.alive;
  --warp().alive;
  block.progress = true;
  _longjmp(block.scheduler, 1);
}

inline void resume(Fiber& fiber) {
  block.current = &fiber;
  threadIdx = fiber.thread;
  if (_setjmp(block.scheduler)) return;
  if (fiber.started) _longjmp(fiber.here, 1);
  fiber.started = true;
  setcontext(&fiber.start);
}

inline void run_block(int threads, const std::function<void()>& body) {
  block.fibers.assign(size_t(threads), Fiber());
  block.warps.assign(size_t((threads + kWarp - 1) / kWarp), Warp());
  block.barrier = Barrier();
  block.alive = threads;
  block.body = &body;
  stacks.resize(std::max(stacks.size(), size_t(threads) * kStack));
  std::vector<int> order(static_cast<size_t>(threads));
  for (int t = 0; t < threads; ++t) {
    Fiber& fiber = block.fibers[size_t(t)];
    fiber.thread = unsigned(t);
    ++block.warps[size_t(t / kWarp)].alive;
    getcontext(&fiber.start);
    fiber.start.uc_stack = {stacks.data() + size_t(t) * kStack, 0, kStack};
    makecontext(&fiber.start, run_fiber, 0);
    order[size_t(t)] = t;
  }
  for (size_t t = order.size(); t > 1; --t) {
    random_state = random_state * 1664525u + 1013904223u;
    std::swap(order[t - 1], order[(random_state >> 8) % t]);
  }
  while (block.alive) {
    block.progress = false;
    for (const int t : order)
      if (!block.fibers[size_t(t)].done) resume(block.fibers[size_t(t)]);
    if (!block.progress) {
      std::fprintf(stderr, "cuda_on_host: some threads wait at a barrier that others never reach\n");
      std::abort();
    }
  }
}

}  // namespace on_host

inline void __syncthreads() { on_host::wait_for_block(); }
inline int __syncthreads_or(int value) {
  using on_host::block;
  if (value) ++block.votes;
  int result = 0;
  on_host::wait_for_block();
  result = block.votes != 0;
  on_host::wait(block.barrier, block.alive, [] { block.votes = 0; });
  return result;
}
inline unsigned __ballot_sync(unsigned, int value) {
  unsigned bits = 0;
  on_host::Warp& warp = on_host::warp();
  const uint64_t mine = value != 0;
  warp.exchanged[threadIdx.x % on_host::kWarp] = mine;
  on_host::wait_for_warp();
  for (int lane = 0; lane < on_host::kWarp; ++lane) bits |= unsigned(warp.exchanged[lane] & 1) << lane;
  on_host::wait_for_warp();
  return bits;
}
inline int __any_sync(unsigned mask, int value) { return __ballot_sync(mask, value) != 0; }
template <class T>
T __shfl_xor_sync(unsigned, T value, int offset) {
  return on_host::exchange(value, int(threadIdx.x % on_host::kWarp) ^ offset);
}

typedef struct CUstream_st* cudaStream_t;
enum cudaError_t { cudaSuccess = 0 };
enum cudaMemcpyKind { cudaMemcpyDefault };
inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 12080, cudaSuccess; }
inline cudaError_t cudaDriverGetVersion(int* version) { return *version = 0, cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void** memory, size_t bytes) {
  *memory = std::malloc(bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

namespace cocogs {
template <class... P, class... A>
void launch(const char*, void (*kernel)(P...), dim3 grid, int threads, cudaStream_t, const A&... arguments) {
  blockDim = unsigned(threads);
  gridDim = grid;
  for (unsigned b = 0; b < grid.x; ++b) {
    blockIdx = b;
    on_host::run_block(threads, [&] { kernel(P(arguments)...); });
  }
}
}  // namespace cocogs
