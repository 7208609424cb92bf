// Splats to pixels and back, a tile at a time: lanes are the pixels of a small block of the tile.
//
// Forward, the tile's list is cut into batches and each block walks the splats of a batch that reach
// it, so that its colours stay in registers. Backward, each splat walks the blocks that it reaches, so
// that its moments stay in registers.
#include <cstring>

#include "ops.h"
#include "simd/members.h"
#include "simd/memory.h"

namespace cocogs {
namespace COCOGS_ISA {
namespace {

// How a tile is cut into blocks of as many pixels as T has lanes.
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

// Pixels that take no more splats, or lie outside the image, get this x: so far away that no splat
// reaches them, and finite, so that nothing times their offset is nothing.
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

// Calls visit(place of a row of the block in the image, its first lane, its pixels within the image).
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
template <class T>
COCOGS_HD void store_block(const T& block_lanes, typename T::Scalar* image, int image_width,
                           const Tile& tile, int block) {
  using R = typename T::Scalar;
  alignas(64) R lanes[T::kLanes];
  block_lanes.store(lanes);
  visit_rows<T>(image_width, tile, block, [&](int64_t at, int lane, int pixels) {
    std::memcpy(image + at, lanes + lane, size_t(pixels) * sizeof(R));
  });
}

// Far enough ahead to hide the way to memory, near enough to stay in the cache.
constexpr int kPrefetch = 16;

constexpr int kBatch = 256;  // splats that a tile handles at a time

template <bool Depth, class T>
void rasterize_tile(const Scene<typename T::Scalar>& scene, int set, int64_t tile_index,
                    const SetState<typename T::Scalar>& state, const Images<typename T::Scalar>& out) {
  using R = typename T::Scalar;
  using B = Blocks<T>;
  static const TileGeometry<T> geometry;
  const Tile tile = place(scene, tile_index, state);
  auto* blocks_of = static_cast<typename B::Set*>(state.blocks_of);

  T x[B::kCount], transmittance[B::kCount], red[B::kCount], green[B::kCount], blue[B::kCount];
  T depth[Depth ? B::kCount : 1];
  typename B::Set open = 0;
  for (int b = 0; b < B::kCount; ++b) {
    x[b] = block_pixels_x(geometry, tile, b);
    transmittance[b] = T(1);
    red[b] = green[b] = blue[b] = T(0);
    if constexpr (Depth) depth[b] = T(0);
    if (any_open(x[b])) open |= typename B::Set(1) << b;
  }

  struct Drawn {
    Whitener<R> white;
    R log2_opacity, red, green, blue, depth;
  };
  alignas(64) char memory[kBatch * sizeof(Drawn)];  // each is written before it is read
  Drawn* drawn = reinterpret_cast<Drawn*>(memory);
  typename B::Set reached[kBatch + kListSlack];
  uint32_t list[kBatch + kListSlack];
  for (int64_t begin = tile.begin; begin < tile.end; begin += kBatch) {
    if (!open) {  // the rest is hidden
      std::memset(blocks_of + begin, 0, size_t(tile.end - begin) * sizeof *blocks_of);
      break;
    }
    const int count = tile.end - begin < kBatch ? int(tile.end - begin) : kBatch;
    for (int k = 0; k < count; ++k) {
      if (begin + k + kPrefetch < tile.end)
        __builtin_prefetch(&state.records[state.splat_of[begin + k + kPrefetch]]);
      const Splat<R> splat = relative_to(R(tile.x), R(tile.y), state.records[state.splat_of[begin + k]].splat);
      drawn[k] = {Whitener<R>(splat), splat.log2_opacity, splat.red, splat.green, splat.blue, splat.depth};
      blocks_of[begin + k] = reached[k] = geometry.reached(splat) & open;
    }
    for (int k = count; k < count + kListSlack; ++k) reached[k] = 0;
    for (typename B::Set left = open; left; left &= left - 1) {
      const int b = __builtin_ctzll(left);
      const int listed = list_members(reached, count, b, list);
      const T y = block_pixels_y(geometry, b);
      T bx = x[b], bt = transmittance[b], br = red[b], bg = green[b], bb = blue[b];
      T bd = depth[Depth ? b : 0];
      for (int k = 0; k < listed; ++k) {
        const Drawn& splat = drawn[list[k]];
        const T u = splat.white.u(bx, y), w = splat.white.w(y);
        Blend<T> blend = splat_alpha(T(splat.log2_opacity) - u * u - w * w, bt);
        const auto finished = finishes(blend);
        if (__builtin_expect(finished.any(), 0)) {
          blend.weight = select(finished, T(0), blend.weight);
          blend.transmittance = select(finished, bt, blend.transmittance);
          bx = select(finished, T(kClosed), bx);
          if (!any_open(bx)) {
            open &= ~(typename B::Set(1) << b);
            k = listed;
          }
        }
        bt = blend.transmittance;
        br += blend.weight * T(splat.red);
        bg += blend.weight * T(splat.green);
        bb += blend.weight * T(splat.blue);
        if constexpr (Depth) bd += blend.weight * T(splat.depth);
      }
      x[b] = bx;
      transmittance[b] = bt;
      red[b] = br;
      green[b] = bg;
      blue[b] = bb;
      if constexpr (Depth) depth[b] = bd;
    }
  }

  const int64_t pixels = int64_t(scene.width) * scene.height;
  R* colors = out.colors + 3 * pixels * set;
  for (int b = 0; b < B::kCount; ++b) {
    const T rest = transmittance[b];
    store_block(red[b] + rest * T(scene.background[0]), colors, scene.width, tile, b);
    store_block(green[b] + rest * T(scene.background[1]), colors + pixels, scene.width, tile, b);
    store_block(blue[b] + rest * T(scene.background[2]), colors + 2 * pixels, scene.width, tile, b);
    store_block(T(1) - rest, out.alphas + pixels * set, scene.width, tile, b);
    if constexpr (Depth) store_block(depth[b], out.depths + pixels * set, scene.width, tile, b);
  }
}

template <bool Depth, bool Lengths, class T>
void rasterize_tile_vjp(const Scene<typename T::Scalar>& scene, int set, int64_t tile_index,
                        const SetState<typename T::Scalar>& state,
                        const Images<const typename T::Scalar>& out,
                        const Images<const typename T::Scalar>& v_out,
                        const Slots<typename T::Scalar>& slots) {
  using R = typename T::Scalar;
  using B = Blocks<T>;
  constexpr int kSlotVectors = kSlotSize / T::kLanes;
  static const TileGeometry<T> geometry;
  const Tile tile = place(scene, tile_index, state);
  const auto* blocks_of = static_cast<const typename B::Set*>(state.blocks_of);

  struct Open {  // a block on its way from front to back
    T x, y, transmittance, behind;
    T v_red, v_green, v_blue, v_depth;
  };
  Open blocks[B::kCount];
  typename B::Set open = 0;
  const int64_t pixels = int64_t(scene.width) * scene.height;
  const auto image = [&](const R* images, int channels, int channel) {
    return images ? images + (channels * set + channel) * pixels : nullptr;
  };
  for (int b = 0; b < B::kCount; ++b) {
    const auto load = [&](const R* from) { return load_block<T>(from, scene.width, tile, b); };
    Open& block = blocks[b];
    block.x = block_pixels_x(geometry, tile, b);
    block.y = block_pixels_y(geometry, b);
    block.transmittance = T(1);
    block.v_red = load(image(v_out.colors, 3, 0));
    block.v_green = load(image(v_out.colors, 3, 1));
    block.v_blue = load(image(v_out.colors, 3, 2));
    // All that any splat adds to the loss, and the background: what lies behind the eye.
    block.behind = block.v_red * load(image(out.colors, 3, 0)) +
                   block.v_green * load(image(out.colors, 3, 1)) +
                   block.v_blue * load(image(out.colors, 3, 2)) -
                   load(image(v_out.alphas, 1, 0)) * (T(1) - load(image(out.alphas, 1, 0)));
    if constexpr (Depth) {
      block.v_depth = load(image(v_out.depths, 1, 0));
      block.behind += block.v_depth * load(image(out.depths, 1, 0));
    }
    if (any_open(block.x)) open |= typename B::Set(1) << b;
  }

  for (int64_t i = tile.begin; i < tile.end && open; ++i) {
    if (i + kPrefetch < tile.end) __builtin_prefetch(&state.records[state.splat_of[i + kPrefetch]]);
    typename B::Set left = blocks_of[i] & open;
    if (!left) continue;
    const uint32_t index = state.splat_of[i];
    const Record<R>& record = state.records[index];
    const Splat<R> splat = relative_to(R(tile.x), R(tile.y), record.splat);
    const Whitener<R> white(splat);
    const R skew = white.skew();
    T sums[kSlotSize];  // the moments; the rest only fills the slot's cache line
    for (int m = 0; m < kSlotSize; ++m) sums[m] = T(0);
    for (; left; left &= left - 1) {
      Open& block = blocks[__builtin_ctzll(left)];
      const T u = white.u(block.x, block.y), w = white.w(block.y);
      const T before = block.transmittance;
      Blend<T> blend = splat_alpha(T(splat.log2_opacity) - u * u - w * w, before);
      const auto finished = finishes(blend);
      if (__builtin_expect(finished.any(), 0)) {
        blend.alpha = select(finished, T(0), blend.alpha);
        blend.weight = select(finished, T(0), blend.weight);
        blend.transmittance = select(finished, before, blend.transmittance);
        block.x = select(finished, T(kClosed), block.x);
        if (!any_open(block.x)) open &= ~(typename B::Set(1) << (&block - blocks));
      }
      T own = T(splat.red) * block.v_red + T(splat.green) * block.v_green + T(splat.blue) * block.v_blue;
      if constexpr (Depth) own = own + T(splat.depth) * block.v_depth;
      const T behind = block.behind - blend.weight * own;
      const T v = splat_alpha_vjp(blend, own, behind);
      block.transmittance = blend.transmittance;
      block.behind = behind;
      const T vu = v * u, vw = v * w;
      const Vec2<T> pull = pull_at_centre(skew, vu, vw);
      sums[kSumLog] += v;
      sums[kSumX] += pull.x;
      sums[kSumY] += pull.y;
      sums[kSumUU] += vu * u;
      sums[kSumUW] += vu * w;
      sums[kSumWW] += vw * w;
      sums[kSumRed] += blend.weight * block.v_red;
      sums[kSumGreen] += blend.weight * block.v_green;
      sums[kSumBlue] += blend.weight * block.v_blue;
      if constexpr (Depth) sums[kSumDepth] += blend.weight * block.v_depth;
      if constexpr (Lengths) {
        sums[kLengthX] += absolute(pull.x);
        sums[kLengthY] += absolute(pull.y);
      }
    }
    fold_sums<kMoments>(sums);
    const TileRect& rect = record.tiles;
    const int64_t slot = state.chunk_slots[index / kChunk] + record.first_slot +
                         int64_t(tile.row - rect.y0) * (rect.x1 - rect.x0) + (tile.column - rect.x0);
    stream(slots.moments + slot * kSlotSize, sums, kSlotVectors);
    slots.written[slot] = 1;
  }
  finish_streaming();
}

template <class T>
void rasterize(const Scene<typename T::Scalar>& scene, int set, int64_t tile,
               const SetState<typename T::Scalar>& state, const Images<typename T::Scalar>& out) {
  scene.with_depth ? rasterize_tile<true, T>(scene, set, tile, state, out)
                   : rasterize_tile<false, T>(scene, set, tile, state, out);
}
template <class T>
void rasterize_vjp(const Scene<typename T::Scalar>& scene, int set, int64_t tile,
                   const SetState<typename T::Scalar>& state,
                   const Images<const typename T::Scalar>& out,
                   const Images<const typename T::Scalar>& v_out, bool lengths,
                   const Slots<typename T::Scalar>& slots) {
  constexpr decltype(&rasterize_tile_vjp<false, false, T>) kTasks[2][2] = {
      {rasterize_tile_vjp<false, false, T>, rasterize_tile_vjp<false, true, T>},
      {rasterize_tile_vjp<true, false, T>, rasterize_tile_vjp<true, true, T>}};
  kTasks[v_out.depths != nullptr][lengths](scene, set, tile, state, out, v_out, slots);
}

}  // namespace

void add_rasterize_kernels(Kernels<float>& kernels) {
  kernels.rasterize = rasterize<Simd<float, kFloatLanes>>;
  kernels.rasterize_vjp = rasterize_vjp<Simd<float, kFloatLanes>>;
}
#if COCOGS_WITH_DOUBLE
void add_rasterize_kernels(Kernels<double>& kernels) {
  kernels.rasterize = rasterize<Simd<double, kDoubleLanes>>;
  kernels.rasterize_vjp = rasterize_vjp<Simd<double, kDoubleLanes>>;
}
#endif

}  // namespace COCOGS_ISA
}  // namespace cocogs
