// Sorting once per splat and then dealing out in order is cheaper than sorting (tile, depth) pairs:
// there are several intersections per splat.
#include <algorithm>
#include <cstring>

#include "tiles.h"

namespace cocogs {
namespace {

constexpr int kMaxDigit = 11;  // bits; more buckets than this no longer fit the first-level cache
constexpr int kAhead = 16;     // elements to prefetch ahead
constexpr int64_t kDealtAtOnce = 1 << 20;  // intersections between two looks at `cancel`

uint32_t splat_index(uint64_t key) { return uint32_t(key); }

// Pushes the keys of all chunks together; returns how many there are.
int64_t compact(const TileGrid& grid, const Staging& staging) {
  int64_t total = 0;
  for (int64_t chunk = 0; chunk < grid.chunks; ++chunk) {
    const int64_t drawn = staging.drawn_in_chunk[chunk];
    if (total != chunk * kChunk)
      std::memmove(staging.keys + total, staging.keys + chunk * kChunk, size_t(drawn) * sizeof(uint64_t));
    total += drawn;
  }
  return total;
}

struct Range {
  int64_t begin, end;
};
Range part_of(int64_t total, int64_t part, int parts) {
  return {total * part / parts, total * (part + 1) / parts};
}

// counts[part][bucket] becomes the position of that part's first element of that bucket.
uint32_t chain(uint32_t* counts, int parts, int64_t buckets, int64_t bucket, uint32_t position) {
  for (int part = 0; part < parts; ++part) {
    uint32_t& count = counts[part * buckets + bucket];
    const uint32_t next = position + count;
    count = position;
    position = next;
  }
  return position;
}

// Stable radix sort by the upper half of the keys. Returns the array that holds the result.
uint64_t* sort_by_depth(uint64_t* keys, uint64_t* other, int64_t total, int threads, Cancel& cancel) {
  uint32_t low = ~0u, high = 0;
  for (int64_t i = 0; i < total; ++i) {
    low = std::min(low, uint32_t(keys[i] >> 32));
    high = std::max(high, uint32_t(keys[i] >> 32));
  }
  const uint32_t spread = total ? high - low : 0;
  int bits = 0;
  while (bits < 32 && spread >> bits) ++bits;
  const int passes = (bits + kMaxDigit - 1) / kMaxDigit;
  if (!passes) return keys;
  const int digit = (bits + passes - 1) / passes;
  const int64_t buckets = int64_t(1) << digit;
  Buffer<uint32_t> counts(size_t(threads * buckets));
  for (int pass = 0; pass < passes; ++pass, std::swap(keys, other)) {
    const auto bucket_of = [low, shift = pass * digit, mask = buckets - 1](uint64_t key) {
      return (uint32_t(key >> 32) - low) >> shift & mask;
    };
    parallel_for(threads, threads, cancel, [&](int64_t part) {
      uint32_t* count = counts.data() + part * buckets;
      std::fill_n(count, buckets, 0u);
      const Range range = part_of(total, part, threads);
      for (int64_t i = range.begin; i < range.end; ++i) ++count[bucket_of(keys[i])];
    });
    uint32_t position = 0;
    for (int64_t b = 0; b < buckets; ++b) position = chain(counts.data(), threads, buckets, b, position);
    parallel_for(threads, threads, cancel, [&](int64_t part) {
      uint32_t* next = counts.data() + part * buckets;
      const Range range = part_of(total, part, threads);
      for (int64_t i = range.begin; i < range.end; ++i) other[next[bucket_of(keys[i])]++] = keys[i];
    });
  }
  return keys;
}

// Counts the splats of every tile: tile_start[tile + 1] = end of the tile. Each rectangle marks its four
// corners, +1 and -1, whose two-dimensional running sum is the count.
void count_tiles(const TileGrid& grid, const TileRect* rects, int64_t* tile_start) {
  const int64_t across = grid.tiles_x + 1, corners = across * (grid.tiles_y + 1);
  Buffer<int32_t> marks{size_t(corners)};
  std::fill_n(marks.data(), corners, 0);
  for (int64_t i = 0; i < grid.count; ++i) {
    const TileRect rect = rects[i];
    int32_t* const top = marks.data() + rect.y0 * across;
    int32_t* const bottom = marks.data() + rect.y1 * across;
    ++top[rect.x0];
    --top[rect.x1];
    --bottom[rect.x0];
    ++bottom[rect.x1];
  }
  tile_start[0] = 0;
  Buffer<int64_t> above{size_t(across)};
  std::fill_n(above.data(), across, 0);
  for (int64_t y = 0; y < grid.tiles_y; ++y) {
    int64_t in_row = 0;
    for (int64_t x = 0; x < grid.tiles_x; ++x) {
      in_row += marks.data()[y * across + x];
      above.data()[x] += in_row;
      const int64_t tile = y * grid.tiles_x + x;
      tile_start[tile + 1] = tile_start[tile] + above.data()[x];
    }
  }
}

// Rows of tiles that hold about one part in `parts` of the intersections.
Range rows_of_part(const TileGrid& grid, const int64_t* tile_start, int64_t part, int parts) {
  const auto first_row_from = [&](int64_t share) {
    const int64_t wanted = tile_start[int64_t(grid.tiles_x) * grid.tiles_y] * share / parts;
    int row = 0;
    while (row < grid.tiles_y && tile_start[int64_t(row) * grid.tiles_x] < wanted) ++row;
    return row;
  };
  return {first_row_from(part), part + 1 == parts ? grid.tiles_y : first_row_from(part + 1)};
}

// Deals the splats, near to far, out to the tiles of some rows; next[tile] is where its next one goes.
void deal(const TileGrid& grid, const TileRect* rects, const uint64_t* keys, int64_t total, Range rows,
          int64_t* next, uint32_t* splat_of, Cancel& cancel) {
  int64_t dealt = 0;
  for (int64_t i = 0; i < total; ++i) {
    if (i + kAhead < total) __builtin_prefetch(&rects[splat_index(keys[i + kAhead])]);
    const uint32_t splat = splat_index(keys[i]);
    const TileRect rect = rects[splat];
    const int64_t end = std::min<int64_t>(rect.y1, rows.end);
    for (int64_t y = std::max<int64_t>(rect.y0, rows.begin); y < end; ++y)
      for (int x = rect.x0; x < rect.x1; ++x) splat_of[next[y * grid.tiles_x + x]++] = splat;
    dealt += 1 + rect.area();
    if (dealt < kDealtAtOnce) continue;
    if (cancel.stops()) return;
    dealt = 0;
  }
}

}  // namespace

SortedKeys sort_splats(const TileGrid& grid, const Staging& staging, int threads, Cancel& cancel) {
  SortedKeys sorted;
  sorted.total = compact(grid, staging);
  sorted.room = Buffer<uint64_t>{size_t(sorted.total)};
  sorted.keys = sort_by_depth(staging.keys, sorted.room.data(), sorted.total, threads, cancel);
  return sorted;
}

void list_splats(const TileGrid& grid, const TileRect* rects, const SortedKeys& sorted, int threads, Cancel& cancel,
                 int64_t* tile_start, uint32_t* splat_of) {
  count_tiles(grid, rects, tile_start);
  const int64_t tiles = int64_t(grid.tiles_x) * grid.tiles_y;
  Buffer<int64_t> next{size_t(tiles)};
  std::copy_n(tile_start, tiles, next.data());
  // Every part reads all splats: that is cheap beside writing, and each tile is written by one part.
  parallel_for(threads, threads, cancel, [&](int64_t part) {
    deal(grid, rects, sorted.keys, sorted.total, rows_of_part(grid, tile_start, part, threads), next.data(), splat_of,
         cancel);
  });
}

}  // namespace cocogs
