// A vector of W numbers that reads like one number: the T of the mathematics headers on a CPU.
//
// The vector types of GCC and clang do the arithmetic. Intrinsics are used only where the generic form compiles badly (masks,
// minimum, square root). A vector must fit the registers of the level that it is compiled for (kFloatLanes),
// because wider ones are split through memory.
//
// The files of simd/ are compiled once per instruction set level, each time in a namespace of that level
// (COCOGS_ISA), so that the linker never takes one level's function for another's.
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "../math/scalar.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef COCOGS_ISA
#error "COCOGS_ISA must name the instruction set level, see CMakeLists.txt"
#endif

namespace cocogs {
namespace COCOGS_ISA {

#if defined(__AVX512F__)
constexpr int kFloatLanes = 16;
#elif defined(__AVX2__)
constexpr int kFloatLanes = 8;
#else
constexpr int kFloatLanes = 4;
#endif
constexpr int kDoubleLanes = 4;  // only for checking derivatives, so speed does not matter

// GCC's vector types. Each is written out, because GCC 12 loses the attribute where W is a parameter.
template <class R, int W>
struct VectorOf;
#define COCOGS_VECTOR(R, W)                                                              \
  template <>                                                                            \
  struct VectorOf<R, W> {                                                                \
    typedef R type __attribute__((vector_size(W * sizeof(R))));                          \
    typedef R unaligned __attribute__((vector_size(W * sizeof(R)), aligned(sizeof(R)), may_alias)); \
  }
COCOGS_VECTOR(float, 4);
COCOGS_VECTOR(float, 8);
COCOGS_VECTOR(float, 16);
COCOGS_VECTOR(int32_t, 4);
COCOGS_VECTOR(int32_t, 8);
COCOGS_VECTOR(int32_t, 16);
COCOGS_VECTOR(uint32_t, 4);
COCOGS_VECTOR(uint32_t, 8);
COCOGS_VECTOR(uint32_t, 16);
COCOGS_VECTOR(double, 4);
COCOGS_VECTOR(int64_t, 4);
#undef COCOGS_VECTOR

// The lanes for which a comparison holds.
template <class R, int W>
struct Mask {
  using Integer = std::conditional_t<sizeof(R) == 4, int32_t, int64_t>;
  static constexpr bool kRegister = W == 16;  // AVX-512 has registers for masks
  using Vector = typename VectorOf<Integer, W>::type;
  using Native = std::conditional_t<kRegister, uint16_t, Vector>;
  Native m;

  // Bit l is lane l.
  COCOGS_HD uint32_t bits() const {
    if constexpr (kRegister) {
      return m;
    } else {
#if defined(__AVX__)
      if constexpr (W == 8) return uint32_t(_mm256_movemask_ps((__m256)m));
#endif
#if defined(__SSE2__)
      if constexpr (W == 4 && sizeof(R) == 4) return uint32_t(_mm_movemask_ps((__m128)m));
#endif
      uint32_t bits = 0;
      for (int l = 0; l < W; ++l) bits |= uint32_t(m[l] & 1) << l;
      return bits;
    }
  }
  COCOGS_HD bool any() const { return bits() != 0; }
  friend COCOGS_HD bool any(Mask mask) { return mask.any(); }
  friend COCOGS_HD Mask operator&(Mask a, Mask b) { return {Native(a.m & b.m)}; }
};

template <class R, int W>
struct Simd {
  static constexpr int kLanes = W;
  using Scalar = R;
  using Lanes = Mask<R, W>;
  using Native = typename VectorOf<R, W>::type;
  using Unaligned = typename VectorOf<R, W>::unaligned;
  Native v;

  Simd() = default;
  COCOGS_HD Simd(R scalar) : v(scalar - Native{}) {}
  COCOGS_HD explicit Simd(Native native) : v(native) {}

  static COCOGS_HD Simd load(const R* from) { return Simd(Native(*(const Unaligned*)from)); }
  COCOGS_HD void store(R* to) const { *(Unaligned*)to = v; }

  friend COCOGS_HD Simd operator+(Simd a, Simd b) { return Simd(a.v + b.v); }
  friend COCOGS_HD Simd operator-(Simd a, Simd b) { return Simd(a.v - b.v); }
  friend COCOGS_HD Simd operator*(Simd a, Simd b) { return Simd(a.v * b.v); }
  friend COCOGS_HD Simd operator/(Simd a, Simd b) { return Simd(a.v / b.v); }
  COCOGS_HD Simd& operator+=(Simd b) {
    v += b.v;
    return *this;
  }
  friend COCOGS_HD Lanes operator<(Simd a, Simd b) { return compare<kLess>(a, b); }
  friend COCOGS_HD Lanes operator>(Simd a, Simd b) { return compare<kLess>(b, a); }
  friend COCOGS_HD Lanes operator<=(Simd a, Simd b) { return compare<kLessEqual>(a, b); }
  friend COCOGS_HD Lanes operator>=(Simd a, Simd b) { return compare<kLessEqual>(b, a); }
  friend COCOGS_HD Lanes operator==(Simd a, Simd b) { return compare<kEqual>(a, b); }

 private:
  static constexpr int kEqual = 0, kLess = 1, kLessEqual = 2;  // as _CMP_EQ_OQ, _CMP_LT_OS, _CMP_LE_OS
  template <int Relation>
  static COCOGS_HD Lanes compare(Simd a, Simd b) {
#if defined(__AVX512F__)
    if constexpr (W == 16)
      return {_mm512_cmp_ps_mask((__m512)a.v, (__m512)b.v, Relation)};
    else
#endif
        if constexpr (Relation == kEqual)
      return {a.v == b.v};
    else if constexpr (Relation == kLess)
      return {a.v < b.v};
    else
      return {a.v <= b.v};
  }
};

template <class R, int W>
COCOGS_HD Simd<R, W> select(Mask<R, W> mask, Simd<R, W> a, Simd<R, W> b) {
  using S = Simd<R, W>;
#if defined(__AVX512F__)
  if constexpr (W == 16)
    return S((typename S::Native)_mm512_mask_blend_ps(mask.m, (__m512)b.v, (__m512)a.v));
  else
#endif
    return S(typename S::Native(mask.m ? a.v : b.v));
}

template <class R, int W>
COCOGS_HD Simd<R, W> minimum(Simd<R, W> a, Simd<R, W> b) {
  using S [[maybe_unused]] = Simd<R, W>;
#if defined(__AVX512F__)
  if constexpr (W == 16)
    return S((typename S::Native)_mm512_min_ps((__m512)a.v, (__m512)b.v));
#endif
#if defined(__AVX__)
  if constexpr (W == 8)
    return S((typename S::Native)_mm256_min_ps((__m256)a.v, (__m256)b.v));
#endif
#if defined(__SSE2__)
  if constexpr (W == 4 && sizeof(R) == 4)
    return S((typename S::Native)_mm_min_ps((__m128)a.v, (__m128)b.v));
#endif
  return select(a < b, a, b);
}

template <class R, int W>
COCOGS_HD Simd<R, W> maximum(Simd<R, W> a, Simd<R, W> b) {
  using S [[maybe_unused]] = Simd<R, W>;
#if defined(__AVX512F__)
  if constexpr (W == 16)
    return S((typename S::Native)_mm512_max_ps((__m512)a.v, (__m512)b.v));
#endif
#if defined(__AVX__)
  if constexpr (W == 8)
    return S((typename S::Native)_mm256_max_ps((__m256)a.v, (__m256)b.v));
#endif
#if defined(__SSE2__)
  if constexpr (W == 4 && sizeof(R) == 4)
    return S((typename S::Native)_mm_max_ps((__m128)a.v, (__m128)b.v));
#endif
  return select(a > b, a, b);
}

template <class R, int W>
COCOGS_HD Simd<R, W> absolute(Simd<R, W> a) {
  return maximum(a, Simd<R, W>(R(0)) - a);
}

template <class R, int W>
COCOGS_HD Simd<R, W> square_root(Simd<R, W> a) {
  using S [[maybe_unused]] = Simd<R, W>;
#if defined(__AVX512F__)
  if constexpr (W == 16) return S((typename S::Native)_mm512_sqrt_ps((__m512)a.v));
#endif
#if defined(__AVX__)
  if constexpr (W == 8) return S((typename S::Native)_mm256_sqrt_ps((__m256)a.v));
#endif
#if defined(__SSE2__)
  if constexpr (W == 4 && sizeof(R) == 4) return S((typename S::Native)_mm_sqrt_ps((__m128)a.v));
#endif
  for (int l = 0; l < W; ++l) a.v[l] = std::sqrt(a.v[l]);
  return a;
}

// 1 / a to about 1e-7; with AVX-512, the hardware's estimate and one step of Newton's method.
template <class R, int W>
COCOGS_HD Simd<R, W> reciprocal(Simd<R, W> a) {
  using S = Simd<R, W>;
#if defined(__AVX512F__)
  if constexpr (W == 16) {
    const S estimate((typename S::Native)_mm512_rcp14_ps((__m512)a.v));
    return estimate * (S(2) - a * estimate);
  }
#endif
  return S(1) / a;
}

// Integers of the same size as the lanes of S.
template <class S>
using Bits = typename Mask<typename S::Scalar, S::kLanes>::Vector;

// A whole number in the bits of every lane, to be moved about as S; and back.
template <class S>
COCOGS_HD S whole_lanes(int32_t number) {
  return S((typename S::Native)(Bits<S>{} + typename S::Lanes::Integer(number)));
}
template <class S>
COCOGS_HD void store_whole(const S& lanes, int32_t* to) {
  const Bits<S> bits = (Bits<S>)lanes.v;
  for (int l = 0; l < S::kLanes; ++l) to[l] = int32_t(bits[l]);
}

// 2^a for -126 <= a <= 127, to 2e-7 (floats; the library computes doubles). Other values give any number,
// infinity or NaN: the caller does not use them.
template <class R, int W>
COCOGS_HD Simd<R, W> power_of_two(Simd<R, W> a) {
  using S = Simd<R, W>;
  if constexpr (sizeof(R) == 4) {
    // Adding 1.5 x 2^23 rounds to an integer, which is then in the lowest bits. The integers are unsigned:
    // unlike signed ones they may wrap around, as they do for lanes whose result nobody uses.
    using Unsigned = typename VectorOf<uint32_t, W>::type;
    const S shift(12582912.0f), shifted = a + shift, fraction = a - (shifted - shift);
    S power = S(1.3333558146428443e-3f);
    power = power * fraction + S(9.6181291076284772e-3f);
    power = power * fraction + S(5.5504108664821580e-2f);
    power = power * fraction + S(2.4022650695910072e-1f);
    power = power * fraction + S(6.9314718055994531e-1f);
    power = power * fraction + S(1.0f);
    return S((typename S::Native)((Unsigned)power.v + ((Unsigned)shifted.v << 23)));
  } else {
    for (int l = 0; l < W; ++l) a.v[l] = std::exp2(a.v[l]);
    return a;
  }
}

// log2(a) for normal a > 0, to 1e-7 (floats). Less than -126 for 0; any number for negative a and NaN.
template <class R, int W>
COCOGS_HD Simd<R, W> logarithm2(Simd<R, W> a) {
  using S = Simd<R, W>;
  if constexpr (sizeof(R) == 4) {
    const Bits<S> bits = (Bits<S>)a.v;
    const S mantissa((typename S::Native)((bits & 0x7fffff) | 0x3f800000));
    const S exponent(__builtin_convertvector((bits >> 23) - 127, typename S::Native));
    const auto upper = mantissa > S(1.41421356f);
    const S m = select(upper, mantissa * S(0.5f), mantissa);
    const S e = select(upper, exponent + S(1), exponent);
    const S t = (m - S(1)) / (m + S(1)), t2 = t * t;  // log m = 2 artanh t
    S series = S(0.3205988979753f);
    series = series * t2 + S(0.412198583111132f);
    series = series * t2 + S(0.577078016355585f);
    series = series * t2 + S(0.961796693925976f);
    series = series * t2 + S(2.8853900817779268f);
    return e + t * series;
  } else {
    for (int l = 0; l < W; ++l) a.v[l] = std::log2(a.v[l]);
    return a;
  }
}

}  // namespace COCOGS_ISA
}  // namespace cocogs
