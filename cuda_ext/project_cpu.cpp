// Gaussians to splats, and gradients of splats to gradients of Gaussians: lanes are Gaussians.
#include "math/compositing.h"
#include "math/harmonics.h"
#include "math/projection.h"
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

// One Gaussian of one set, on its way to the image.
template <class T>
struct Footprint {
  Mat3<T> factor;
  Projected<T> sharp;
  Blurred<T> blurred;
};
template <class T>
COCOGS_HD Footprint<T> footprint(const Pinhole<typename T::Scalar>& camera, const Vec3<T>& mean,
                                 const Quaternion<T>& quat, const Vec3<T>& scale, const T& opacity,
                                 const T& blur) {
  Footprint<T> f;
  f.factor = covariance_factor(quat, scale);
  f.sharp = project_ewa(camera, mean, f.factor);
  f.blurred = add_blur(f.sharp.covar, f.sharp.determinant, opacity, blur);
  return f;
}

// First and past-the-last tile whose pixel centres lie between low and high, as numbers in [0, tiles].
template <class T>
COCOGS_HD void tile_range(const T& low, const T& high, int tiles, T& first, T& past) {
  using R = typename T::Scalar;
  const T limit = T(R(tiles));
  first = minimum(maximum((low + T(R(0.5))) * T(R(1) / kTile), T(0)), limit);
  past = minimum(maximum((high + T(R(kTile - 0.5))) * T(R(1) / kTile), T(0)), limit);
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
    const Vec3<T> mean = load_vec3<T>(in.means, s, block);
    const Footprint<T> f = footprint(
        scene.camera, mean, load_quat<T>(in.quats, s, block), load_vec3<T>(in.scales, s, block),
        load_number<T>(in.opacities, s, block), load_number<T>(in.blur, s, block));
    const T log2_opacity = logarithm2(f.blurred.opacity);
    const T reach = squared_reach(log2_opacity);
    const T extent_x = square_root(maximum(reach, T(0)) * f.blurred.covar.xx);
    const T extent_y = square_root(maximum(reach, T(0)) * f.blurred.covar.yy);
    const T left = f.sharp.mean.x - extent_x, right = f.sharp.mean.x + extent_x;
    const T top = f.sharp.mean.y - extent_y, bottom = f.sharp.mean.y + extent_y;
    const auto visible = (f.sharp.depth > T(R(kNearPlane))) & (reach >= T(0)) & (right > T(0)) &
                         (left < T(scene.camera.width)) & (bottom > T(0)) &
                         (top < T(scene.camera.height));
    const uint32_t visible_bits = visible.bits();
    Record<R>* records = states[s].records + block.first;
    TileRect* rects = staging[s].tiles + block.first;
    const T radius = select(visible, maximum(extent_x, extent_y), T(0));
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
        eval_sh<Degree>(Vec3<T>{mean.x - T(eye.x), mean.y - T(eye.y), mean.z - T(eye.z)}, sh);
    const T red = maximum(color.x, T(0)), green = maximum(color.y, T(0));
    const T blue = maximum(color.z, T(0));
    const Whitening<T> white = scaled(whitening_of(f.blurred.covar, f.blurred.determinant));
    T x0, x1, y0, y1;
    tile_range(left, right, scene.tiles_x(), x0, x1);
    tile_range(top, bottom, scene.tiles_y(), y0, y1);

    uint64_t* keys = staging[s].keys + block.first / kChunk * kChunk;
    for (int l = 0; l < block.rows; ++l) {
      Record<R>& record = records[l];
      record.splat = {f.sharp.mean.x.v[l], f.sharp.mean.y.v[l], white.ux.v[l], white.uy.v[l],
                      white.wy.v[l],       log2_opacity.v[l],   red.v[l],      green.v[l],
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

    const Vec3<T> mean = load_vec3<T>(in.means, s, block);
    const Quaternion<T> quat = load_quat<T>(in.quats, s, block);
    const Vec3<T> scale = load_vec3<T>(in.scales, s, block);
    const T opacity = load_number<T>(in.opacities, s, block);
    const Footprint<T> f =
        footprint(scene.camera, mean, quat, scale, opacity, load_number<T>(in.blur, s, block));

    const Whitening<T> white = scaled(whitening_of(f.blurred.covar, f.blurred.determinant));
    const Vec2<T> v_mean2d = mean2d_vjp(white, moments[kSumU], moments[kSumW]);
    const Sym2<T> v_wide = covar2d_vjp(f.blurred.covar, f.blurred.determinant, moments[kSumUU],
                                       moments[kSumUW], moments[kSumWW]);
    Sym2<T> v_covar;
    T v_blur;
    add_blur_vjp(f.sharp.covar, f.sharp.determinant, f.blurred, v_wide, moments[kSumLog], v_covar,
                 v_blur);
    Vec3<T> v_mean, v_scale;
    Mat3<T> v_factor;
    project_ewa_vjp(scene.camera, mean, f.factor, v_mean2d, moments[kSumDepth], v_covar, v_mean,
                    v_factor);
    Quaternion<T> v_quat;
    covariance_factor_vjp(quat, scale, v_factor, v_quat, v_scale);

    if (wants_sh) {
      if (!sh_loaded) load_sh<Degree>(in, block, sh);
      sh_loaded = true;
      const Vec3<R>& eye = scene.camera.position;
      const Vec3<T> toward = {select(valid, mean.x - T(eye.x), T(1)),
                              select(valid, mean.y - T(eye.y), T(1)),
                              select(valid, mean.z - T(eye.z), T(1))};
      const Vec3<T> v_color = {select(valid & (T::load(red) > T(0)), moments[kSumRed], T(0)),
                               select(valid & (T::load(green) > T(0)), moments[kSumGreen], T(0)),
                               select(valid & (T::load(blue) > T(0)), moments[kSumBlue], T(0))};
      v_mean = v_mean + eval_sh_vjp<Degree>(toward, sh, v_color, v_sh);
    }
    const auto keep = [&](const T& value) { return select(valid, value, T(0)); };
    v_means.add(s, block, {keep(v_mean.x), keep(v_mean.y), keep(v_mean.z)});
    v_quats.add(s, block, {keep(v_quat.w), keep(v_quat.x), keep(v_quat.y), keep(v_quat.z)});
    v_scales.add(s, block, {keep(v_scale.x), keep(v_scale.y), keep(v_scale.z)});
    v_opacities.add(s, block, {keep(moments[kSumLog] / opacity)});
    v_blurs.add(s, block, {keep(v_blur)});
    v_means2d.add(s, block, {keep(v_mean2d.x), keep(v_mean2d.y)});
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
