// Splats sorted by depth and dealt out to the tiles they touch.
#pragma once
#include <cstdint>

#include "memory.h"
#include "ops.h"
#include "threads.h"

namespace cocogs {

// Sizes of a set's image in tiles and of its arrays in Gaussians.
struct TileGrid {
  int tiles_x, tiles_y;
  int64_t count, chunks;
};

// The keys of drawn splats, near to far; see Staging.
struct SortedKeys {
  Buffer<uint64_t> room;
  const uint64_t* keys = nullptr;  // in `room`, or in the staging that they are from
  int64_t total = 0;
};

// Equal depths keep the order of their indices, whatever the number of threads. Clobbers staging.keys.
// Throws std::bad_alloc, Cancelled.
SortedKeys sort_splats(const TileGrid& grid, const Staging& staging, int threads, Cancel& cancel);

// Fills tile_start (tiles + 1,) and splat_of (intersections,): per tile, the indices of its splats near to far.
// `rects`: (N,); those of splats that have no key are empty. Throws std::bad_alloc, Cancelled.
void list_splats(const TileGrid& grid, const TileRect* rects, const SortedKeys& sorted, int threads, Cancel& cancel,
                 int64_t* tile_start, uint32_t* splat_of);

}  // namespace cocogs
