// Splats to pixels and back: one block of threads per tile and set, one warp per 8 x 4 px of it.
//
// A tile's list is read in batches into shared memory; for each splat the thread that reads it finds the
// warps whose pixels it reaches, and each warp walks only those. Both passes go front to back.
#include "launch.h"
#include "ops_cuda.h"

namespace cocogs {
namespace {

constexpr int kThreads = kTile * kTile;
constexpr int kBlocks = 6;  // on a multiprocessor at once: all that sm_86 takes; the compiler fits its registers
constexpr unsigned kAllLanes = ~0u;

// A splat as seen from a tile.
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

// The warps, one bit each, of whose pixels the splat covers some by kAlphaMin.
__device__ uint8_t warps_reached(const Splat<float>& splat) {
  const float limit = falloff_reach(splat);
  unsigned warps = 0;
  for (int w = 0; w < kWarpsPerTile; ++w) {
    const float centre_x = warp_x(w) + 0.5f * kWarpWidth, centre_y = warp_y(w) + 0.5f * kWarpHeight;
    warps |= unsigned(reaches(splat, limit, centre_x, centre_y, kWarpWidth, kWarpHeight)) << w;
  }
  return uint8_t(warps);
}

template <bool Depth>
__global__ void __launch_bounds__(kThreads, kBlocks)
    rasterize_kernel(Scene<float> scene, const PackedSplat* splats, Lists lists, Images<float> out) {
  __shared__ Staged staged[kThreads];
  __shared__ uint8_t reached[kThreads];
  const Tile tile = tile_of_block(scene, lists);
  const Pixel pixel = pixel_of_thread(scene, tile);
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
  float transmittance = 1, red = 0, green = 0, blue = 0, depth = 0;
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
        const Staged& splat = staged[group + __ffs(left) - 1];
        const float u = splat.white.u(pixel.x, pixel.y), w = splat.white.w(pixel.y);
        const Blend<float> blend = splat_alpha(splat.log2_opacity - u * u - w * w, transmittance);
        if (finishes(blend)) {
          open = false;
          break;
        }
        transmittance = blend.transmittance;
        red += blend.weight * splat.red;
        green += blend.weight * splat.green;
        blue += blend.weight * splat.blue;
        if (Depth) depth += blend.weight * splat.depth;
      }
    }
  }

  if (!pixel.inside) return;
  const int set = blockIdx.x / int(scene.tiles());
  const int64_t pixels = int64_t(scene.width) * scene.height;
  float* colors = out.colors + 3 * pixels * set + pixel.place;
  colors[0] = red + transmittance * scene.background[0];
  colors[pixels] = green + transmittance * scene.background[1];
  colors[2 * pixels] = blue + transmittance * scene.background[2];
  out.alphas[pixels * set + pixel.place] = 1 - transmittance;
  if (Depth) out.depths[pixels * set + pixel.place] = depth;
}

// ---- Gradients ----------------------------------------------------------------------------------

// Sums of `Count` numbers over a warp in 13 exchanges for 12 numbers, where one sum after another would
// take 60: at each step the lanes of a pair share out the numbers that are left, and each adds up its own.
// The numbers shrink to one, sums[0], which belongs to number `place` in lanes where that is not -1.
template <int Count, int Offset = kWarpSize / 2>
__device__ void fold_warp(float* sums) {
  constexpr int kKept = (Count + 1) / 2;
  const bool upper = threadIdx.x & Offset;
  if constexpr (Count == 1) {
    sums[0] += __shfl_xor_sync(kAllLanes, sums[0], Offset);
  } else {
    for (int k = 0; k < kKept; ++k) {
      const float second = k + kKept < Count ? sums[k + kKept] : 0.0f;
      const float given = upper ? sums[k] : second, kept = upper ? second : sums[k];
      sums[k] = kept + __shfl_xor_sync(kAllLanes, given, Offset);
    }
  }
  if constexpr (Offset > 1) fold_warp<kKept, Offset / 2>(sums);
}
template <int Count>
__device__ int place_of_lane(int lane) {
  int place = 0, valid = Count, kept = Count;  // numbers of this lane: valid of the kept ones
  for (int offset = kWarpSize / 2; offset >= 1; offset /= 2) {
    if (kept == 1) {
      if (lane & offset) return -1;
      continue;
    }
    kept = (kept + 1) / 2;
    if (lane & offset) {
      place += kept;
      valid -= kept;
    } else {
      valid = valid < kept ? valid : kept;
    }
    if (valid <= 0) return -1;
  }
  return place;
}

// Who wants no lengths pays for none: they stand last.
template <bool Lengths>
constexpr int kSumsOf = Lengths ? kMoments : kLengthX;

constexpr int kBatch = 64;  // splats that a tile handles at a time, backward
static_assert(kBatch % kWarpSize == 0 && kBatch <= kThreads);

// A pixel on its way from front to back.
struct OpenPixel {
  float transmittance = 1, behind = 0;
  float v_red = 0, v_green = 0, v_blue = 0, v_depth = 0;
  bool open;
};
template <bool Depth>
__device__ OpenPixel open_pixel(const Scene<float>& scene, const Pixel& pixel, const Images<const float>& out,
                                const Images<const float>& v_out) {
  OpenPixel p;
  p.open = pixel.inside;
  if (!pixel.inside) return p;
  const int64_t set = blockIdx.x / int(scene.tiles()), pixels = int64_t(scene.width) * scene.height;
  const int64_t at = pixels * set + pixel.place, color_at = 3 * pixels * set + pixel.place;
  // `behind` begins with all that any splat adds to the loss, and the background.
  if (v_out.colors) {
    p.v_red = v_out.colors[color_at];
    p.v_green = v_out.colors[color_at + pixels];
    p.v_blue = v_out.colors[color_at + 2 * pixels];
    p.behind = p.v_red * out.colors[color_at] + p.v_green * out.colors[color_at + pixels] +
               p.v_blue * out.colors[color_at + 2 * pixels];
  }
  if (v_out.alphas) p.behind -= v_out.alphas[at] * (1 - out.alphas[at]);
  if (Depth) {
    p.v_depth = v_out.depths[at];
    p.behind += p.v_depth * out.depths[at];
  }
  return p;
}

// One splat over the pixels of a warp: moments[k] = what this lane's pixel adds to moment k. Returns false, and
// leaves the moments alone, where no pixel of the warp adds any. Lanes that add nothing go along with alpha 0,
// which makes all their moments 0: cheaper than to part ways and to set the moments to 0 first.
template <bool Depth, bool Lengths>
__device__ bool warp_moments(const Staged& splat, float skew, const Pixel& pixel, OpenPixel& p, float* moments) {
  const float u = splat.white.u(pixel.x, pixel.y), w = splat.white.w(pixel.y);
  Blend<float> blend = splat_alpha(splat.log2_opacity - u * u - w * w, p.transmittance);
  p.open = p.open && !finishes(blend);
  const bool adds = p.open && blend.alpha > 0;
  if (!__any_sync(kAllLanes, adds)) return false;
  if (!adds) blend = {0, 0, p.transmittance};
  float own = splat.red * p.v_red + splat.green * p.v_green + splat.blue * p.v_blue;
  if (Depth) own += splat.depth * p.v_depth;
  p.behind -= blend.weight * own;
  p.transmittance = blend.transmittance;
  const float v = splat_alpha_vjp(blend, own, p.behind), vu = v * u, vw = v * w;
  moments[kSumLog] = v;
  const Vec2<float> pull = pull_at_centre(skew, vu, vw);
  moments[kSumX] = pull.x;
  moments[kSumY] = pull.y;
  if constexpr (Lengths) {
    moments[kLengthX] = absolute(pull.x);
    moments[kLengthY] = absolute(pull.y);
  }
  moments[kSumUU] = vu * u;
  moments[kSumUW] = vu * w;
  moments[kSumWW] = vw * w;
  moments[kSumRed] = blend.weight * p.v_red;
  moments[kSumGreen] = blend.weight * p.v_green;
  moments[kSumBlue] = blend.weight * p.v_blue;
  moments[kSumDepth] = Depth ? blend.weight * p.v_depth : 0.0f;
  return true;
}

// The sums of a batch: each warp's own, and of which splats there are any.
struct BatchSums {
  float of_warp[kWarpsPerTile][kBatch][kMoments];
  uint32_t any[kWarpsPerTile][kBatch / kWarpSize];
};

// Adds up the warps' sums, always in the same order, into the splats' slots; 0 for those that were not made.
template <int Count>
__device__ void store_moments(const BatchSums& sums, const uint32_t* slot_of, int count, float* slots) {
  for (int k = threadIdx.x; k < count * kMoments; k += kThreads) {
    const int member = k / kMoments, moment = k % kMoments;
    float sum = 0;
    for (int w = 0; w < kWarpsPerTile && moment < Count; ++w)
      if (sums.any[w][member / kWarpSize] >> member % kWarpSize & 1) sum += sums.of_warp[w][member][moment];
    slots[int64_t(slot_of[member]) * kMoments + moment] = sum;
  }
}

template <bool Depth, bool Lengths>
__global__ void __launch_bounds__(kThreads)
    rasterize_vjp_kernel(Scene<float> scene, const PackedSplat* splats, Lists lists, Images<const float> out,
                         Images<const float> v_out, float* slots) {
  __shared__ Staged staged[kBatch];
  __shared__ float skews[kBatch];
  __shared__ uint8_t reached[kBatch];
  __shared__ BatchSums sums;
  const Tile tile = tile_of_block(scene, lists);
  const Pixel pixel = pixel_of_thread(scene, tile);
  constexpr int kSums = kSumsOf<Lengths>;
  const int warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize, place = place_of_lane<kSums>(lane);
  OpenPixel p = open_pixel<Depth>(scene, pixel, out, v_out);

  for (uint32_t first = tile.list.begin; first < tile.list.end; first += kBatch) {
    const int count = int(min(uint32_t(kBatch), tile.list.end - first));
    // What lies behind the last open pixel gets zeros.
    const bool any_open = __syncthreads_or(p.open);
    if (threadIdx.x < kBatch) reached[threadIdx.x] = 0;
    if (any_open && int(threadIdx.x) < count) {
      const uint32_t i = first + threadIdx.x;
      const PackedSplat packed = splats[lists.splat_of[i]];
      staged[threadIdx.x] = stage(relative_to(float(tile.x), float(tile.y), packed.splat));
      skews[threadIdx.x] = staged[threadIdx.x].white.skew();
      reached[threadIdx.x] = lists.warps_of[i];
    }
    __syncthreads();
    for (int group = 0; group < kBatch; group += kWarpSize) {
      const unsigned listed = __ballot_sync(kAllLanes, reached[group + lane] >> warp & 1);
      uint32_t any = 0;
      for (unsigned left = listed; left; left &= left - 1) {
        const int member = group + __ffs(left) - 1;
        float moments[kSums];
        if (!warp_moments<Depth, Lengths>(staged[member], skews[member], pixel, p, moments)) continue;
        fold_warp<kSums>(moments);
        if (place >= 0) sums.of_warp[warp][member][place] = moments[0];
        any |= 1u << (member - group);
      }
      if (lane == 0) sums.any[warp][group / kWarpSize] = any;
    }
    __syncthreads();
    store_moments<kSums>(sums, lists.slot_of + first, count, slots);
  }
}

}  // namespace

void rasterize(const Scene<float>& scene, const Projection& projection, const Lists& lists,
               const Images<float>& out, cudaStream_t stream) {
  launch("draw the tiles", scene.with_depth ? rasterize_kernel<true> : rasterize_kernel<false>,
         unsigned(scene.sets * scene.tiles()), kThreads, stream, scene, projection.splats, lists, out);
}

void rasterize_vjp(const Scene<float>& scene, const Projection& projection, const Lists& lists,
                   const Images<const float>& out, const Images<const float>& v_out, bool lengths, float* slots,
                   cudaStream_t stream) {
  constexpr decltype(&rasterize_vjp_kernel<false, false>) kKernels[2][2] = {
      {rasterize_vjp_kernel<false, false>, rasterize_vjp_kernel<false, true>},
      {rasterize_vjp_kernel<true, false>, rasterize_vjp_kernel<true, true>}};
  launch("compute the gradients of the tiles", kKernels[v_out.depths != nullptr][lengths],
         unsigned(scene.sets * scene.tiles()), kThreads, stream, scene, projection.splats, lists, out, v_out,
         slots);
}

}  // namespace cocogs
