// The tiles of an image cut into blocks of as many pixels as a vector has lanes. Compiled per instruction set level,
// like simd/.
#pragma once
#include <cstring>
#include <type_traits>

#include "ops.h"
#include "simd/vector.h"

namespace cocogs {
namespace COCOGS_ISA {

// The blocks of a tile: each has as many pixels as T has lanes.
template <class T>
struct Blocks {
  static constexpr int kWidth = T::kLanes >= 8 ? 4 : 2;
  static constexpr int kHeight = T::kLanes / kWidth;
  static constexpr int kAcross = kTile / kWidth;
  static constexpr int kCount = kTile * kTile / T::kLanes;
  // One bit per block.
  using Set = std::conditional_t<kCount == 16, uint16_t,
                                 std::conditional_t<kCount == 32, uint32_t, uint64_t>>;
  static constexpr int x(int block) { return block % kAcross * kWidth; }
  static constexpr int y(int block) { return block / kAcross * kHeight; }
};

// Pixel centres of the first block, and centres of all blocks, within the tile.
template <class T>
struct TileGeometry {
  using R = typename T::Scalar;
  T pixel_x, pixel_y;
  T block_x[Blocks<T>::kCount / T::kLanes], block_y[Blocks<T>::kCount / T::kLanes];

  TileGeometry() {
    using B = Blocks<T>;
    for (int l = 0; l < T::kLanes; ++l) {
      pixel_x.v[l] = R(l % B::kWidth) + R(0.5);
      pixel_y.v[l] = R(l / B::kWidth) + R(0.5);
      for (int group = 0; group < B::kCount / T::kLanes; ++group) {
        block_x[group].v[l] = R(B::x(group * T::kLanes + l)) + R(0.5) * B::kWidth;
        block_y[group].v[l] = R(B::y(group * T::kLanes + l)) + R(0.5) * B::kHeight;
      }
    }
  }

  // The blocks in which the splat (relative to the tile) covers some pixel by kAlphaMin.
  COCOGS_HD typename Blocks<T>::Set reached(const Splat<R>& splat) const {
    using B = Blocks<T>;
    const R reach = falloff_reach(splat);
    typename B::Set set = 0;
    for (int group = 0; group < B::kCount / T::kLanes; ++group) {
      const auto reached = reaches(splat, reach, block_x[group], block_y[group], B::kWidth, B::kHeight);
      set |= typename B::Set(reached.bits()) << (group * T::kLanes);
    }
    return set;
  }
};

// A tile's place in the image.
struct Tile {
  int column, row;
  int x, y;            // px, first pixel
  int width, height;   // px, less than kTile at the far borders
  int64_t begin, end;  // its intersections
};
template <class R>
Tile place(const Scene<R>& scene, int64_t tile, const SetState<R>& state) {
  const int column = int(tile % scene.tiles_x()), row = int(tile / scene.tiles_x());
  const int x = column * kTile, y = row * kTile;
  return {column, row, x, y,
          scene.width - x < kTile ? scene.width - x : kTile,
          scene.height - y < kTile ? scene.height - y : kTile,
          state.tile_start[tile], state.tile_start[tile + 1]};
}

// The x of pixels that are finished or outside the image. It is so far away that no splat reaches them, and finite,
// so that 0 times their offset is 0.
constexpr float kClosed = 1e18f;

// x of the pixel centres of a block within the tile.
template <class T>
COCOGS_HD T block_pixels_x(const TileGeometry<T>& geometry, const Tile& tile, int block) {
  using R = typename T::Scalar;
  const T x = geometry.pixel_x + T(R(Blocks<T>::x(block)));
  const T y = geometry.pixel_y + T(R(Blocks<T>::y(block)));
  return select((x < T(R(tile.width))) & (y < T(R(tile.height))), x, T(kClosed));
}
template <class T>
COCOGS_HD T block_pixels_y(const TileGeometry<T>& geometry, int block) {
  return geometry.pixel_y + T(typename T::Scalar(Blocks<T>::y(block)));
}
template <class T>
COCOGS_HD bool any_open(const T& x) {
  return (x < T(kClosed)).any();
}

// Calls visit(position of a row of the block in the image, its first lane, its number of pixels in the image).
template <class T, class Visit>
COCOGS_HD void visit_rows(int image_width, const Tile& tile, int block, Visit visit) {
  using B = Blocks<T>;
  const int64_t first = int64_t(tile.y + B::y(block)) * image_width + tile.x + B::x(block);
  const int width = tile.width - B::x(block), height = tile.height - B::y(block);
  if (width >= B::kWidth && height >= B::kHeight) {  // known sizes become single moves
    for (int y = 0; y < B::kHeight; ++y) visit(first + int64_t(y) * image_width, y * B::kWidth, B::kWidth);
  } else if (width > 0) {
    for (int y = 0; y < B::kHeight && y < height; ++y)
      visit(first + int64_t(y) * image_width, y * B::kWidth, width < B::kWidth ? width : B::kWidth);
  }
}
// Copies a block of an image into lanes (0 outside the image), and back.
template <class T>
COCOGS_HD T load_block(const typename T::Scalar* image, int image_width, const Tile& tile, int block) {
  using R = typename T::Scalar;
  alignas(64) R lanes[T::kLanes] = {};
  if (image)
    visit_rows<T>(image_width, tile, block, [&](int64_t at, int lane, int pixels) {
      std::memcpy(lanes + lane, image + at, size_t(pixels) * sizeof(R));
    });
  return T::load(lanes);
}
template <class T, class Number>
COCOGS_HD void store_lanes(const Number* lanes, Number* image, int image_width, const Tile& tile, int block) {
  visit_rows<T>(image_width, tile, block, [&](int64_t at, int lane, int pixels) {
    std::memcpy(image + at, lanes + lane, size_t(pixels) * sizeof(Number));
  });
}
template <class T>
COCOGS_HD void store_block(const T& block_lanes, typename T::Scalar* image, int image_width,
                           const Tile& tile, int block) {
  alignas(64) typename T::Scalar lanes[T::kLanes];
  block_lanes.store(lanes);
  store_lanes<T>(lanes, image, image_width, tile, block);
}

}  // namespace COCOGS_ISA
}  // namespace cocogs
