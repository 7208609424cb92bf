// Sorts splats by depth and lists them in the tiles that they reach. The splats are sorted first, and then their
// intersections by tile alone. That moves a third of the bytes that sorting the intersections by tile and depth would
// move: a splat has several intersections, and a tile's number has few bits.
#include <cub/cub.cuh>

#include "launch.h"
#include "ops_cuda.h"

namespace cocogs {
namespace {

constexpr int kThreads = 256;

// Bits of the numbers up to `count`. A number with all of them set is at least `count`.
int bits_to(int64_t count) {
  int bits = 1;
  while (bits < 32 && count >> bits) ++bits;
  return bits;
}

// Sorts stably by the lower bits of the keys; the results are in the second arrays. Returns the bytes of work space
// that it needs. Without work space it does nothing else.
size_t sort_pairs(void* work, size_t work_bytes, const uint32_t* keys, uint32_t* sorted_keys,
                  const uint32_t* values, uint32_t* sorted_values, int64_t count, int bits,
                  cudaStream_t stream) {
  check(cub::DeviceRadixSort::SortPairs(work, work_bytes, keys, sorted_keys, values, sorted_values, count, 0,
                                        bits, stream),
        "sort");
  return work_bytes;
}
size_t running_sum(void* work, size_t work_bytes, const uint64_t* numbers, uint64_t* sums, int64_t count,
                   cudaStream_t stream) {
  check(cub::DeviceScan::ExclusiveSum(work, work_bytes, numbers, sums, count, stream), "add up");
  return work_bytes;
}

__global__ void __launch_bounds__(kThreads)
    gather_counts_kernel(int64_t rows, Projection projection, Ordering ordering) {
  const int64_t k = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (k <= rows) ordering.counts[k] = k < rows ? projection.tile_count[ordering.sorted[k]] : 0;
}

__global__ void __launch_bounds__(kThreads)
    number_slots_kernel(int64_t rows, int64_t room, Projection projection, Ordering ordering) {
  const int64_t k = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (k >= rows) return;
  const uint32_t row = ordering.sorted[k];
  projection.first_slot[row] = uint32_t(ordering.offsets[k]);
  if (int64_t(ordering.offsets[k] + ordering.counts[k]) > room)
    ordering.counts[k] = projection.tile_count[row] = 0;
}

// Writes the tiles of each splat to its slots. One thread per splat, near to far.
__global__ void __launch_bounds__(kThreads)
    list_slots_kernel(Scene<float> scene, Ordering ordering, Listing listing) {
  const int64_t rows = scene.sets * scene.count, k = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (k >= rows || ordering.counts[k] == 0) return;
  const uint32_t row = ordering.sorted[k];
  const Reach reach = ordering.reach[row];
  const TileRect& rect = reach.rect;
  const bool whole = rect.area() > 64;
  const uint32_t first_tile = uint32_t(row / scene.count * scene.tiles());
  uint64_t slot = ordering.offsets[k], tiles = reach.tiles;
  for (int y = rect.y0; y < rect.y1; ++y)
    for (int x = rect.x0; x < rect.x1; ++x) {
      if (whole || tiles & 1) {
        listing.tiles[slot] = first_tile + y * scene.tiles_x() + x;
        listing.slots[slot] = uint32_t(slot);
        listing.owners[slot] = row;
        ++slot;
      }
      tiles >>= 1;
    }
}

// Finds where each tile's list begins and ends, and the splats of its slots. `tiles` are those of the sorted slots.
__global__ void __launch_bounds__(kThreads)
    find_lists_kernel(int64_t tile_count, Listing listing, Lists lists, const uint32_t* tiles) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= lists.intersections || tiles[i] >= tile_count) return;
  lists.splat_of[i] = listing.owners[lists.slot_of[i]];
  lists.warps_of[i] = 0;  // rasterize does not look behind the last open pixel
  const uint32_t tile = tiles[i];
  if (i == 0 || tiles[i - 1] != tile) lists.of_tile[tile].begin = uint32_t(i);
  if (i + 1 == lists.intersections || tiles[i + 1] != tile) lists.of_tile[tile].end = uint32_t(i + 1);
}

// A number on the host that the device writes directly. Each thread has its own, which is never freed.
uint64_t* pinned_number() {
  thread_local uint64_t* number = nullptr;
  if (!number)
    check(cudaMallocHost(reinterpret_cast<void**>(&number), sizeof *number), "reserve memory of the host");
  return number;
}

}  // namespace

Ordering take_ordering(const Scene<float>& scene, Arena& arena) {
  const int64_t rows = scene.sets * scene.count;
  Ordering ordering;
  ordering.reach = arena.take<Reach>(rows);
  ordering.keys = arena.take<uint32_t>(rows);
  ordering.other_keys = arena.take<uint32_t>(rows);
  ordering.rows = arena.take<uint32_t>(rows);
  ordering.sorted = arena.take<uint32_t>(rows);
  ordering.counts = arena.take<uint64_t>(rows + 1);
  ordering.offsets = arena.take<uint64_t>(rows + 1);
  const size_t sorting = sort_pairs(nullptr, 0, nullptr, nullptr, nullptr, nullptr, rows, 32, nullptr);
  const size_t adding = running_sum(nullptr, 0, nullptr, nullptr, rows + 1, nullptr);
  ordering.work_bytes = sorting > adding ? sorting : adding;
  ordering.work = arena.take<char>(int64_t(ordering.work_bytes));
  return ordering;
}

Lists take_lists(const Scene<float>& scene, int64_t intersections, Arena& arena) {
  return {arena.take<Range>(scene.sets * scene.tiles()), arena.take<uint32_t>(intersections),
          arena.take<uint32_t>(intersections), arena.take<uint8_t>(intersections), intersections};
}

Listing take_listing(const Scene<float>& scene, int64_t intersections, Arena& arena) {
  Listing listing;
  listing.tiles = arena.take<uint32_t>(intersections);
  listing.other_tiles = arena.take<uint32_t>(intersections);
  listing.slots = arena.take<uint32_t>(intersections);
  listing.owners = arena.take<uint32_t>(intersections);
  listing.work_bytes = sort_pairs(nullptr, 0, nullptr, nullptr, nullptr, nullptr, intersections,
                                  bits_to(scene.sets * scene.tiles()), nullptr);
  listing.work = arena.take<char>(int64_t(listing.work_bytes));
  return listing;
}

void order(const Scene<float>& scene, const Projection& projection, const Ordering& ordering, int64_t room,
           cudaStream_t stream) {
  const int64_t rows = scene.sets * scene.count;
  if (rows == 0) return;
  sort_pairs(ordering.work, ordering.work_bytes, ordering.keys, ordering.other_keys, ordering.rows,
             ordering.sorted, rows, 32, stream);
  launch("count the tiles of the splats", gather_counts_kernel, blocks_for(rows + 1, kThreads), kThreads,
         stream, rows, projection, ordering);
  running_sum(ordering.work, ordering.work_bytes, ordering.counts, ordering.offsets, rows + 1, stream);
  launch("number the tiles of the splats", number_slots_kernel, blocks_for(rows, kThreads), kThreads, stream,
         rows, room, projection, ordering);
}

int64_t count(const Scene<float>& scene, const Ordering& ordering, cudaStream_t stream) {
  if (scene.count == 0) return 0;
  uint64_t* const total = pinned_number();
  count_into(total, scene, ordering, stream);
  check(cudaStreamSynchronize(stream), "project and sort the Gaussians");
  return int64_t(*total);
}
void count_into(uint64_t* total, const Scene<float>& scene, const Ordering& ordering, cudaStream_t stream) {
  if (scene.count == 0) return;
  check(cudaMemcpyAsync(total, ordering.offsets + scene.sets * scene.count, sizeof *total, cudaMemcpyDefault,
                        stream),
        "read the number of intersections");
}

void list_tiles(const Scene<float>& scene, const Ordering& ordering, const Listing& listing, const Lists& lists,
                cudaStream_t stream) {
  const int64_t tiles = scene.sets * scene.tiles();
  check(cudaMemsetAsync(lists.of_tile, 0, size_t(tiles) * sizeof(Range), stream), "clear");  // empty lists
  if (lists.intersections == 0) return;
  // Slots that no splat takes sort last.
  check(cudaMemsetAsync(listing.tiles, 0xff, size_t(lists.intersections) * sizeof(uint32_t), stream), "clear");
  launch("list the tiles of the splats", list_slots_kernel, blocks_for(scene.sets * scene.count, kThreads),
         kThreads, stream, scene, ordering, listing);
  sort_pairs(listing.work, listing.work_bytes, listing.tiles, listing.other_tiles, listing.slots, lists.slot_of,
             lists.intersections, bits_to(tiles), stream);
  launch("find the lists of the tiles", find_lists_kernel, blocks_for(lists.intersections, kThreads), kThreads,
         stream, tiles, listing, lists, static_cast<const uint32_t*>(listing.other_tiles));
}

}  // namespace cocogs
