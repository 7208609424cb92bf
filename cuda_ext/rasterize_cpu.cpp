// From splats to pixels and back, one tile at a time. Lanes are the pixels of a small block of the tile.
//
// Forward, blocks take the splats one after another (walk.h). Backward, each splat walks the blocks that it reaches,
// so that its moments stay in registers.
#include "ops.h"
#include "simd/memory.h"
#include "walk.h"

namespace cocogs {
namespace COCOGS_ISA {
namespace {

// A block's sums, from front to back.
template <bool Depth, class T>
struct Sums {
  using R = typename T::Scalar;
  struct Share {
    R red, green, blue, depth;
  };
  static COCOGS_HD Share share_of(const Splat<R>& splat, uint32_t) {
    return {splat.red, splat.green, splat.blue, splat.depth};
  }

  T red, green, blue, depth;

  COCOGS_HD void add(const Share& share, const T& weight) {
    red += weight * T(share.red);
    green += weight * T(share.green);
    blue += weight * T(share.blue);
    if constexpr (Depth) depth += weight * T(share.depth);
  }
};

template <bool Depth, class T>
void rasterize_tile(const Scene<typename T::Scalar>& scene, int set, int64_t tile_index,
                    const SetState<typename T::Scalar>& state, const Images<typename T::Scalar>& out) {
  using R = typename T::Scalar;
  const Tile tile = place(scene, tile_index, state);
  Walker<T, Sums<Depth, T>> walkers[Blocks<T>::kCount];
  for (auto& walker : walkers) walker.gathered = {T(0), T(0), T(0), T(0)};
  walk_tile(tile, state, walkers);

  const int64_t pixels = int64_t(scene.width) * scene.height;
  R* colors = out.colors + 3 * pixels * set;
  for (int b = 0; b < Blocks<T>::kCount; ++b) {
    const Sums<Depth, T>& sums = walkers[b].gathered;
    const T rest = walkers[b].transmittance;
    store_block(sums.red + rest * T(scene.background[0]), colors, scene.width, tile, b);
    store_block(sums.green + rest * T(scene.background[1]), colors + pixels, scene.width, tile, b);
    store_block(sums.blue + rest * T(scene.background[2]), colors + 2 * pixels, scene.width, tile, b);
    store_block(T(1) - rest, out.alphas + pixels * set, scene.width, tile, b);
    if constexpr (Depth) store_block(sums.depth, out.depths + pixels * set, scene.width, tile, b);
  }
}

// ---- Gradients ----------------------------------------------------------------------------------

// The state of a block, from front to back.
template <class T>
struct OpenBlock {
  T x, y, transmittance, behind;
  T v_red, v_green, v_blue, v_depth;
};
template <bool Depth, class T>
COCOGS_HD void load_open_block(const Scene<typename T::Scalar>& scene, int set, const Tile& tile, int b,
                               const Images<const typename T::Scalar>& out,
                               const Images<const typename T::Scalar>& v_out, OpenBlock<T>& block) {
  const int64_t pixels = int64_t(scene.width) * scene.height;
  const auto load = [&](const typename T::Scalar* images, int channels, int channel) {
    const auto* image = images ? images + (channels * set + channel) * pixels : nullptr;
    return load_block<T>(image, scene.width, tile, b);
  };
  block.transmittance = T(1);
  block.v_red = load(v_out.colors, 3, 0);
  block.v_green = load(v_out.colors, 3, 1);
  block.v_blue = load(v_out.colors, 3, 2);
  // Begins with what all splats and the background add to the loss.
  block.behind = block.v_red * load(out.colors, 3, 0) + block.v_green * load(out.colors, 3, 1) +
                 block.v_blue * load(out.colors, 3, 2) - load(v_out.alphas, 1, 0) * (T(1) - load(out.alphas, 1, 0));
  if constexpr (Depth) {
    block.v_depth = load(v_out.depths, 1, 0);
    block.behind += block.v_depth * load(out.depths, 1, 0);
  }
}

// Adds to the moments what the pixels of block b add to them. Takes the block out of the open ones when its last
// pixel is finished.
template <bool Depth, bool Lengths, class T, class R>
COCOGS_HD void add_moments(const Splat<R>& splat, const Whitener<R>& white, R skew, int b, OpenBlock<T>& block,
                           typename Blocks<T>::Set& open, T* sums) {
  const T u = white.u(block.x, block.y), w = white.w(block.y);
  const T before = block.transmittance;
  Blend<T> blend = splat_alpha(T(splat.log2_opacity) - u * u - w * w, before);
  const auto finished = finishes(blend);
  if (__builtin_expect(finished.any(), 0)) {
    blend.alpha = select(finished, T(0), blend.alpha);
    blend.weight = select(finished, T(0), blend.weight);
    blend.transmittance = select(finished, before, blend.transmittance);
    block.x = select(finished, T(kClosed), block.x);
    if (!any_open(block.x)) open &= ~(typename Blocks<T>::Set(1) << b);
  }
  T own = T(splat.red) * block.v_red + T(splat.green) * block.v_green + T(splat.blue) * block.v_blue;
  if constexpr (Depth) own = own + T(splat.depth) * block.v_depth;
  const T behind = block.behind - blend.weight * own;
  const T v = splat_alpha_vjp(blend, own, behind);
  block.transmittance = blend.transmittance;
  block.behind = behind;
  const T vu = v * u, vw = v * w;
  const Vec2<T> pull = pull_at_centre(skew, vu, vw);
  sums[kSumLog] += v;
  sums[kSumX] += pull.x;
  sums[kSumY] += pull.y;
  sums[kSumUU] += vu * u;
  sums[kSumUW] += vu * w;
  sums[kSumWW] += vw * w;
  sums[kSumRed] += blend.weight * block.v_red;
  sums[kSumGreen] += blend.weight * block.v_green;
  sums[kSumBlue] += blend.weight * block.v_blue;
  if constexpr (Depth) sums[kSumDepth] += blend.weight * block.v_depth;
  if constexpr (Lengths) {
    sums[kLengthX] += absolute(pull.x);
    sums[kLengthY] += absolute(pull.y);
  }
}

template <bool Depth, bool Lengths, class T>
void rasterize_tile_vjp(const Scene<typename T::Scalar>& scene, int set, int64_t tile_index,
                        const SetState<typename T::Scalar>& state,
                        const Images<const typename T::Scalar>& out,
                        const Images<const typename T::Scalar>& v_out,
                        const Slots<typename T::Scalar>& slots) {
  using R = typename T::Scalar;
  using B = Blocks<T>;
  static const TileGeometry<T> geometry;
  const Tile tile = place(scene, tile_index, state);
  const auto* blocks_of = static_cast<const typename B::Set*>(state.blocks_of);

  OpenBlock<T> blocks[B::kCount];
  typename B::Set open = 0;
  for (int b = 0; b < B::kCount; ++b) {
    blocks[b].x = block_pixels_x(geometry, tile, b);
    blocks[b].y = block_pixels_y(geometry, b);
    load_open_block<Depth>(scene, set, tile, b, out, v_out, blocks[b]);
    if (any_open(blocks[b].x)) open |= typename B::Set(1) << b;
  }

  for (int64_t i = tile.begin; i < tile.end && open; ++i) {
    prefetch_record(state, tile, i);
    typename B::Set left = blocks_of[i] & open;
    if (!left) continue;
    const uint32_t index = state.splat_of[i];
    const Record<R>& record = state.records[index];
    const Splat<R> splat = relative_to(R(tile.x), R(tile.y), record.splat);
    const Whitener<R> white(splat);
    const R skew = white.skew();
    T sums[kSlotSize];  // the moments, and padding that fills the slot's cache line
    for (int m = 0; m < kSlotSize; ++m) sums[m] = T(0);
    for (; left; left &= left - 1) {
      const int b = __builtin_ctzll(left);
      add_moments<Depth, Lengths>(splat, white, skew, b, blocks[b], open, sums);
    }
    fold_sums<kMoments>(sums);
    const TileRect& rect = record.tiles;
    const int64_t slot = state.chunk_slots[index / kChunk] + record.first_slot +
                         int64_t(tile.row - rect.y0) * (rect.x1 - rect.x0) + (tile.column - rect.x0);
    stream(slots.moments + slot * kSlotSize, sums, kSlotSize / T::kLanes);
    slots.written[slot] = 1;
  }
  finish_streaming();
}

template <class T>
void rasterize(const Scene<typename T::Scalar>& scene, int set, int64_t tile,
               const SetState<typename T::Scalar>& state, const Images<typename T::Scalar>& out) {
  scene.with_depth ? rasterize_tile<true, T>(scene, set, tile, state, out)
                   : rasterize_tile<false, T>(scene, set, tile, state, out);
}
template <class T>
void rasterize_vjp(const Scene<typename T::Scalar>& scene, int set, int64_t tile,
                   const SetState<typename T::Scalar>& state,
                   const Images<const typename T::Scalar>& out,
                   const Images<const typename T::Scalar>& v_out, bool lengths,
                   const Slots<typename T::Scalar>& slots) {
  constexpr decltype(&rasterize_tile_vjp<false, false, T>) kTasks[2][2] = {
      {rasterize_tile_vjp<false, false, T>, rasterize_tile_vjp<false, true, T>},
      {rasterize_tile_vjp<true, false, T>, rasterize_tile_vjp<true, true, T>}};
  kTasks[v_out.depths != nullptr][lengths](scene, set, tile, state, out, v_out, slots);
}

}  // namespace

void add_rasterize_kernels(Kernels<float>& kernels) {
  kernels.rasterize = rasterize<Simd<float, kFloatLanes>>;
  kernels.rasterize_vjp = rasterize_vjp<Simd<float, kFloatLanes>>;
}
#if COCOGS_WITH_DOUBLE
void add_rasterize_kernels(Kernels<double>& kernels) {
  kernels.rasterize = rasterize<Simd<double, kDoubleLanes>>;
  kernels.rasterize_vjp = rasterize_vjp<Simd<double, kDoubleLanes>>;
}
#endif

}  // namespace COCOGS_ISA
}  // namespace cocogs
