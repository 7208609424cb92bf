// The forward walk: a tile's splats, near to far, over its pixels. Compiled per instruction set level, like simd/.
//
// The tile's list is cut into batches, and each block walks the splats of a batch that reach it, so that what it
// gathers stays in registers. A tile whose pixels are all closed reads no more splats.
//
// Gathered is what a block of pixels gathers on the way:
//   Gathered::Share                  what a splat gives to every pixel
//   Gathered::share_of(splat, index) of a Gaussian by its index
//   gathered.add(share, weight)      takes it, by the weights of the pixels
#pragma once
#include <cstring>

#include "blocks.h"
#include "ops.h"
#include "simd/members.h"

namespace cocogs {
namespace COCOGS_ISA {

// Splats. Far enough ahead to hide the latency of memory, near enough to stay in the cache.
constexpr int kPrefetch = 16;

template <class R>
COCOGS_HD void prefetch_record(const SetState<R>& state, const Tile& tile, int64_t i) {
  if (i + kPrefetch < tile.end) __builtin_prefetch(&state.records[state.splat_of[i + kPrefetch]]);
}

constexpr int kBatch = 256;  // splats that a tile handles at a time

// What the walk needs of a splat, relative to the tile.
template <class R, class Share>
struct Drawn {
  Whitener<R> white;
  R log2_opacity;
  Share share;
};

// A block of pixels on the way.
template <class T, class Gathered>
struct Walker {
  T x;  // of the pixels, kClosed where they are finished
  T transmittance;
  Gathered gathered;
};

// Walks the listed splats. Returns whether the block has an open pixel left.
template <class T, class Gathered>
COCOGS_HD bool walk_block(const Drawn<typename T::Scalar, typename Gathered::Share>* drawn, const uint32_t* list,
                          int listed, const T& y, Walker<T, Gathered>& walker) {
  T bx = walker.x, bt = walker.transmittance;
  Gathered gathered = walker.gathered;
  bool open = true;
  for (int k = 0; k < listed; ++k) {
    const auto& splat = drawn[list[k]];
    const T u = splat.white.u(bx, y), w = splat.white.w(y);
    Blend<T> blend = splat_alpha(T(splat.log2_opacity) - u * u - w * w, bt);
    const auto finished = finishes(blend);
    if (__builtin_expect(finished.any(), 0)) {
      blend.weight = select(finished, T(0), blend.weight);
      blend.transmittance = select(finished, bt, blend.transmittance);
      bx = select(finished, T(kClosed), bx);
      if (!any_open(bx)) {
        open = false;
        k = listed;
      }
    }
    bt = blend.transmittance;
    gathered.add(splat.share, blend.weight);
  }
  walker = {bx, bt, gathered};
  return open;
}

// Walks all of a tile's splats. `walkers`: one per block, at the start with what they have gathered before, which is
// nothing; the walk itself sets the rest.
template <class T, class Gathered>
COCOGS_HD void walk_tile(const Tile& tile, const SetState<typename T::Scalar>& state,
                         Walker<T, Gathered>* walkers) {
  using R = typename T::Scalar;
  using B = Blocks<T>;
  using Splats = Drawn<R, typename Gathered::Share>;
  static const TileGeometry<T> geometry;
  auto* blocks_of = static_cast<typename B::Set*>(state.blocks_of);

  typename B::Set open = 0;
  for (int b = 0; b < B::kCount; ++b) {
    walkers[b].x = block_pixels_x(geometry, tile, b);
    walkers[b].transmittance = T(1);
    if (any_open(walkers[b].x)) open |= typename B::Set(1) << b;
  }

  alignas(64) char memory[kBatch * sizeof(Splats)];  // each is written before it is read
  Splats* drawn = reinterpret_cast<Splats*>(memory);
  typename B::Set reached[kBatch + kListSlack];
  uint32_t list[kBatch + kListSlack];
  for (int64_t begin = tile.begin; begin < tile.end; begin += kBatch) {
    if (!open) {  // the rest is hidden
      std::memset(blocks_of + begin, 0, size_t(tile.end - begin) * sizeof *blocks_of);
      break;
    }
    const int count = tile.end - begin < kBatch ? int(tile.end - begin) : kBatch;
    for (int k = 0; k < count; ++k) {
      prefetch_record(state, tile, begin + k);
      const uint32_t index = state.splat_of[begin + k];
      const Splat<R> splat = relative_to(R(tile.x), R(tile.y), state.records[index].splat);
      drawn[k] = {Whitener<R>(splat), splat.log2_opacity, Gathered::share_of(splat, index)};
      blocks_of[begin + k] = reached[k] = geometry.reached(splat) & open;
    }
    for (int k = count; k < count + kListSlack; ++k) reached[k] = 0;
    for (typename B::Set left = open; left; left &= left - 1) {
      const int b = __builtin_ctzll(left);
      const int listed = list_members(reached, count, b, list);
      if (!walk_block(drawn, list, listed, block_pixels_y(geometry, b), walkers[b]))
        open &= ~(typename B::Set(1) << b);
    }
  }
}

}  // namespace COCOGS_ISA
}  // namespace cocogs
