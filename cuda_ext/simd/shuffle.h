// Numbers moved between the lanes of vectors: transposing, and sums over lanes.
#pragma once
#include <utility>

#include "vector.h"

namespace cocogs {
namespace COCOGS_ISA {

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

// Transposes W vectors in place by log2(W) perfect shuffles.
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

// The two lanes whose sum becomes lane l of a fold of two vectors: lanes of the first vector if `from_a`, else
// of the second. Each step has the order whose shuffles cost least: steps 0 and 1 stay within 16 bytes, the
// others move 16 bytes at a time.
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

// The sums over the lanes of Count vectors, in as few vectors as possible: pairs of vectors are folded into one
// until each lane holds a full sum. `layout` folds the names of the sums in the same way to find out which sum
// ends up where.
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

// Folds in place. The results are in the first FoldedSums<Count, W>::kLayout.vectors vectors.
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

}  // namespace COCOGS_ISA
}  // namespace cocogs
