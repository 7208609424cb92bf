// A vector of W numbers that reads like one number: the T of the mathematics headers on a CPU.
//
// GCC's vector types do the arithmetic; intrinsics only where their generic form compiles badly
// (masks, minimum, square root). A vector must fit the registers of the level that it is compiled
// for (kFloatLanes), because wider ones are split through memory.
//
// This file is compiled once per instruction set level, each time in its own namespace (COCOGS_ISA):
// the linker must never take one level's function for another's.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "math/scalar.h"

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

// GCC's vector types. Written out, because GCC 12 loses the attribute where W is a parameter.
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
COCOGS_VECTOR(double, 4);
COCOGS_VECTOR(int64_t, 4);
#undef COCOGS_VECTOR

// Which lanes a comparison holds for.
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
  using S = Simd<R, W>;
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
  using S = Simd<R, W>;
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
  using S = Simd<R, W>;
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

// The integers of the same size as R, to take floats apart.
template <class S>
using Bits = typename Mask<typename S::Scalar, S::kLanes>::Vector;

// 2^a for -126 <= a <= 127, to 2e-7 (floats); double by the library.
template <class R, int W>
COCOGS_HD Simd<R, W> power_of_two(Simd<R, W> a) {
  using S = Simd<R, W>;
  if constexpr (sizeof(R) == 4) {
    // Adding 1.5 x 2^23 rounds to an integer, which then stands in the lowest bits.
    const S shift(12582912.0f), shifted = a + shift, fraction = a - (shifted - shift);
    S power = S(1.3333558146428443e-3f);
    power = power * fraction + S(9.6181291076284772e-3f);
    power = power * fraction + S(5.5504108664821580e-2f);
    power = power * fraction + S(2.4022650695910072e-1f);
    power = power * fraction + S(6.9314718055994531e-1f);
    power = power * fraction + S(1.0f);
    return S((typename S::Native)((Bits<S>)power.v + ((Bits<S>)shifted.v << 23)));
  } else {
    for (int l = 0; l < W; ++l) a.v[l] = std::exp2(a.v[l]);
    return a;
  }
}

// log2(a) for normal a > 0, to 1e-7 (floats); far below any threshold for 0.
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

// ---- Moving lanes -------------------------------------------------------------------------------

#if defined(__clang__)
#define COCOGS_SHUFFLE(S, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define COCOGS_SHUFFLE(S, a, b, ...) __builtin_shuffle(a, b, Bits<S>{__VA_ARGS__})
#endif

// a0 b0 a1 b1 ... of the first (or, Upper, the second) halves of a and b.
template <bool Upper, class R, int W, int... L>
COCOGS_HD Simd<R, W> interleave(Simd<R, W> a, Simd<R, W> b, std::integer_sequence<int, L...>) {
  using S = Simd<R, W>;
  return S(COCOGS_SHUFFLE(S, a.v, b.v, (L % 2 * W + L / 2 + (Upper ? W / 2 : 0))...));
}

// Transposes W vectors in place: log2(W) perfect shuffles.
template <class R, int W>
COCOGS_HD void transpose(Simd<R, W>* rows) {
  constexpr auto lanes = std::make_integer_sequence<int, W>();
  Simd<R, W> other[W];
#pragma GCC unroll 4
  for (int step = 1; step < W; step *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < W / 2; ++i) {
      other[2 * i] = interleave<false>(rows[i], rows[i + W / 2], lanes);
      other[2 * i + 1] = interleave<true>(rows[i], rows[i + W / 2], lanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) rows[i] = other[i];
  }
}

// Where lane l of a fold of two vectors takes its two terms from: two lanes of the first vector if
// `from_a`, else of the second. Each step has the order whose shuffles cost least: steps 0 and 1 stay
// within 16 bytes, the others move 16 bytes at a time.
struct FoldSource {
  bool from_a;
  int first, second;
};
constexpr FoldSource fold_source(int step, int l, int lanes) {
  const int within = l % 4, quad = l / 4, quads = lanes / 4;
  if (step < 2) return {within % 2 == 0, 4 * quad + within / 2, 4 * quad + within / 2 + 2};
  const bool from_a = quad < quads / 2;
  const int index = quad % (quads / 2), stride = quads >> (step - 1);
  const int first = index / stride * 2 * stride + index % stride;
  return {from_a, 4 * first + within, 4 * (first + stride) + within};
}

// Lanes of the two-vector shuffle that picks the first (or second) terms.
template <int Step, bool Second, class R, int W, int... L>
COCOGS_HD Simd<R, W> pick(Simd<R, W> a, Simd<R, W> b, std::integer_sequence<int, L...>) {
  using S = Simd<R, W>;
  constexpr auto lane = [](int l) {
    const FoldSource source = fold_source(Step, l, W);
    return (Second ? source.second : source.first) + (source.from_a ? 0 : W);
  };
  return S(COCOGS_SHUFFLE(S, a.v, b.v, lane(L)...));
}

// Folds two vectors into one that holds half as many terms of each.
template <int Step, class R, int W>
COCOGS_HD Simd<R, W> fold_pair(Simd<R, W> a, Simd<R, W> b) {
  constexpr auto lanes = std::make_integer_sequence<int, W>();
  return pick<Step, false>(a, b, lanes) + pick<Step, true>(a, b, lanes);
}

constexpr int log2_of(int lanes) { return lanes == 1 ? 0 : 1 + log2_of(lanes / 2); }

// The sums over the lanes of Count vectors, in as few vectors as they fit: pairs of vectors are folded
// into one until each lane holds a full sum. Which sum ends up where is worked out by folding the
// names of the sums in the same way.
template <int Count, int W>
struct FoldedSums {
  struct Layout {
    int vectors = Count;    // that hold the results
    int place[Count] = {};  // of each sum among the vectors' numbers
  };
  static constexpr Layout layout() {
    Layout result;
    int names[Count][W] = {};
    for (int i = 0; i < Count; ++i)
      for (int l = 0; l < W; ++l) names[i][l] = i;
    for (int step = 0; step < log2_of(W); ++step) {
      const int half = (result.vectors + 1) / 2;
      int folded[Count][W] = {};
      for (int i = 0; i < half; ++i)
        for (int l = 0; l < W; ++l) {
          const FoldSource source = fold_source(step, l, W);
          const int vector = source.from_a ? i : i + half;
          folded[i][l] = vector < result.vectors ? names[vector][source.first] : -1;
        }
      for (int i = 0; i < half; ++i)
        for (int l = 0; l < W; ++l) names[i][l] = folded[i][l];
      result.vectors = half;
    }
    for (int i = 0; i < result.vectors; ++i)
      for (int l = 0; l < W; ++l)
        if (names[i][l] >= 0) result.place[names[i][l]] = i * W + l;
    return result;
  }
  static constexpr Layout kLayout = layout();
};

// Folds in place; the result is in the first FoldedSums<Count, W>::kLayout.vectors vectors.
template <int Count, int Step = 0, class R, int W>
COCOGS_HD void fold_sums(Simd<R, W>* sums) {
  if constexpr (Step < log2_of(W)) {
    constexpr int half = (Count + 1) / 2;
#pragma GCC unroll 16
    for (int i = 0; i < half; ++i)
      sums[i] = fold_pair<Step>(sums[i], i + half < Count ? sums[i + half] : Simd<R, W>(R(0)));
    fold_sums<half, Step + 1>(sums);
  }
}

// Writes count vectors past the caches, without first fetching what they overwrite: for large results
// that nobody reads soon. `to` is aligned to a cache line, and whole lines are written. Before another
// thread reads them, the writer calls finish_streaming.
template <class R, int W>
COCOGS_HD void stream(R* to, const Simd<R, W>* vectors, int count) {
  for (int k = 0; k < count; ++k) {
#if defined(__AVX512F__)
    if constexpr (W * sizeof(R) == 64) {
      _mm512_stream_ps((float*)(to + k * W), (__m512)vectors[k].v);
      continue;
    }
#endif
#if defined(__AVX__)
    if constexpr (W * sizeof(R) == 32) {
      _mm256_stream_ps((float*)(to + k * W), (__m256)vectors[k].v);
      continue;
    }
#endif
#if defined(__SSE2__)
    if constexpr (W * sizeof(R) == 16) {
      _mm_stream_ps((float*)(to + k * W), (__m128)vectors[k].v);
      continue;
    }
#endif
    vectors[k].store(to + k * W);
  }
}
COCOGS_HD void finish_streaming() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// Asks for memory that will be read soon. The processor's own prefetching stops at every page.
COCOGS_HD void prefetch(const void* from, int64_t bytes) {
  for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(static_cast<const char*>(from) + b);
}

// Lane `lane` of the shuffle that adds vector `vector` to a column gathered from W packed rows, or to a
// packed vector gathered from columns: the number wanted there, if this vector has it, else what is
// there already.
constexpr int take(int source_vector, int source_lane, int vector, int lane, int lanes) {
  return source_vector == vector ? lanes + source_lane : lane;
}
// Column Column of W rows of Columns numbers, packed one after the other in Columns vectors.
template <int Columns, int Column, int Vector = 0, class R, int W, int... L>
COCOGS_HD Simd<R, W> unpack_column(const Simd<R, W>* packed, Simd<R, W> so_far,
                                   std::integer_sequence<int, L...> lanes) {
  if constexpr (Vector == Columns) {
    return so_far;
  } else {
    using S = Simd<R, W>;
    return unpack_column<Columns, Column, Vector + 1>(
        packed,
        S(COCOGS_SHUFFLE(S, so_far.v, packed[Vector].v,
                         take((L * Columns + Column) / W, (L * Columns + Column) % W, Vector, L, W)...)),
        lanes);
  }
}
// Vector number Vector of those rows, packed again.
template <int Columns, int Vector, int Column = 0, class R, int W, int... L>
COCOGS_HD Simd<R, W> pack_columns(const Simd<R, W>* columns, Simd<R, W> so_far,
                                  std::integer_sequence<int, L...> lanes) {
  if constexpr (Column == Columns) {
    return so_far;
  } else {
    using S = Simd<R, W>;
    return pack_columns<Columns, Vector, Column + 1>(
        columns,
        S(COCOGS_SHUFFLE(S, so_far.v, columns[Column].v,
                         take((Vector * W + L) % Columns, (Vector * W + L) / Columns, Column, L, W)...)),
        lanes);
  }
}
template <int Columns, class R, int W, int... C>
COCOGS_HD void load_packed(const R* from, Simd<R, W>* columns, std::integer_sequence<int, C...>) {
  Simd<R, W> packed[Columns];
  ((packed[C] = Simd<R, W>::load(from + C * W)), ...);
  constexpr auto lanes = std::make_integer_sequence<int, W>();
  ((columns[C] = unpack_column<Columns, C>(packed, packed[0], lanes)), ...);
}
template <int Columns, class R, int W, int... C>
COCOGS_HD void store_packed(R* to, const Simd<R, W>* columns, std::integer_sequence<int, C...>) {
  constexpr auto lanes = std::make_integer_sequence<int, W>();
  (pack_columns<Columns, C>(columns, columns[0], lanes).store(to + C * W), ...);
}

// columns[c] = element c of each of W rows that lie `stride` apart; rows past `rows` repeat the last.
// Columns >= W: read by blocks of W that may overlap, so never beyond a row.
template <int Columns, class R, int W>
COCOGS_HD void load_columns(const R* from, int64_t stride, int rows, Simd<R, W>* columns) {
  if constexpr (Columns >= W) {
    for (int block = 0; block < Columns; block += W) {
      const int first = block + W <= Columns ? block : Columns - W;
      Simd<R, W> tile[W];
      for (int l = 0; l < W; ++l)
        tile[l] = Simd<R, W>::load(from + (l < rows ? l : rows - 1) * stride + first);
      transpose(tile);
      for (int c = 0; c < W; ++c) columns[first + c] = tile[c];
    }
  } else if (rows == W && stride == Columns) {
    load_packed<Columns>(from, columns, std::make_integer_sequence<int, Columns>());
  } else {
    // By way of memory: setting one lane of a vector is slow.
    alignas(64) R lanes[Columns][W];
    for (int l = 0; l < W; ++l)
      for (int c = 0; c < Columns; ++c) lanes[c][l] = from[(l < rows ? l : rows - 1) * stride + c];
    for (int c = 0; c < Columns; ++c) columns[c] = Simd<R, W>::load(lanes[c]);
  }
}
template <int Columns, class R, int W>
COCOGS_HD void store_columns(R* to, int64_t stride, int rows, const Simd<R, W>* columns) {
  if constexpr (Columns >= W) {
    const bool streamed = rows == W && stride == Columns && (W * Columns * sizeof(R)) % 64 == 0 &&
                          reinterpret_cast<uintptr_t>(to) % 64 == 0;
    alignas(64) Simd<R, W> lines[Columns];
    R* const target = streamed ? reinterpret_cast<R*>(lines) : to;
    for (int block = 0; block < Columns; block += W) {
      const int first = block + W <= Columns ? block : Columns - W;
      Simd<R, W> tile[W];
      for (int c = 0; c < W; ++c) tile[c] = columns[first + c];
      transpose(tile);
      for (int l = 0; l < rows; ++l) tile[l].store(target + l * stride + first);
    }
    if (streamed) stream(to, lines, Columns);
  } else if (rows == W && stride == Columns) {
    store_packed<Columns>(to, columns, std::make_integer_sequence<int, Columns>());
  } else {
    alignas(64) R lanes[Columns][W];
    for (int c = 0; c < Columns; ++c) columns[c].store(lanes[c]);
    for (int l = 0; l < rows; ++l)
      for (int c = 0; c < Columns; ++c) to[l * stride + c] = lanes[c][l];
  }
}

// The positions of the bits of each byte.
struct BitPositions {
  uint8_t of[256][8] = {};
  constexpr BitPositions() {
    for (int byte = 0; byte < 256; ++byte)
      for (int bit = 0, found = 0; bit < 8; ++bit)
        if (byte >> bit & 1) of[byte][found++] = uint8_t(bit);
  }
};

// Writes the indices of the sets that contain `member` (a bit) to list, and returns how many. Both
// arrays have room for kListSlack more elements; the sets there are empty.
constexpr int kListSlack = 16;
template <class Set>
COCOGS_HD int list_members(const Set* sets, int count, int member, uint32_t* list) {
  int listed = 0;
#if defined(__AVX512F__)
  if constexpr (sizeof(Set) == 2) {
    __m512i index = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i bit = _mm512_set1_epi32(1 << member);
    for (int k = 0; k < count; k += 16) {
      const __m512i block = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(sets + k)));
      const __mmask16 found = _mm512_test_epi32_mask(block, bit);
      _mm512_storeu_si512(list + listed, _mm512_maskz_compress_epi32(found, index));
      listed += __builtin_popcount(found);
      index = _mm512_add_epi32(index, _mm512_set1_epi32(16));
    }
    return listed;
  }
#elif defined(__AVX2__)
  if constexpr (sizeof(Set) == 4) {
    static constexpr BitPositions positions;
    const __m128i to_sign = _mm_cvtsi32_si128(31 - member);
    for (int k = 0; k < count; k += 8) {
      const __m256i block = _mm256_sll_epi32(_mm256_loadu_si256((const __m256i*)(sets + k)), to_sign);
      const uint32_t found = uint32_t(_mm256_movemask_ps((__m256)block));
      const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)positions.of[found]));
      _mm256_storeu_si256((__m256i*)(list + listed), _mm256_add_epi32(index, _mm256_set1_epi32(k)));
      listed += __builtin_popcount(found);
    }
    return listed;
  }
#endif
  for (int k = 0; k < count; ++k) {
    list[listed] = uint32_t(k);
    listed += int(sets[k] >> member & 1);
  }
  return listed;
}

}  // namespace COCOGS_ISA
}  // namespace cocogs
