// The forward walk: a tile's splats, near to far, over its pixels. One block of threads per tile and set, one warp per
// 8 x 4 px of it.
//
// The threads read a tile's list in batches into shared memory. The thread that reads a splat finds the warps whose
// pixels the splat reaches, and each warp walks only its own splats.
#pragma once
#include "launch.h"
#include "ops_cuda.h"

namespace cocogs {
namespace {

constexpr int kThreads = kTile * kTile;
constexpr int kBlocks = 6;  // at once on a multiprocessor, the most that sm_86 takes; limits the registers
constexpr unsigned kAllLanes = ~0u;

// A splat relative to a tile.
struct alignas(16) Staged {
  Whitener<float> white;
  float log2_opacity, red, green, blue, depth;
};
__device__ Staged stage(const Splat<float>& splat) {
  return {Whitener<float>(splat), splat.log2_opacity, splat.red, splat.green, splat.blue, splat.depth};
}

// A thread's pixel.
struct Pixel {
  float x, y;      // of its centre, within the tile
  int64_t place;   // in the image
  bool inside;     // the image
};
__device__ int warp_x(int warp) { return warp % (kTile / kWarpWidth) * kWarpWidth; }
__device__ int warp_y(int warp) { return warp / (kTile / kWarpWidth) * kWarpHeight; }

// A block's tile and its list.
struct Tile {
  int x, y;  // px, the first pixel
  Range list;
};
__device__ Tile tile_of_block(const Scene<float>& scene, const Lists& lists) {
  const int tiles = int(scene.tiles()), across = scene.tiles_x(), tile = blockIdx.x % tiles;
  return {tile % across * kTile, tile / across * kTile, lists.of_tile[blockIdx.x]};
}
__device__ Pixel pixel_of_thread(const Scene<float>& scene, const Tile& tile) {
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  const int x = warp_x(warp) + lane % kWarpWidth, y = warp_y(warp) + lane / kWarpWidth;
  return {x + 0.5f, y + 0.5f, int64_t(tile.y + y) * scene.width + tile.x + x,
          tile.x + x < scene.width && tile.y + y < scene.height};
}

// The warps, one bit each, with a pixel that the splat covers by kAlphaMin.
__device__ uint8_t warps_reached(const Splat<float>& splat) {
  const float limit = falloff_reach(splat);
  unsigned warps = 0;
  for (int w = 0; w < kWarpsPerTile; ++w) {
    const float centre_x = warp_x(w) + 0.5f * kWarpWidth, centre_y = warp_y(w) + 0.5f * kWarpHeight;
    warps |= unsigned(reaches(splat, limit, centre_x, centre_y, kWarpWidth, kWarpHeight)) << w;
  }
  return uint8_t(warps);
}

// Gathered is what a pixel gathers on the way, made of Out, where it goes in the end:
//   gathered.add(splat, place, weight)            takes the splat at a place of the lists, by the pixel's weight
//   gathered.store(scene, lists, pixel, rest, out) stores all that; `rest` is the transmittance that is left
template <class Gathered, class Out>
__global__ void __launch_bounds__(kThreads, kBlocks)
    walk_kernel(Scene<float> scene, const PackedSplat* splats, Lists lists, Out out) {
  __shared__ Staged staged[kThreads];
  __shared__ uint8_t reached[kThreads];
  const Tile tile = tile_of_block(scene, lists);
  const Pixel pixel = pixel_of_thread(scene, tile);
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  Gathered gathered(out);
  float transmittance = 1;
  bool open = pixel.inside;

  for (uint32_t first = tile.list.begin; first < tile.list.end; first += kThreads) {
    if (!__syncthreads_or(open)) break;
    const uint32_t i = first + threadIdx.x;
    reached[threadIdx.x] = 0;
    if (i < tile.list.end) {
      const PackedSplat packed = splats[lists.splat_of[i]];
      const Splat<float> splat = relative_to(float(tile.x), float(tile.y), packed.splat);
      staged[threadIdx.x] = stage(splat);
      lists.warps_of[i] = reached[threadIdx.x] = warps_reached(splat);
    }
    __syncthreads();
    for (int group = 0; group < kThreads && first + group < tile.list.end; group += kWarpSize) {
      if (!__any_sync(kAllLanes, open)) break;
      unsigned left = __ballot_sync(kAllLanes, reached[group + lane] >> warp & 1);
      for (; left && open; left &= left - 1) {
        const int member = group + __ffs(left) - 1;
        const Staged& splat = staged[member];
        const float u = splat.white.u(pixel.x, pixel.y), w = splat.white.w(pixel.y);
        const Blend<float> blend = splat_alpha(splat.log2_opacity - u * u - w * w, transmittance);
        if (finishes(blend)) {
          open = false;
          break;
        }
        transmittance = blend.transmittance;
        gathered.add(splat, first + member, blend.weight);
      }
    }
  }

  if (pixel.inside) gathered.store(scene, lists, pixel, transmittance, out);
}

}  // namespace
}  // namespace cocogs
