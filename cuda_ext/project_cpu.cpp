// Gaussians to splats, and gradients of splats to gradients of Gaussians: lanes are Gaussians.
#include "math/harmonics.h"
#include "math/splat.h"
#include "ops.h"
#include "simd.h"

namespace cocogs {
namespace COCOGS_ISA {
namespace {

constexpr int kCoefficients = 3 * kBasisSize<kMaxDegree>;
constexpr int kShRest = kCoefficients - 3;

// Up to W consecutive Gaussians.
struct Block {
  int64_t first;
  int rows;
};

template <class T>
Vec3<T> load_vec3(const PerSet<const typename T::Scalar>& from, int set, Block block) {
  T columns[3];
  load_columns<3>(from.set(set) + 3 * block.first, 3, block.rows, columns);
  return {columns[0], columns[1], columns[2]};
}
template <class T>
Quaternion<T> load_quat(const PerSet<const typename T::Scalar>& from, int set, Block block) {
  T columns[4];
  load_columns<4>(from.set(set) + 4 * block.first, 4, block.rows, columns);
  return {columns[0], columns[1], columns[2], columns[3]};
}
template <class T>
T load_number(const PerSet<const typename T::Scalar>& from, int set, Block block) {
  if (!from.data) return T(0);
  T column[1];
  load_columns<1>(from.set(set) + block.first, 1, block.rows, column);
  return column[0];
}
template <int Degree, class T>
void load_sh(const Parameters<const typename T::Scalar>& from, Block block, T* sh) {
  load_columns<3>(from.sh0 + 3 * block.first, 3, block.rows, sh);
  if constexpr (Degree > 0)
    load_columns<kShRest>(from.shN + kShRest * block.first, kShRest, block.rows, sh + 3);
}

template <int Degree, class R>
void prefetch_sh(const Parameters<const R>& from, int64_t first, int rows) {
  if constexpr (Degree > 0) prefetch(from.shN + kShRest * first, rows * kShRest * int64_t(sizeof(R)));
}

template <class T>
Gaussian<T> load_gaussian(const Parameters<const typename T::Scalar>& from, int set, Block block) {
  return {load_vec3<T>(from.means, set, block), load_quat<T>(from.quats, set, block),
          load_vec3<T>(from.scales, set, block), load_number<T>(from.opacities, set, block),
          load_number<T>(from.blur, set, block)};
}

template <int Degree, class T>
void project_block(const Scene<typename T::Scalar>& scene, Block block,
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
    const Vec3<R>& eye = scene.camera.position;
    const Vec3<T> color =
        eval_sh<Degree>(Vec3<T>{gaussian.mean.x - T(eye.x), gaussian.mean.y - T(eye.y),
                                gaussian.mean.z - T(eye.z)}, sh);
    const T red = maximum(color.x, T(0)), green = maximum(color.y, T(0));
    const T blue = maximum(color.z, T(0));
    const Whitening<T> white = whitening_of(f);
    const T tiles_x = T(R(scene.tiles_x())), tiles_y = T(R(scene.tiles_y()));
    const T x0 = first_tile(box.left, tiles_x), x1 = past_tile(box.right, tiles_x);
    const T y0 = first_tile(box.top, tiles_y), y1 = past_tile(box.bottom, tiles_y);

    uint64_t* keys = staging[s].keys + block.first / kChunk * kChunk;
    for (int l = 0; l < block.rows; ++l) {
      Record<R>& record = records[l];
      record.splat = {f.sharp.mean.x.v[l], f.sharp.mean.y.v[l], white.ux.v[l], white.uy.v[l],
                      white.wy.v[l],       box.log2_opacity.v[l],   red.v[l],      green.v[l],
                      blue.v[l],           f.sharp.depth.v[l]};
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
    project_block<Degree, T>(scene, {first, rows}, states, staging, radii, drawn, slots);
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
  switch (scene.sh_degree) {
    case 0: return project_degree<0, T>(scene, chunk, states, staging, radii);
    case 1: return project_degree<1, T>(scene, chunk, states, staging, radii);
    case 2: return project_degree<2, T>(scene, chunk, states, staging, radii);
    default: return project_degree<3, T>(scene, chunk, states, staging, radii);
  }
}

// ---- Gradients ----------------------------------------------------------------------------------

template <class T>
struct SlotSum {
  static constexpr int kVectors = kSlotSize / T::kLanes;
  T v[kVectors];
};
template <class T>
COCOGS_HD SlotSum<T> sum_slots(const typename T::Scalar* slots, int64_t count) {
  SlotSum<T> sum;
  for (int i = 0; i < SlotSum<T>::kVectors; ++i) sum.v[i] = T(0);
  for (int64_t k = 0; k < count; ++k)
    for (int i = 0; i < SlotSum<T>::kVectors; ++i)
      sum.v[i] += T::load(slots + k * kSlotSize + i * T::kLanes);
  return sum;
}

template <class T>
void sum_moments(const Scene<typename T::Scalar>& scene, int64_t chunk,
                 const SetState<typename T::Scalar>& state, const typename T::Scalar* slots,
                 typename T::Scalar* sums) {
  const int64_t end = (chunk + 1) * kChunk < scene.count ? (chunk + 1) * kChunk : scene.count;
  slots += state.chunk_slots[chunk] * kSlotSize;
  for (int64_t i = chunk * kChunk; i < end; ++i) {
    const auto& record = state.records[i];
    const SlotSum<T> sum = sum_slots<T>(slots + record.first_slot * kSlotSize, record.tiles.area());
    for (int k = 0; k < SlotSum<T>::kVectors; ++k) sum.v[k].store(sums + i * kSlotSize + k * T::kLanes);
  }
}

// moments[k] = moment k of each Gaussian of the block, 0 where it is not drawn.
template <class T>
COCOGS_HD void load_moments(const SetState<typename T::Scalar>& state,
                            const Moments<typename T::Scalar>& from, Block block, T* moments) {
  constexpr int W = T::kLanes;
  constexpr auto layout = FoldedSums<kMoments, W>::kLayout;
  T rows[SlotSum<T>::kVectors][W];
  for (int l = 0; l < W; ++l) {
    const auto& record = state.records[block.first + l];
    const int64_t area = l < block.rows ? record.tiles.area() : 0;
    SlotSum<T> sum;
    if (from.sums && l < block.rows) {
      sum = sum_slots<T>(from.sums + (block.first + l) * kSlotSize, 1);
    } else {
      const int64_t slot = area ? state.chunk_slots[block.first / kChunk] + record.first_slot : 0;
      sum = sum_slots<T>(from.slots + slot * kSlotSize, area);
    }
    for (int i = 0; i < SlotSum<T>::kVectors; ++i) rows[i][l] = sum.v[i];
  }
  for (int i = 0; i < layout.vectors; ++i) transpose(rows[i]);
  for (int k = 0; k < kMoments; ++k) moments[k] = rows[layout.place[k] / W][layout.place[k] % W];
}

// A gradient that is either written set by set, or summed over the sets and then written.
template <int Columns, class T>
struct Gradient {
  using R = typename T::Scalar;
  PerSet<R> to;
  T sum[Columns];

  explicit COCOGS_HD Gradient(PerSet<R> to) : to(to) {
    for (int c = 0; c < Columns; ++c) sum[c] = T(0);
  }
  COCOGS_HD void add(int set, Block block, const T (&value)[Columns]) {
    if (to.stride)
      write(to.set(set), block, value);
    else
      for (int c = 0; c < Columns; ++c) sum[c] += value[c];
  }
  COCOGS_HD void finish(Block block) const {
    if (!to.stride) write(to.data, block, sum);
  }

 private:
  static COCOGS_HD void write(R* array, Block block, const T* value) {
    if (array) store_columns<Columns>(array + Columns * block.first, Columns, block.rows, value);
  }
};

template <int Degree, class T>
void project_block_vjp(const Scene<typename T::Scalar>& scene, Block block,
                       const SetState<typename T::Scalar>* states,
                       const Moments<typename T::Scalar>* from,
                       const Parameters<typename T::Scalar>& v) {
  using R = typename T::Scalar;
  constexpr int W = T::kLanes;
  const auto& in = scene.gaussians;
  Gradient<3, T> v_means(v.means), v_scales(v.scales);
  Gradient<4, T> v_quats(v.quats);
  Gradient<1, T> v_opacities(v.opacities), v_blurs(v.blur);
  Gradient<2, T> v_means2d(v.means2d);
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
      v_means.add(s, block, {T(0), T(0), T(0)});
      v_quats.add(s, block, {T(0), T(0), T(0), T(0)});
      v_scales.add(s, block, {T(0), T(0), T(0)});
      v_opacities.add(s, block, {T(0)});
      v_blurs.add(s, block, {T(0)});
      v_means2d.add(s, block, {T(0), T(0)});
      continue;
    }
    const auto valid = T::load(drawn) > T(0);
    T moments[kMoments];
    load_moments(states[s], from[s], block, moments);

    const Gaussian<T> gaussian = load_gaussian<T>(in, s, block);
    GaussianVjp<T> g = footprint_vjp(scene.camera, gaussian, moments);

    if (wants_sh) {
      if (!sh_loaded) load_sh<Degree>(in, block, sh);
      sh_loaded = true;
      const Vec3<R>& eye = scene.camera.position;
      const Vec3<T> toward = {select(valid, gaussian.mean.x - T(eye.x), T(1)),
                              select(valid, gaussian.mean.y - T(eye.y), T(1)),
                              select(valid, gaussian.mean.z - T(eye.z), T(1))};
      const Vec3<T> v_color = {select(valid & (T::load(red) > T(0)), moments[kSumRed], T(0)),
                               select(valid & (T::load(green) > T(0)), moments[kSumGreen], T(0)),
                               select(valid & (T::load(blue) > T(0)), moments[kSumBlue], T(0))};
      g.gaussian.mean = g.gaussian.mean + eval_sh_vjp<Degree>(toward, sh, v_color, v_sh);
    }
    const auto keep = [&](const T& value) { return select(valid, value, T(0)); };
    const Gaussian<T>& v_gaussian = g.gaussian;
    v_means.add(s, block, {keep(v_gaussian.mean.x), keep(v_gaussian.mean.y), keep(v_gaussian.mean.z)});
    v_quats.add(s, block, {keep(v_gaussian.quat.w), keep(v_gaussian.quat.x), keep(v_gaussian.quat.y),
                           keep(v_gaussian.quat.z)});
    v_scales.add(s, block, {keep(v_gaussian.scale.x), keep(v_gaussian.scale.y), keep(v_gaussian.scale.z)});
    v_opacities.add(s, block, {keep(v_gaussian.opacity)});
    v_blurs.add(s, block, {keep(v_gaussian.blur)});
    v_means2d.add(s, block, {keep(g.pull.x), keep(g.pull.y)});
  }

  v_means.finish(block);
  v_quats.finish(block);
  v_scales.finish(block);
  v_opacities.finish(block);
  v_blurs.finish(block);
  v_means2d.finish(block);
  if (v.sh0) store_columns<3>(v.sh0 + 3 * block.first, 3, block.rows, v_sh);
  if (v.shN) store_columns<kShRest>(v.shN + kShRest * block.first, kShRest, block.rows, v_sh + 3);
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
    project_block_vjp<Degree, T>(scene, {first, rows}, states, moments, v);
  }
  finish_streaming();
}

template <class T>
void project_vjp(const Scene<typename T::Scalar>& scene, int64_t chunk,
                 const SetState<typename T::Scalar>* states,
                 const Moments<typename T::Scalar>* moments,
                 const Parameters<typename T::Scalar>& v) {
  switch (scene.sh_degree) {
    case 0: return project_degree_vjp<0, T>(scene, chunk, states, moments, v);
    case 1: return project_degree_vjp<1, T>(scene, chunk, states, moments, v);
    case 2: return project_degree_vjp<2, T>(scene, chunk, states, moments, v);
    default: return project_degree_vjp<3, T>(scene, chunk, states, moments, v);
  }
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
