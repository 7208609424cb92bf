// From splats to pixels and back: one block of threads per tile and set, one warp per 8 x 4 px of it. Both passes go
// front to back.
#include "walk_cuda.h"

namespace cocogs {
namespace {

// The sums of a pixel.
template <bool Depth>
struct Sums {
  float red = 0, green = 0, blue = 0, depth = 0;

  explicit __device__ Sums(const Images<float>&) {}
  __device__ void add(const Staged& splat, uint32_t, float weight) {
    red += weight * splat.red;
    green += weight * splat.green;
    blue += weight * splat.blue;
    if (Depth) depth += weight * splat.depth;
  }
  __device__ void store(const Scene<float>& scene, const Lists&, const Pixel& pixel, float rest,
                        const Images<float>& out) const {
    const int set = blockIdx.x / int(scene.tiles());
    const int64_t pixels = int64_t(scene.width) * scene.height;
    float* colors = out.colors + 3 * pixels * set + pixel.place;
    colors[0] = red + rest * scene.background[0];
    colors[pixels] = green + rest * scene.background[1];
    colors[2 * pixels] = blue + rest * scene.background[2];
    out.alphas[pixels * set + pixel.place] = 1 - rest;
    if (Depth) out.depths[pixels * set + pixel.place] = depth;
  }
};

// ---- Gradients ----------------------------------------------------------------------------------

// Sums of `Count` numbers over a warp. 12 numbers take 13 exchanges; one sum after another would take 60. At each
// step the two lanes of a pair divide the remaining numbers between them, and each adds up its own. In the end each
// lane has one number, sums[0]: the sum of number `place`, where that is not -1.
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

// The lengths come last, so that a pass without them leaves them out.
template <bool Lengths>
constexpr int kSumsOf = Lengths ? kMoments : kLengthX;

constexpr int kBatch = 64;  // splats that a tile handles at a time, backward
static_assert(kBatch % kWarpSize == 0 && kBatch <= kThreads);

// The state of a pixel, from front to back.
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
  // `behind` begins with what all splats and the background add to the loss.
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

// One splat over the pixels of a warp: moments[k] = what this lane's pixel adds to moment k. Returns false, and does
// not touch the moments, if no pixel of the warp adds anything. Lanes that add nothing take alpha 0, which makes all
// their moments 0: cheaper than divergence.
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

// The sums of a batch: of each warp, and a bit per splat that says whether there are any.
struct BatchSums {
  float of_warp[kWarpsPerTile][kBatch][kMoments];
  uint32_t any[kWarpsPerTile][kBatch / kWarpSize];
};

// Adds up the warps' sums, always in the same order, into the splats' slots. Sums that no warp made count as 0.
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
    // Splats behind the last open pixel get zeros.
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
  launch("draw the tiles", scene.with_depth ? walk_kernel<Sums<true>, Images<float>> : walk_kernel<Sums<false>, Images<float>>,
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
