// From Gaussians to splats, and from gradients by splats to gradients by Gaussians. Lanes are Gaussians.
#include <cstring>

#include "ops.h"
#include "simd/memory.h"

namespace cocogs {
namespace COCOGS_ISA {
namespace {

// Up to W consecutive Gaussians; see math/gradient.h.
template <class T>
struct Block {
  using R = typename T::Scalar;
  int64_t first;
  int rows;

  template <int Columns>
  COCOGS_HD void load(const R* array, T* columns) const {
    load_columns<Columns>(array + Columns * first, Columns, rows, columns);
  }
  template <int Columns>
  COCOGS_HD void store(R* array, const T* columns) const {
    store_columns<Columns>(array + Columns * first, Columns, rows, columns);
  }
};

template <int Degree, class T>
void load_sh(const Parameters<const typename T::Scalar>& from, const Block<T>& block, T* sh) {
  if (!from.sh0) {
    for (int k = 0; k < 3 * kBasisSize<Degree>; ++k) sh[k] = T(0);
    return;
  }
  block.template load<3>(from.sh0, sh);
  if constexpr (Degree > 0) block.template load<kShRest>(from.shN, sh + 3);
}

template <int Degree, class R>
void prefetch_sh(const Parameters<const R>& from, int64_t first, int rows) {
  if constexpr (Degree > 0) prefetch(from.shN + kShRest * first, rows * kShRest * int64_t(sizeof(R)));
}

template <int Degree, class T>
void project_block(const Scene<typename T::Scalar>& scene, const Block<T>& block,
                   const SetState<typename T::Scalar>* states, const Staging* staging,
                   typename T::Scalar* radii, int64_t* drawn, int64_t* slots) {
  using R = typename T::Scalar;
  const auto& in = scene.gaussians;
  T sh[kCoefficients];
  bool sh_loaded = false;
  for (int s = 0; s < scene.sets; ++s) {
    const Gaussian<T> gaussian = load_gaussian<T>(in, s, block);
    const Footprint<T> f = footprint(scene.camera, gaussian);
    const Box<T> box = box_of(f);
    const auto drawable = visible(scene.camera, f.sharp.depth, box);
    const uint32_t visible_bits = drawable.bits();
    Record<R>* records = states[s].records + block.first;
    TileRect* rects = staging[s].tiles + block.first;
    const T radius = select(drawable, box.radius, T(0));
    for (int l = 0; l < block.rows; ++l) radii[s * scene.count + block.first + l] = radius.v[l];
    if (!visible_bits) {
      for (int l = 0; l < block.rows; ++l) {
        rects[l] = records[l].tiles = {0, 0, 0, 0};
        records[l].first_slot = slots[s];
      }
      continue;
    }

    if (!sh_loaded) load_sh<Degree>(in, block, sh);
    sh_loaded = true;
    const Vec3<T> color = color_of<Degree>(scene.camera, gaussian.mean, sh);
    const Whitening<T> white = whitening_of(f);
    const T tiles_x = T(R(scene.tiles_x())), tiles_y = T(R(scene.tiles_y()));
    const T x0 = first_tile(box.left, tiles_x), x1 = past_tile(box.right, tiles_x);
    const T y0 = first_tile(box.top, tiles_y), y1 = past_tile(box.bottom, tiles_y);

    uint64_t* keys = staging[s].keys + block.first / kChunk * kChunk;
    for (int l = 0; l < block.rows; ++l) {
      Record<R>& record = records[l];
      record.splat = {f.sharp.mean.x.v[l], f.sharp.mean.y.v[l], white.ux.v[l], white.uy.v[l],
                      white.wy.v[l],       box.log2_opacity.v[l],   color.x.v[l],  color.y.v[l],
                      color.z.v[l],        f.sharp.depth.v[l]};
      TileRect rect = {0, 0, 0, 0};
      if (visible_bits >> l & 1) {
        rect = {uint16_t(x0.v[l]), uint16_t(y0.v[l]), uint16_t(x1.v[l]), uint16_t(y1.v[l])};
        if (rect.x1 <= rect.x0 || rect.y1 <= rect.y0) rect = {0, 0, 0, 0};  // between pixel centres
      }
      rects[l] = record.tiles = rect;
      record.first_slot = slots[s];
      if (rect.x1 == 0) continue;
      slots[s] += rect.area();
      const float depth = float(record.splat.depth);
      uint32_t depth_bits;
      std::memcpy(&depth_bits, &depth, sizeof depth);
      keys[drawn[s]++] = uint64_t(depth_bits) << 32 | uint32_t(block.first + l);
    }
  }
}

template <int Degree, class T>
void project_degree(const Scene<typename T::Scalar>& scene, int64_t chunk,
                    const SetState<typename T::Scalar>* states, const Staging* staging,
                    typename T::Scalar* radii) {
  int64_t drawn[kMaxSets] = {}, slots[kMaxSets] = {};
  const int64_t end = (chunk + 1) * kChunk < scene.count ? (chunk + 1) * kChunk : scene.count;
  for (int64_t first = chunk * kChunk; first < end; first += T::kLanes) {
    const int rows = end - first < T::kLanes ? int(end - first) : T::kLanes;
    prefetch_sh<Degree>(scene.gaussians, first + T::kLanes, first + 2 * T::kLanes < end ? T::kLanes : 0);
    project_block<Degree, T>(scene, Block<T>{first, rows}, states, staging, radii, drawn, slots);
  }
  for (int s = 0; s < scene.sets; ++s) {
    staging[s].drawn_in_chunk[chunk] = drawn[s];
    states[s].chunk_slots[chunk] = slots[s];
  }
}

template <class T>
void project(const Scene<typename T::Scalar>& scene, int64_t chunk,
             const SetState<typename T::Scalar>* states, const Staging* staging,
             typename T::Scalar* radii) {
  with_degree(scene.sh_degree, [&](auto degree) {
    project_degree<degree, T>(scene, chunk, states, staging, radii);
  });
}

// ---- Gradients ----------------------------------------------------------------------------------

template <class T>
struct SlotSum {
  static constexpr int kVectors = kSlotSize / T::kLanes;
  T v[kVectors];
};
template <class T>
COCOGS_HD SlotSum<T> sum_slots(const Slots<typename T::Scalar>& slots, int64_t first, int64_t count) {
  SlotSum<T> sum;
  for (int i = 0; i < SlotSum<T>::kVectors; ++i) sum.v[i] = T(0);
  for (int64_t k = first; k < first + count; ++k)
    if (slots.written[k])
      for (int i = 0; i < SlotSum<T>::kVectors; ++i)
        sum.v[i] += T::load(slots.moments + k * kSlotSize + i * T::kLanes);
  return sum;
}

template <class T>
void sum_moments(const Scene<typename T::Scalar>& scene, int64_t chunk,
                 const SetState<typename T::Scalar>& state, const Slots<typename T::Scalar>& slots,
                 typename T::Scalar* sums) {
  const int64_t end = (chunk + 1) * kChunk < scene.count ? (chunk + 1) * kChunk : scene.count;
  for (int64_t i = chunk * kChunk; i < end; ++i) {
    const auto& record = state.records[i];
    const SlotSum<T> sum =
        sum_slots<T>(slots, state.chunk_slots[chunk] + record.first_slot, record.tiles.area());
    for (int k = 0; k < SlotSum<T>::kVectors; ++k) sum.v[k].store(sums + i * kSlotSize + k * T::kLanes);
  }
}

// moments[k] = moment k of each Gaussian of the block, 0 where it is not drawn.
template <class T>
COCOGS_HD void load_moments(const SetState<typename T::Scalar>& state,
                            const Moments<typename T::Scalar>& from, const Block<T>& block, T* moments) {
  constexpr int W = T::kLanes;
  constexpr auto layout = FoldedSums<kMoments, W>::kLayout;
  T rows[SlotSum<T>::kVectors][W];
  for (int l = 0; l < W; ++l) {
    for (int i = 0; i < SlotSum<T>::kVectors; ++i) rows[i][l] = T(0);
    if (l >= block.rows) continue;
    if (from.sums) {
      const auto* sums = from.sums + (block.first + l) * kSlotSize;
      for (int i = 0; i < SlotSum<T>::kVectors; ++i) rows[i][l] = T::load(sums + i * T::kLanes);
    } else {
      const auto& record = state.records[block.first + l];
      const int64_t first = state.chunk_slots[block.first / kChunk] + record.first_slot;
      const SlotSum<T> sum = sum_slots<T>(from.slots, first, record.tiles.area());
      for (int i = 0; i < SlotSum<T>::kVectors; ++i) rows[i][l] = sum.v[i];
    }
  }
  for (int i = 0; i < layout.vectors; ++i) transpose(rows[i]);
  for (int k = 0; k < kMoments; ++k) moments[k] = rows[layout.place[k] / W][layout.place[k] % W];
}

template <int Degree, class T>
void project_block_vjp(const Scene<typename T::Scalar>& scene, const Block<T>& block,
                       const SetState<typename T::Scalar>* states,
                       const Moments<typename T::Scalar>* from,
                       const Parameters<typename T::Scalar>& v) {
  using R = typename T::Scalar;
  constexpr int W = T::kLanes;
  const auto& in = scene.gaussians;
  GaussianGradients<T, R> gradients(v);
  const bool wants_sh = v.sh0 || v.shN || v.means.data;
  T sh[kCoefficients], v_sh[kCoefficients];
  for (int c = 0; c < kCoefficients; ++c) v_sh[c] = T(0);
  bool sh_loaded = false;

  for (int s = 0; s < scene.sets; ++s) {
    const Record<R>* records = states[s].records + block.first;
    alignas(64) R drawn[W] = {}, red[W] = {}, green[W] = {}, blue[W] = {};
    bool any = false;
    for (int l = 0; l < block.rows; ++l) {
      const bool is_drawn = records[l].tiles.x1 != 0;
      any |= is_drawn;
      drawn[l] = is_drawn;
      red[l] = records[l].splat.red;
      green[l] = records[l].splat.green;
      blue[l] = records[l].splat.blue;
    }
    if (!any) {
      gradients.add(s, block, GaussianVjp<T>{});
      continue;
    }
    T moments[kMoments];
    load_moments(states[s], from[s], block, moments);
    if (wants_sh && !sh_loaded) load_sh<Degree>(in, block, sh);
    sh_loaded = wants_sh;
    const Gaussian<T> gaussian = load_gaussian<T>(in, s, block);
    const Vec3<T> color = {T::load(red), T::load(green), T::load(blue)};
    gradients.add(s, block,
                  gaussian_vjp<Degree>(scene.camera, gaussian, color, moments, T::load(drawn) > T(0),
                                       wants_sh ? sh : nullptr, v_sh));
  }
  gradients.finish(block);
  if (v.sh0) block.template store<3>(v.sh0, v_sh);
  if (v.shN) block.template store<kShRest>(v.shN, v_sh + 3);
}

template <int Degree, class T>
void project_degree_vjp(const Scene<typename T::Scalar>& scene, int64_t chunk,
                        const SetState<typename T::Scalar>* states,
                        const Moments<typename T::Scalar>* moments,
                        const Parameters<typename T::Scalar>& v) {
  const int64_t end = (chunk + 1) * kChunk < scene.count ? (chunk + 1) * kChunk : scene.count;
  for (int64_t first = chunk * kChunk; first < end; first += T::kLanes) {
    const int rows = end - first < T::kLanes ? int(end - first) : T::kLanes;
    prefetch_sh<Degree>(scene.gaussians, first + T::kLanes, first + 2 * T::kLanes < end ? T::kLanes : 0);
    project_block_vjp<Degree, T>(scene, Block<T>{first, rows}, states, moments, v);
  }
  finish_streaming();
}

template <class T>
void project_vjp(const Scene<typename T::Scalar>& scene, int64_t chunk,
                 const SetState<typename T::Scalar>* states,
                 const Moments<typename T::Scalar>* moments,
                 const Parameters<typename T::Scalar>& v) {
  with_degree(scene.sh_degree,
              [&](auto degree) { project_degree_vjp<degree, T>(scene, chunk, states, moments, v); });
}

}  // namespace

void add_project_kernels(Kernels<float>& kernels) {
  using T = Simd<float, kFloatLanes>;
  kernels.project = project<T>;
  kernels.sum_moments = sum_moments<T>;
  kernels.project_vjp = project_vjp<T>;
}
#if COCOGS_WITH_DOUBLE
void add_project_kernels(Kernels<double>& kernels) {
  using T = Simd<double, kDoubleLanes>;
  kernels.project = project<T>;
  kernels.sum_moments = sum_moments<T>;
  kernels.project_vjp = project_vjp<T>;
}
#endif

}  // namespace COCOGS_ISA
}  // namespace cocogs
