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

// What the camera sees of a block's Gaussians. Sets that are alike share it.
template <class T>
struct Seen {
  Gaussian<T> gaussian;
  Footprint<T> f;
  Whitening<T> white;
  Box<T> box;
  Vec3<T> color;
  bool is_colored;
};
template <class T>
Seen<T> see(const Scene<typename T::Scalar>& scene, int set, const Block<T>& block) {
  Seen<T> seen;
  seen.gaussian = load_gaussian<T>(scene.gaussians, set, block);
  seen.f = footprint(scene.camera, seen.gaussian);
  seen.white = whitening_of(seen.f);
  seen.box = box_of(seen.f);
  seen.is_colored = false;
  return seen;
}

// Writes a block's records and rectangles of a set. Returns the splats that touch tiles, a bit each.
template <class T>
uint32_t write_splats(const Scene<typename T::Scalar>& scene, const Block<T>& block, const Seen<T>& seen,
                      const Vec2<T>& centre, const Box<T>& box, uint32_t visible_bits,
                      Record<typename T::Scalar>* records, TileRect* rects, int64_t& slots) {
  using R = typename T::Scalar;
  const T tiles_x = T(R(scene.tiles_x())), tiles_y = T(R(scene.tiles_y()));
  const T x0 = first_tile(box.left, tiles_x), x1 = past_tile(box.right, tiles_x);
  const T y0 = first_tile(box.top, tiles_y), y1 = past_tile(box.bottom, tiles_y);
  uint32_t listed = 0;
  for (int l = 0; l < block.rows; ++l) {
    Record<R>& record = records[l];
    record.splat = {centre.x.v[l],     centre.y.v[l],         seen.white.ux.v[l], seen.white.uy.v[l],
                    seen.white.wy.v[l], box.log2_opacity.v[l], seen.color.x.v[l],  seen.color.y.v[l],
                    seen.color.z.v[l],  seen.f.sharp.depth.v[l]};
    TileRect rect = {0, 0, 0, 0};
    if (visible_bits >> l & 1) {
      rect = {uint16_t(x0.v[l]), uint16_t(y0.v[l]), uint16_t(x1.v[l]), uint16_t(y1.v[l])};
      if (rect.x1 <= rect.x0 || rect.y1 <= rect.y0) rect = {0, 0, 0, 0};  // between pixel centres
    }
    rects[l] = record.tiles = rect;
    record.first_slot = slots;
    slots += rect.area();
    listed |= uint32_t(rect.x1 != 0) << l;
  }
  return listed;
}

template <class T>
void write_keys(const Block<T>& block, const T& depths, uint32_t listed, uint64_t* keys, int64_t& drawn) {
  for (; listed; listed &= listed - 1) {
    const int l = __builtin_ctz(listed);
    const float depth = float(depths.v[l]);
    uint32_t depth_bits;
    std::memcpy(&depth_bits, &depth, sizeof depth);
    keys[drawn++] = uint64_t(depth_bits) << 32 | uint32_t(block.first + l);
  }
}

template <int Degree, class T>
void project_block(const Scene<typename T::Scalar>& scene, const Block<T>& block,
                   const SetState<typename T::Scalar>* states, const Staging* staging,
                   typename T::Scalar* radii, int64_t* drawn, int64_t* slots) {
  const auto& in = scene.gaussians;
  const bool alike = in.alike();
  T sh[kCoefficients];
  bool sh_loaded = false;
  Seen<T> seen;
  uint32_t listed = 0;
  for (int s = 0; s < scene.sets; ++s) {
    if (!in.repeats(s)) seen = see(scene, s, block);
    const Vec2<T> shift = load_shift<T>(in, s, block);
    const Box<T> box = seen.box.moved(shift);
    const auto drawable = visible(scene.camera, seen.f.sharp.depth, box);
    const uint32_t visible_bits = drawable.bits();
    auto* records = states[s].records + block.first;
    TileRect* rects = staging[s].tiles + block.first;
    const T radius = select(drawable, box.radius, T(0));
    for (int l = 0; l < block.rows; ++l) radii[s * scene.count + block.first + l] = radius.v[l];
    if (visible_bits) {
      if (!sh_loaded) load_sh<Degree>(in, block, sh);
      sh_loaded = true;
      if (!seen.is_colored) seen.color = color_of<Degree>(scene.camera, seen.gaussian.mean, sh);
      seen.is_colored = true;
      const Vec2<T> centre = {seen.f.sharp.mean.x + shift.x, seen.f.sharp.mean.y + shift.y};
      listed |= write_splats(scene, block, seen, centre, box, visible_bits, records, rects, slots[s]);
    } else {
      for (int l = 0; l < block.rows; ++l) {
        rects[l] = records[l].tiles = {0, 0, 0, 0};
        records[l].first_slot = slots[s];
      }
    }
    if (alike && s + 1 < scene.sets) continue;
    const int list = alike ? 0 : s;
    write_keys(block, seen.f.sharp.depth, listed, staging[list].keys + block.first / kChunk * kChunk, drawn[list]);
    listed = 0;
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

// The splats of a block that some sets draw, and their colours.
template <class T>
struct DrawnLanes {
  using R = typename T::Scalar;
  alignas(64) R is_drawn[T::kLanes] = {}, red[T::kLanes] = {}, green[T::kLanes] = {}, blue[T::kLanes] = {};
  bool any = false;

  // Takes the splats of one more set. Returns which of them that one draws, as numbers.
  T add(const Record<R>* records, int rows) {
    alignas(64) R here[T::kLanes] = {};
    for (int l = 0; l < rows; ++l) {
      if (records[l].tiles.x1 == 0) continue;
      any = true;
      here[l] = is_drawn[l] = R(1);
      red[l] = records[l].splat.red;
      green[l] = records[l].splat.green;
      blue[l] = records[l].splat.blue;
    }
    return T::load(here);
  }
  auto mask() const { return T::load(is_drawn) > T(0); }
  Vec3<T> color() const { return {T::load(red), T::load(green), T::load(blue)}; }
};

// A set at a time. Where the sets are alike, their moments are added up, and the last one brings the gradients of all.
template <int Degree, class T>
void project_block_vjp(const Scene<typename T::Scalar>& scene, const Block<T>& block,
                       const SetState<typename T::Scalar>* states,
                       const Moments<typename T::Scalar>* from,
                       const Parameters<typename T::Scalar>& v) {
  using R = typename T::Scalar;
  const auto& in = scene.gaussians;
  const bool alike = in.alike(), wants_sh = v.sh0 || v.shN || v.means.data;
  GaussianGradients<T, R> gradients(v);
  T sh[kCoefficients], v_sh[kCoefficients], moments[kMoments];
  for (int c = 0; c < kCoefficients; ++c) v_sh[c] = T(0);
  for (int k = 0; k < kMoments; ++k) moments[k] = T(0);
  bool sh_loaded = false;
  DrawnLanes<T> drawn;
  Gaussian<T> gaussian;
  Footprint<T> f;
  Whitening<T> white;

  for (int s = 0; s < scene.sets; ++s) {
    const bool seen = drawn.any;
    const auto here = drawn.add(states[s].records + block.first, block.rows) > T(0);
    Pull<T> pull = {};
    if (here.any()) {
      if (!seen) {
        gaussian = load_gaussian<T>(in, s, block);
        f = footprint(scene.camera, gaussian);
        white = whitening_of(f);
      }
      T own[kMoments];
      load_moments(states[s], from[s], block, own);
      for (int k = 0; k < kMoments; ++k) moments[k] += own[k];
      pull = kept(here, pull_of(white, own));
    }
    gradients.add_pull(s, block, pull);
    if (alike && s + 1 < scene.sets) continue;
    Gaussian<T> g = {};
    if (drawn.any) {
      if (wants_sh && !sh_loaded) load_sh<Degree>(in, block, sh);
      sh_loaded = wants_sh;
      g = gaussian_vjp<Degree>(scene.camera, gaussian, f, white, drawn.color(), moments, drawn.mask(),
                               wants_sh ? sh : nullptr, v_sh);
    }
    gradients.add(s, block, g);
    drawn = DrawnLanes<T>();
    for (int k = 0; k < kMoments; ++k) moments[k] = T(0);
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
