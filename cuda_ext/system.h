// What the operating systems do differently: processes, aligned memory, CPU time, instruction sets. Windows is
// compiled by clang-cl, because MSVC has no vector types.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#if defined(_WIN32)
#ifndef NOMINMAX
#define NOMINMAX
#endif
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>

#include <malloc.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#else
#include <time.h>
#include <unistd.h>
#endif

namespace cocogs {

#if defined(_WIN32)

inline int64_t process_id() { return int64_t(GetCurrentProcessId()); }

inline void* aligned_memory(size_t alignment, size_t bytes) { return _aligned_malloc(bytes, alignment); }
inline void free_aligned(void* data) { _aligned_free(data); }

inline double process_cpu_seconds() {
  FILETIME created, ended, kernel, user;
  if (!GetProcessTimes(GetCurrentProcess(), &created, &ended, &kernel, &user)) return 0;
  const auto ticks = [](FILETIME t) { return double((uint64_t(t.dwHighDateTime) << 32) | t.dwLowDateTime); };
  return 1e-7 * (ticks(kernel) + ticks(user));
}

#else

inline int64_t process_id() { return int64_t(getpid()); }

// `bytes` is a multiple of `alignment`. Null where there is no memory.
inline void* aligned_memory(size_t alignment, size_t bytes) { return std::aligned_alloc(alignment, bytes); }
inline void free_aligned(void* data) { std::free(data); }

// Of all threads of this process.
inline double process_cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

#endif

#if defined(__x86_64__)
#if defined(_WIN32)

// Whether processor and system support what the level is compiled with, see CMakeLists.txt. clang-cl links nothing
// that __builtin_cpu_supports needs. Windows says whether it saves the registers, the processor the rest.
inline bool runs_avx2() {
  constexpr DWORD kSystemKnowsAvx2 = 40;  // PF_AVX2_INSTRUCTIONS_AVAILABLE
  unsigned eax, ebx, ecx, edx, features;
  if (!IsProcessorFeaturePresent(kSystemKnowsAvx2) || !__get_cpuid(1, &eax, &ebx, &features, &edx)) return false;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  constexpr unsigned kFma = 1u << 12, kBmi = 1u << 3, kAvx2 = 1u << 5, kBmi2 = 1u << 8;
  constexpr unsigned kNeeded = kBmi | kAvx2 | kBmi2;
  return (features & kFma) && (ebx & kNeeded) == kNeeded;
}
inline bool runs_avx512() {
  constexpr DWORD kSystemKnowsAvx512 = 41;  // PF_AVX512F_INSTRUCTIONS_AVAILABLE
  unsigned eax, ebx, ecx, edx;
  if (!runs_avx2() || !IsProcessorFeaturePresent(kSystemKnowsAvx512)) return false;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  constexpr unsigned kF = 1u << 16, kDq = 1u << 17, kCd = 1u << 28, kBw = 1u << 30, kVl = 1u << 31;
  constexpr unsigned kNeeded = kF | kDq | kCd | kBw | kVl;
  return (ebx & kNeeded) == kNeeded;
}

#else

inline bool runs_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
}
inline bool runs_avx512() {
  return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

#endif
#endif

}  // namespace cocogs
