// The contract between the stages of the rasterizer. Every stage takes plain arrays; nobody but call.h and
// bindings.cpp knows Python, nobody but dispatch.cpp and tiles_cpu.cpp allocates.
//
// Forward, for S sets of N Gaussians:   project (all sets) -> per set: bin -> rasterize.
// Of one set, instead of a picture:   project -> bin -> contributors.
// Backward:   per set: rasterize_vjp -> sum_moments;   then project_vjp (all sets).
// And, apart from these, two pictures compared: ssim, ssim_vjp.
//
// R is float, or double where derivatives are checked.
#pragma once
#include <cstdint>

#include "math/gradient.h"
#include "math/ranking.h"

namespace cocogs {

constexpr int kTile = 16;         // px, side of a tile
constexpr int kChunk = 2048;      // Gaussians projected as one task
constexpr int kMaxSets = 64;
constexpr int kSlotSize = 16;     // numbers per intersection: the moments of compositing.h, padded

template <class R>
struct Scene {
  Parameters<const R> gaussians;
  Pinhole<R> camera;
  const R* place = nullptr;  // (15,) where `camera` stands, if it is known only once the pass runs; see placed_camera
  int64_t count = 0;       // N
  int sets = 1;            // S
  int sh_degree = 3;       // bands used
  int width = 0, height = 0;
  bool with_depth = false;
  const R* background = nullptr;  // (3,)

  COCOGS_HD int tiles_x() const { return (width + kTile - 1) / kTile; }
  COCOGS_HD int tiles_y() const { return (height + kTile - 1) / kTile; }
  COCOGS_HD int64_t tiles() const { return int64_t(tiles_x()) * tiles_y(); }
  int64_t chunks() const { return (count + kChunk - 1) / kChunk; }
  COCOGS_HD Pinhole<R> placed_camera() const {
    Pinhole<R> placed = camera;
    if (place) placed.stand_at(place);
    return placed;
  }
};

// Tiles [x0, x1) x [y0, y1) that a splat may touch; empty if it is not drawn.
struct TileRect {
  uint16_t x0, y0, x1, y1;
  COCOGS_HD int64_t area() const { return int64_t(x1 - x0) * (y1 - y0); }
};

// First, and past the last, tile whose pixel centres lie between two places (px), of `tiles` in a row.
template <class T>
COCOGS_HD T first_tile(const T& low, const T& tiles) {
  return minimum(maximum((low + T(0.5f)) * T(1.0f / kTile), T(0)), tiles);
}
template <class T>
COCOGS_HD T past_tile(const T& high, const T& tiles) {
  return minimum(maximum((high + T(kTile - 0.5f)) * T(1.0f / kTile), T(0)), tiles);
}

// What one set's forward pass leaves for its backward pass. For each intersection of a splat with a
// tile there is one slot, numbered splat by splat, tile by tile within the splat's rectangle.
template <class R>
struct alignas(64) Record {
  Splat<R> splat;
  TileRect tiles;
  int64_t first_slot;  // counted from the first of the chunk, see SetState::chunk_slots
};

template <class R>
struct SetState {
  Record<R>* records = nullptr;    // (N,)
  int64_t* chunk_slots = nullptr;  // (chunks + 1,) first slot of each chunk
  int64_t* tile_start = nullptr;   // (tiles + 1,) ranges of the two following
  uint32_t* splat_of = nullptr;    // (intersections,) indices into records, near to far in each tile
  void* blocks_of = nullptr;       // (intersections,) which blocks of the tile the splat reaches,
                                   //     8 bytes at most; written by rasterize for rasterize_vjp
  int64_t intersections = 0;
};

// What project leaves for bin, per set. The key of a drawn splat is (bits of its depth as float) << 32
// | its index; the keys of a chunk stand together, from the chunk's first index on. Where the sets are alike, the
// first has the keys of all splats that any set draws, and the others have none.
struct Staging {
  uint64_t* keys = nullptr;          // (N,)
  TileRect* tiles = nullptr;         // (N,)
  int64_t* drawn_in_chunk = nullptr; // (chunks,)
};

// The moments that rasterize_vjp leaves in each slot. It writes only the slots of splats that reach an open pixel
// of the tile; the others hold anything. `written` is all 0 before.
template <class R>
struct Slots {
  R* moments = nullptr;        // (intersections, kSlotSize)
  uint8_t* written = nullptr;  // (intersections,)
};

// Where project_vjp finds the moments of a Gaussian: summed already, or still in its slots.
template <class R>
struct Moments {
  const R* sums = nullptr;  // (N, kSlotSize) or null
  Slots<R> slots;
};

// Images, set after set. P is R, or const R.
template <class P>
struct Images {
  P* colors = nullptr;   // (S, 3, H, W)
  P* alphas = nullptr;   // (S, H, W)
  P* depths = nullptr;   // (S, H, W) sum of weight x depth; null without depth
};

// The splats that contribute most to each pixel, the first the most: indices of Gaussians, -1 where there are fewer,
// and weights, 0 there.
template <class R>
struct Contributors {
  int count = 0;           // 1 to kMostContributors
  int32_t* ids = nullptr;  // (count, H, W)
  R* weights = nullptr;    // (count, H, W)
};

// Two pictures to compare; tiles go channel after channel, row after row.
constexpr int kSsimTile = 64;  // px, side of a tile on a CPU
template <class R>
struct Comparison {
  int channels = 0, height = 0, width = 0;
  const R* image = nullptr;  // (channels, H, W)
  const R* photo = nullptr;  // (channels, H, W)

  COCOGS_HD int64_t pixels() const { return int64_t(channels) * height * width; }
  COCOGS_HD int64_t place(int channel, int x, int y) const {
    return (int64_t(channel) * height + y) * width + x;
  }
  COCOGS_HD int across(int tile_width) const { return (width + tile_width - 1) / tile_width; }
  COCOGS_HD int down(int tile_height) const { return (height + tile_height - 1) / tile_height; }
  COCOGS_HD int64_t tiles(int tile_width, int tile_height) const {
    return int64_t(channels) * across(tile_width) * down(tile_height);
  }
};

// The stages that are compiled once per instruction set level; one call is one task of many.
template <class R>
struct Kernels {
  // Projects a chunk of Gaussians of all sets; states, staging: (S,). radii: (S, N) px.
  void (*project)(const Scene<R>&, int64_t chunk, const SetState<R>* states, const Staging* staging,
                  R* radii);
  // Draws a tile.
  void (*rasterize)(const Scene<R>&, int set, int64_t tile, const SetState<R>&, const Images<R>& out);
  // Ranks the contributors to a tile's pixels.
  void (*contributors)(const Scene<R>&, int64_t tile, const SetState<R>&, const Contributors<R>& out);
  // Fills the slots of a tile. A null image in v_out is a zero gradient. Without `lengths` those of the pixels'
  // pulls (compositing.h) are 0.
  void (*rasterize_vjp)(const Scene<R>&, int set, int64_t tile, const SetState<R>&,
                        const Images<const R>& out, const Images<const R>& v_out, bool lengths,
                        const Slots<R>& slots);
  // Adds up the slots of each Gaussian of a chunk: sums (N, kSlotSize).
  void (*sum_moments)(const Scene<R>&, int64_t chunk, const SetState<R>&, const Slots<R>& slots, R* sums);
  // Gradients of a chunk of Gaussians; states, moments: (S,). Null arrays in v are not wanted.
  void (*project_vjp)(const Scene<R>&, int64_t chunk, const SetState<R>* states,
                      const Moments<R>* moments, const Parameters<R>& v);

  // The structural similarity of a tile's pixels, values (channels, H, W); and, unless null, its
  // gradients by the averages over their windows, slopes (kSsimSlopes, channels, H, W).
  void (*ssim)(const Comparison<R>&, int64_t tile, R* values, R* slopes);
  // Gradient by the image, of a tile.
  void (*ssim_vjp)(const Comparison<R>&, int64_t tile, const R* slopes, const R* v_values, R* v_image);
};

}  // namespace cocogs
