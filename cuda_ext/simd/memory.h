// Vectors to and from memory: rows of numbers as columns, writing past the caches, prefetching.
#pragma once
#include <utility>

#include "shuffle.h"

namespace cocogs {
namespace COCOGS_ISA {

// Writes count vectors past the caches, without fetching what they overwrite: for large results that nobody
// reads soon. `to` is aligned to a cache line, and whole lines are written. The writer calls finish_streaming
// before another thread reads them.
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

// Prefetches memory that will be read soon. The processor's own prefetching stops at page boundaries.
COCOGS_HD void prefetch(const void* from, int64_t bytes) {
  for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(static_cast<const char*>(from) + b);
}

// Lane `lane` of the shuffle that adds the numbers of vector `vector` to a column (of packed rows) or to a packed
// vector (of columns): the number wanted in this lane if this vector has it, else the number that is there already.
constexpr int take(int source_vector, int source_lane, int vector, int lane, int lanes) {
  return source_vector == vector ? lanes + source_lane : lane;
}
// Column number Column of W rows of Columns numbers that are packed in Columns vectors.
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
// Vector number Vector of such packed rows, made from their columns.
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

// columns[c] = element c of each of W rows that lie `stride` apart; lanes past `rows` repeat the last row.
// Where Columns >= W, rows are read in blocks of W that may overlap, so never beyond a row's end.
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
    // Through memory, because setting one lane of a vector is slow.
    alignas(64) R lanes[Columns][W];
    for (int l = 0; l < W; ++l)
      for (int c = 0; c < Columns; ++c) lanes[c][l] = from[(l < rows ? l : rows - 1) * stride + c];
    for (int c = 0; c < Columns; ++c) columns[c] = Simd<R, W>::load(lanes[c]);
  }
}
// The opposite: element c of each of the first `rows` rows = columns[c].
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

}  // namespace COCOGS_ISA
}  // namespace cocogs
