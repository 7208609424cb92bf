// The functions that the mathematics headers need of a number, for float and double.
//
// The headers are templates over "a number" T: float on a GPU, a vector of floats on a CPU (simd/vector.h has
// the same functions for it), and double where derivatives are checked. They use + - * /, comparisons and the
// functions below. A branch is written select(condition, a, b), because the lanes of a vector take both sides.
#pragma once
#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define COCOGS_HD __host__ __device__ __forceinline__
#else
#define COCOGS_HD inline __attribute__((always_inline))
#endif

namespace cocogs {

COCOGS_HD bool any(bool condition) { return condition; }
COCOGS_HD float select(bool condition, float a, float b) { return condition ? a : b; }
COCOGS_HD double select(bool condition, double a, double b) { return condition ? a : b; }
COCOGS_HD uint32_t select(bool condition, uint32_t a, uint32_t b) { return condition ? a : b; }

// minimum and maximum return the second argument where either is NaN.
COCOGS_HD float minimum(float a, float b) { return a < b ? a : b; }
COCOGS_HD double minimum(double a, double b) { return a < b ? a : b; }
COCOGS_HD float maximum(float a, float b) { return a > b ? a : b; }
COCOGS_HD double maximum(double a, double b) { return a > b ? a : b; }

COCOGS_HD float absolute(float a) { return ::fabsf(a); }
COCOGS_HD double absolute(double a) { return ::fabs(a); }
COCOGS_HD float square_root(float a) { return ::sqrtf(a); }
COCOGS_HD double square_root(double a) { return ::sqrt(a); }

// The innermost loops use the next two. A GPU has one instruction for each, exact to 1 and 2 units in the last
// place. It takes denormal numbers as 0; they are far below what is drawn.
COCOGS_HD float reciprocal(float a) {
#if defined(__CUDA_ARCH__)
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(a));
  return inverse;
#else
  return 1.0f / a;
#endif
}
COCOGS_HD double reciprocal(double a) { return 1.0 / a; }

COCOGS_HD float power_of_two(float a) {
#if defined(__CUDA_ARCH__)
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(a));
  return power;
#else
  return ::exp2f(a);
#endif
}
COCOGS_HD double power_of_two(double a) { return ::exp2(a); }

COCOGS_HD float logarithm2(float a) { return ::log2f(a); }
COCOGS_HD double logarithm2(double a) { return ::log2(a); }

}  // namespace cocogs
