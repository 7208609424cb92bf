// Sorting once per splat and then dealing out in order is cheaper than sorting (tile, depth) pairs:
// there are several intersections per splat.
#include <algorithm>
#include <cstring>

#include "memory.h"
#include "threads.h"
#include "tiles.h"

namespace cocogs {
namespace {

constexpr int kMaxDigit = 11;  // bits; more buckets than this no longer fit the first-level cache
constexpr int kAhead = 16;     // elements to prefetch ahead

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
uint64_t* sort_by_depth(uint64_t* keys, uint64_t* other, int64_t total, int threads) {
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
    parallel_for(threads, threads, [&](int64_t part) {
      uint32_t* count = counts.data() + part * buckets;
      std::fill_n(count, buckets, 0u);
      const Range range = part_of(total, part, threads);
      for (int64_t i = range.begin; i < range.end; ++i) ++count[bucket_of(keys[i])];
    });
    uint32_t position = 0;
    for (int64_t b = 0; b < buckets; ++b) position = chain(counts.data(), threads, buckets, b, position);
    parallel_for(threads, threads, [&](int64_t part) {
      uint32_t* next = counts.data() + part * buckets;
      const Range range = part_of(total, part, threads);
      for (int64_t i = range.begin; i < range.end; ++i) other[next[bucket_of(keys[i])]++] = keys[i];
    });
  }
  return keys;
}

// Calls visit(tile, splat) for all tiles of the splats of a part, in order of depth.
template <class Visit>
void visit_tiles(const TileGrid& grid, const TileRect* rects, const uint64_t* keys, Range range,
                 Visit visit) {
  for (int64_t i = range.begin; i < range.end; ++i) {
    if (i + kAhead < range.end) __builtin_prefetch(&rects[splat_index(keys[i + kAhead])]);
    const uint32_t splat = splat_index(keys[i]);
    const TileRect rect = rects[splat];
    for (int y = rect.y0; y < rect.y1; ++y)
      for (int x = rect.x0; x < rect.x1; ++x) visit(int64_t(y) * grid.tiles_x + x, splat);
  }
}

}  // namespace

void bin_splats(const TileGrid& grid, const Staging& staging, int threads, int64_t* tile_start,
                uint32_t* splat_of) {
  const int64_t total = compact(grid, staging);
  Buffer<uint64_t> other{size_t(total)};
  const uint64_t* keys = sort_by_depth(staging.keys, other.data(), total, threads);

  const int64_t tiles = int64_t(grid.tiles_x) * grid.tiles_y;
  Buffer<uint32_t> counts(size_t(threads * tiles));
  parallel_for(threads, threads, [&](int64_t part) {
    uint32_t* count = counts.data() + part * tiles;
    std::fill_n(count, tiles, 0u);
    visit_tiles(grid, staging.tiles, keys, part_of(total, part, threads),
                [count](int64_t tile, uint32_t) { ++count[tile]; });
  });
  uint32_t position = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    tile_start[tile] = position;
    position = chain(counts.data(), threads, tiles, tile, position);
  }
  tile_start[tiles] = position;
  parallel_for(threads, threads, [&](int64_t part) {
    uint32_t* next = counts.data() + part * tiles;
    visit_tiles(grid, staging.tiles, keys, part_of(total, part, threads),
                [next, splat_of](int64_t tile, uint32_t splat) { splat_of[next[tile]++] = splat; });
  });
}

}  // namespace cocogs
