// Structural similarity and its gradient, a tile at a time: lanes are pixels of a row.
//
// A tile is walked from top to bottom. What the pixels of a row have to say is averaged along the row into
// a ring of the last kWindow rows, and the rows of the ring into the averages of the row in their middle.
// Tiles are so narrow that the ring stays in the fastest cache.
#include <cstring>

#include "math/ssim.h"

#include "ops.h"
#include "simd/memory.h"

namespace cocogs {
namespace COCOGS_ISA {
namespace {

struct Tile {
  int channel, x0, y0, x1, y1;  // px
};
template <class R>
Tile tile_of(const Comparison<R>& pictures, int64_t index) {
  const int across = pictures.across(kSsimTile), down = pictures.down(kSsimTile);
  const int x0 = int(index % across) * kSsimTile, y0 = int(index / across % down) * kSsimTile;
  const int x1 = x0 + kSsimTile, y1 = y0 + kSsimTile;
  return {int(index / across / down), x0, y0, x1 < pictures.width ? x1 : pictures.width,
          y1 < pictures.height ? y1 : pictures.height};
}

// A row of a tile and kWindowHalf px on both sides, in whole vectors.
constexpr int kLine = (kSsimTile + 2 * kWindowHalf + kFloatLanes - 1) / kFloatLanes * kFloatLanes;
static_assert(kSsimTile % kFloatLanes == 0 && kSsimTile % kDoubleLanes == 0 && kLine % kDoubleLanes == 0);

constexpr int kAhead = 3;  // rows; a tile's rows are too short for the processor to see what comes next

// That part of a row of an image; 0 outside the image. Reads a little beyond, to have it at hand later.
template <class R>
void copy_line(const R* row, const Tile& tile, int width, R* line) {
  const int first = tile.x0 - kWindowHalf, begin = first > 0 ? first : 0;
  const int end = first + kLine < width ? first + kLine : width;
  if (end - begin < kLine) std::memset(line, 0, kLine * sizeof(R));
  std::memcpy(line + (begin - first), row + begin, size_t(end - begin) * sizeof(R));
  prefetch(row + begin + kAhead * int64_t(width), (end - begin) * int64_t(sizeof(R)));
}

// The first `count` lanes, from and to a row's end.
template <class T>
COCOGS_HD T load_first(const typename T::Scalar* from, int count) {
  if (count >= T::kLanes) return T::load(from);
  typename T::Scalar lanes[T::kLanes] = {};
  std::memcpy(lanes, from, size_t(count) * sizeof(lanes[0]));
  return T::load(lanes);
}
template <class T>
COCOGS_HD void store_first(const T& value, typename T::Scalar* to, int count) {
  if (count >= T::kLanes) return value.store(to);
  typename T::Scalar lanes[T::kLanes];
  value.store(lanes);
  std::memcpy(to, lanes, size_t(count) * sizeof(lanes[0]));
}

// Averages Count numbers per pixel over the window. fill(row, lines) writes the numbers of a row of the
// image to Count lines; take(row, x, means) gets those of T::kLanes pixels from (x, row) on.
template <int Count, class T, class Fill, class Take>
COCOGS_HD void average(const Tile& tile, int height, const Fill& fill, const Take& take) {
  using R = typename T::Scalar;
  alignas(64) R lines[Count][kLine];
  alignas(64) R ring[kWindow][Count][kSsimTile];
  const int across = tile.x1 - tile.x0;
  for (int row = tile.y0 - kWindowHalf; row < tile.y1 + kWindowHalf; ++row) {
    auto& along = ring[(row + kWindow) % kWindow];
    if (row < 0 || row >= height) {
      std::memset(along, 0, sizeof along);
    } else {
      fill(row, lines);
      for (int x = 0; x < across; x += T::kLanes)
#pragma GCC unroll 4
        for (int c = 0; c < Count; ++c) {
          T sum = T(R(window_weight(0))) * T::load(lines[c] + x);
#pragma GCC unroll 10
          for (int k = 1; k < kWindow; ++k) sum += T(R(window_weight(k))) * T::load(lines[c] + x + k);
          sum.store(along[c] + x);
        }
    }
    const int middle = row - kWindowHalf;
    if (middle < tile.y0) continue;
    const R(*rows[kWindow])[kSsimTile];
    for (int k = 0; k < kWindow; ++k) rows[k] = ring[(middle - kWindowHalf + k + kWindow) % kWindow];
    for (int x = 0; x < across; x += T::kLanes) {
      T means[Count];
#pragma GCC unroll 4
      for (int c = 0; c < Count; ++c) {
        T sum = T(R(window_weight(0))) * T::load(rows[0][c] + x);
#pragma GCC unroll 10
        for (int k = 1; k < kWindow; ++k) sum += T(R(window_weight(k))) * T::load(rows[k][c] + x);
        means[c] = sum;
      }
      take(middle, tile.x0 + x, means);
    }
  }
}

template <class T>
void ssim_tile(const Comparison<typename T::Scalar>& pictures, int64_t index, typename T::Scalar* values,
               typename T::Scalar* slopes) {
  using R = typename T::Scalar;
  const Tile tile = tile_of(pictures, index);
  const int64_t plane = pictures.pixels();
  average<kSsimTerms, T>(
      tile, pictures.height,
      [&](int row, R(*lines)[kLine]) {
        const int64_t at = pictures.place(tile.channel, 0, row);
        copy_line(pictures.image + at, tile, pictures.width, lines[0]);
        copy_line(pictures.photo + at, tile, pictures.width, lines[1]);
        for (int x = 0; x < kLine; x += T::kLanes) {
          const SsimTerms<T> terms = ssim_terms(T::load(lines[0] + x), T::load(lines[1] + x));
          terms.squares.store(lines[2] + x);
          terms.error.store(lines[3] + x);
        }
      },
      [&](int row, int x, const T* means) {
        const int64_t at = pictures.place(tile.channel, x, row);
        const int count = tile.x1 - x;
        const SsimTerms<T> mean = {means[0], means[1], means[2], means[3]};
        store_first(ssim(mean), values + at, count);
        if (!slopes) return;
        const SsimSlopes<T> slope = ssim_vjp(mean, T(1));
        store_first(slope.x, slopes + at, count);
        store_first(slope.squares, slopes + plane + at, count);
        store_first(slope.error, slopes + 2 * plane + at, count);
      });
}

// The window is symmetric, so that the gradients of averages are averaged over it in turn.
template <class T>
void ssim_tile_vjp(const Comparison<typename T::Scalar>& pictures, int64_t index,
                   const typename T::Scalar* slopes, const typename T::Scalar* v_values,
                   typename T::Scalar* v_image) {
  using R = typename T::Scalar;
  const Tile tile = tile_of(pictures, index);
  const int64_t plane = pictures.pixels();
  average<kSsimSlopes, T>(
      tile, pictures.height,
      [&](int row, R(*lines)[kLine]) {
        const int64_t at = pictures.place(tile.channel, 0, row);
        alignas(64) R v[kLine];
        copy_line(v_values + at, tile, pictures.width, v);
        for (int c = 0; c < kSsimSlopes; ++c) {
          copy_line(slopes + c * plane + at, tile, pictures.width, lines[c]);
          for (int x = 0; x < kLine; x += T::kLanes)
            (T::load(v + x) * T::load(lines[c] + x)).store(lines[c] + x);
        }
      },
      [&](int row, int x, const T* means) {
        const int64_t at = pictures.place(tile.channel, x, row);
        const int count = tile.x1 - x;
        const SsimSlopes<T> v = {means[0], means[1], means[2]};
        const T image = load_first<T>(pictures.image + at, count);
        store_first(ssim_terms_vjp(image, load_first<T>(pictures.photo + at, count), v), v_image + at, count);
      });
}

}  // namespace

void add_ssim_kernels(Kernels<float>& kernels) {
  kernels.ssim = ssim_tile<Simd<float, kFloatLanes>>;
  kernels.ssim_vjp = ssim_tile_vjp<Simd<float, kFloatLanes>>;
}
#if COCOGS_WITH_DOUBLE
void add_ssim_kernels(Kernels<double>& kernels) {
  kernels.ssim = ssim_tile<Simd<double, kDoubleLanes>>;
  kernels.ssim_vjp = ssim_tile_vjp<Simd<double, kDoubleLanes>>;
}
#endif

}  // namespace COCOGS_ISA
}  // namespace cocogs
