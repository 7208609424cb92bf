// Splats sorted by depth and dealt out to the tiles they touch.
#pragma once
#include <cstdint>

#include "ops.h"
#include "threads.h"

namespace cocogs {

// Sizes of a set's image in tiles and of its arrays in Gaussians.
struct TileGrid {
  int tiles_x, tiles_y;
  int64_t count, chunks;
};

// Fills tile_start (tiles + 1,) and splat_of (intersections,): per tile, the indices of the drawn
// splats near to far; equal depths keep the order of their indices, whatever the number of threads.
// Clobbers staging.keys. Throws std::bad_alloc, Cancelled.
void bin_splats(const TileGrid& grid, const Staging& staging, int threads, Cancel& cancel,
                int64_t* tile_start, uint32_t* splat_of);

}  // namespace cocogs
