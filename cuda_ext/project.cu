// From Gaussians to splats, and from gradients by splats to gradients by Gaussians. One thread per Gaussian takes the
// sets one after another, so that it reads inputs that they share, and writes their gradients, once.
#include <cuda_pipeline.h>

#include "launch.h"
#include "ops_cuda.h"

namespace cocogs {
namespace {

constexpr int kRow = kCoefficients + 1;  // in shared memory; an odd stride uses all banks
constexpr int kThreads = 128, kThreadsVjp = 64;

// One Gaussian; see math/gradient.h.
struct Row {
  int64_t i;

  template <int Columns>
  COCOGS_HD void load(const float* array, float* columns) const {
    for (int c = 0; c < Columns; ++c) columns[c] = array[Columns * i + c];
  }
  template <int Columns>
  COCOGS_HD void store(float* array, const float* columns) const {
    for (int c = 0; c < Columns; ++c) array[Columns * i + c] = columns[c];
  }
};

// Moves the coefficients of a block's Gaussians between device memory, where they are dense, and shared memory,
// where each Gaussian has a row. Consecutive threads move consecutive numbers. Only the bands in use are loaded. They
// do not pass through registers, so that all loads of a thread are under way at once.
template <int Degree>
__device__ void load_sh(const Parameters<const float>& in, int64_t first, int count, float* rows) {
  for (int k = threadIdx.x; k < count * 3; k += blockDim.x)
    __pipeline_memcpy_async(&rows[k / 3 * kRow + k % 3], &in.sh0[first * 3 + k], sizeof(float));
  constexpr int rest = 3 * kBasisSize<Degree> - 3;
  if constexpr (rest > 0)
    for (int k = threadIdx.x; k < count * rest; k += blockDim.x)
      __pipeline_memcpy_async(&rows[k / rest * kRow + 3 + k % rest],
                              &in.shN[(first + k / rest) * kShRest + k % rest], sizeof(float));
  __pipeline_commit();
}
// Waits until the rows of all threads have arrived.
__device__ void await_sh() {
  __pipeline_wait_prior(0);
  __syncthreads();
}
__device__ void store_sh(const Parameters<float>& v, int64_t first, int count, const float* rows) {
  if (v.sh0)
    for (int k = threadIdx.x; k < count * 3; k += blockDim.x)
      v.sh0[first * 3 + k] = rows[k / 3 * kRow + k % 3];
  if (v.shN)
    for (int k = threadIdx.x; k < count * kShRest; k += blockDim.x)
      v.shN[first * kShRest + k] = rows[k / kShRest * kRow + 3 + k % kShRest];
}

// The camera of the pass, for all threads of a block: where it stands may lie in device memory.
__device__ void share_camera(const Scene<float>& scene, Pinhole<float>& camera) {
  if (threadIdx.x == 0) camera = scene.placed_camera();
  __syncthreads();
}

// The tiles of a splat's rectangle with a pixel that the splat reaches.
__device__ Reach reach_of(const Splat<float>& splat, const TileRect& rect) {
  Reach reach = {rect, ~uint64_t(0)};
  if (rect.area() > 64) return reach;
  reach.tiles = 0;
  const float limit = falloff_reach(splat);
  uint64_t bit = 1;
  for (int y = rect.y0; y < rect.y1; ++y)
    for (int x = rect.x0; x < rect.x1; ++x, bit <<= 1) {
      const float centre_x = (x + 0.5f) * kTile, centre_y = (y + 0.5f) * kTile;
      if (reaches(splat, limit, centre_x, centre_y, kTile, kTile)) reach.tiles |= bit;
    }
  return reach;
}

// What the camera sees of a Gaussian, but for its colour. Sets that are alike share it.
struct Seen {
  Footprint<float> f;
  Whitening<float> white;
  Box<float> box;
};
__device__ Seen see(const Scene<float>& scene, const Pinhole<float>& camera, int set, int64_t i) {
  const Footprint<float> f = footprint(camera, load_gaussian<float>(scene.gaussians, set, Row{i}));
  return {f, whitening_of(f), box_of(f)};
}

// Makes everything about a splat but its colour. Returns whether it is drawn.
__device__ bool project_one(const Scene<float>& scene, const Pinhole<float>& camera, int set, int64_t i,
                            const Seen& seen, const Projection& projection, const Ordering& ordering, float* radii) {
  const int64_t row = set * scene.count + i;
  const Footprint<float>& f = seen.f;
  const Vec2<float> shift = load_shift<float>(scene.gaussians, set, Row{i});
  const Box<float> box = seen.box.moved(shift);
  const bool drawable = visible(camera, f.sharp.depth, box);
  radii[row] = drawable ? box.radius : 0.0f;
  uint32_t tiles = 0;
  if (drawable) {
    const float tiles_x = scene.tiles_x(), tiles_y = scene.tiles_y();
    const TileRect rect = {uint16_t(first_tile(box.left, tiles_x)), uint16_t(first_tile(box.top, tiles_y)),
                           uint16_t(past_tile(box.right, tiles_x)), uint16_t(past_tile(box.bottom, tiles_y))};
    const Splat<float> splat = {f.sharp.mean.x + shift.x, f.sharp.mean.y + shift.y, seen.white.ux, seen.white.uy,
                                seen.white.wy, box.log2_opacity, 0, 0, 0, f.sharp.depth};
    if (rect.x1 > rect.x0 && rect.y1 > rect.y0) {  // else it lies between pixel centres
      const Reach reach = reach_of(splat, rect);
      tiles = rect.area() > 64 ? uint32_t(rect.area()) : uint32_t(__popcll(reach.tiles));
      ordering.reach[row] = reach;
      projection.splats[row] = {splat, {0, 0}};
    }
  }
  projection.tile_count[row] = tiles;
  ordering.rows[row] = uint32_t(row);
  ordering.keys[row] = tiles ? __float_as_uint(f.sharp.depth) : ~0u;
  return tiles != 0;
}

template <int Degree>
__global__ void __launch_bounds__(kThreads)
    project_kernel(Scene<float> scene, Projection projection, Ordering ordering, float* radii) {
  __shared__ float sh[kThreads * kRow];
  __shared__ Pinhole<float> camera;
  share_camera(scene, camera);
  const int64_t first = int64_t(blockIdx.x) * kThreads, i = first + threadIdx.x;
  const int count = int(min(int64_t(kThreads), scene.count - first));
  const bool alike = scene.gaussians.alike();
  uint64_t drawn = 0;  // one bit per set
  if (i < scene.count) {
    Seen seen;
    for (int s = 0; s < scene.sets; ++s) {
      if (!scene.gaussians.repeats(s)) seen = see(scene, camera, s, i);
      if (project_one(scene, camera, s, i, seen, projection, ordering, radii)) drawn |= uint64_t(1) << s;
    }
  }
  if (i == 0) projection.tile_count[scene.sets * scene.count] = 0;
  if (!__syncthreads_or(drawn != 0) || !scene.gaussians.sh0) return;
  load_sh<Degree>(scene.gaussians, first, count, sh);
  await_sh();
  Vec3<float> color;
  bool is_colored = false;
  for (int s = 0; s < scene.sets; ++s) {
    if (!(drawn >> s & 1)) continue;
    const float* mean = scene.gaussians.means.set(s) + 3 * i;
    if (!is_colored || !alike)
      color = color_of<Degree>(camera, Vec3<float>{mean[0], mean[1], mean[2]}, sh + threadIdx.x * kRow);
    is_colored = true;
    Splat<float>& splat = projection.splats[s * scene.count + i].splat;
    splat.red = color.x;
    splat.green = color.y;
    splat.blue = color.z;
  }
}

// ---- Gradients ----------------------------------------------------------------------------------

// Adds up the slots of every splat that is drawn. A group of 8 lanes takes a splat. Most splats have one or two
// slots, so the group takes two at a time; in each, three lanes take four numbers. The order of the sum is always
// the same.
constexpr int kGroup = 8;
static_assert(kMoments == 12, "three lanes of four numbers");
__global__ void __launch_bounds__(kThreads)
    sum_moments_kernel(int64_t rows, Projection projection, Gathering gathering) {
  const int64_t row = (int64_t(blockIdx.x) * kThreads + threadIdx.x) / kGroup;
  const int lane = threadIdx.x % kGroup, part = lane % 4;
  float4 sum = make_float4(0, 0, 0, 0);
  uint32_t count = 0;
  if (row < rows && part < 3) {
    count = projection.tile_count[row];
    const uint32_t first = projection.first_slot[row], end = first + count;
    const auto* slots = reinterpret_cast<const float4*>(gathering.slots) + part;
    for (uint32_t k = first + lane / 4; k < end; k += kGroup / 4) {
      const float4 more = slots[int64_t(k) * (kMoments / 4)];
      sum.x += more.x;
      sum.y += more.y;
      sum.z += more.z;
      sum.w += more.w;
    }
  }
  for (int offset = kGroup / 2; offset >= 4; offset /= 2) {
    sum.x += __shfl_xor_sync(~0u, sum.x, offset);
    sum.y += __shfl_xor_sync(~0u, sum.y, offset);
    sum.z += __shfl_xor_sync(~0u, sum.z, offset);
    sum.w += __shfl_xor_sync(~0u, sum.w, offset);
  }
  if (count && lane < 3)
    reinterpret_cast<float4*>(gathering.sums)[row * (kMoments / 4) + lane] = sum;
}

// Gradients of one Gaussian. sh and v_sh are its rows. Where the sets are alike, their moments are added up, and the
// last one brings the gradients of all.
template <int Degree>
__device__ void project_one_vjp(const Scene<float>& scene, const Pinhole<float>& camera, int64_t i,
                                const Projection& projection, const float* sums, const Parameters<float>& v,
                                const float* sh, float* v_sh) {
  GaussianGradients<float, float> gradients(v);
  const bool alike = scene.gaussians.alike();
  float moments[kMoments] = {};
  Gaussian<float> gaussian;
  Footprint<float> f;
  Whitening<float> white;
  Vec3<float> color;
  bool drawn = false;
  for (int s = 0; s < scene.sets; ++s) {
    const int64_t row = s * scene.count + i;
    const bool is_drawn = projection.tile_count[row] != 0;
    Pull<float> pull = {};
    if (is_drawn) {
      if (!drawn) {
        gaussian = load_gaussian<float>(scene.gaussians, s, Row{i});
        f = footprint(camera, gaussian);
        white = whitening_of(f);
        const Splat<float>& splat = projection.splats[row].splat;
        color = {splat.red, splat.green, splat.blue};
      }
      drawn = true;
      alignas(16) float own[kMoments];
      for (int k = 0; k < kMoments / 4; ++k)
        reinterpret_cast<float4*>(own)[k] = reinterpret_cast<const float4*>(sums)[row * (kMoments / 4) + k];
      for (int k = 0; k < kMoments; ++k) moments[k] += own[k];
      pull = pull_of(white, own);
    }
    gradients.add_pull(s, Row{i}, pull);
    if (alike && s + 1 < scene.sets) continue;
    Gaussian<float> g = {};
    if (drawn) g = gaussian_vjp<Degree>(camera, gaussian, f, white, color, moments, true, sh, v_sh);
    gradients.add(s, Row{i}, g);
    drawn = false;
    for (int k = 0; k < kMoments; ++k) moments[k] = 0;
  }
  gradients.finish(Row{i});
}

template <int Degree>
__global__ void __launch_bounds__(kThreadsVjp)
    project_vjp_kernel(Scene<float> scene, Projection projection, const float* sums, Parameters<float> v) {
  __shared__ float sh[kThreadsVjp * kRow], v_sh[kThreadsVjp * kRow];
  __shared__ Pinhole<float> camera;
  share_camera(scene, camera);
  const int64_t first = int64_t(blockIdx.x) * kThreadsVjp, i = first + threadIdx.x;
  const int count = int(min(int64_t(kThreadsVjp), scene.count - first));
  const bool wants_sh = v.sh0 || v.shN || v.means.data;  // the direction depends on the mean
  if (wants_sh) {
    load_sh<Degree>(scene.gaussians, first, count, sh);
    for (int k = threadIdx.x; k < kThreadsVjp * kRow; k += kThreadsVjp) v_sh[k] = 0;
    await_sh();
  }
  if (i < scene.count) {
    const int mine = threadIdx.x * kRow;
    project_one_vjp<Degree>(scene, camera, i, projection, sums, v, wants_sh ? sh + mine : nullptr, v_sh + mine);
  }
  if (wants_sh) {
    __syncthreads();
    store_sh(v, first, count, v_sh);
  }
}

}  // namespace

Projection take_projection(const Scene<float>& scene, Arena& arena) {
  const int64_t rows = scene.sets * scene.count;
  return {arena.take<PackedSplat>(rows), arena.take<uint32_t>(rows + 1), arena.take<uint32_t>(rows)};
}

Gathering take_gathering(const Scene<float>& scene, int64_t intersections, Arena& arena) {
  return {arena.take<float>(intersections * kMoments),
          arena.take<float>(scene.sets * scene.count * kMoments)};
}

void project(const Scene<float>& scene, const Projection& projection, const Ordering& ordering, float* radii,
             cudaStream_t stream) {
  with_degree(scene.sh_degree, [&](auto degree) {
    launch("project the Gaussians", project_kernel<degree>, blocks_for(scene.count, kThreads), kThreads,
           stream, scene, projection, ordering, radii);
  });
}

void sum_moments(const Scene<float>& scene, const Projection& projection, const Gathering& gathering,
                 cudaStream_t stream) {
  const int64_t rows = scene.sets * scene.count;
  launch("sum the gradients of the splats", sum_moments_kernel, blocks_for(rows * kGroup, kThreads), kThreads,
         stream, rows, projection, gathering);
}

void project_vjp(const Scene<float>& scene, const Projection& projection, const float* sums,
                 const Parameters<float>& v, cudaStream_t stream) {
  with_degree(scene.sh_degree, [&](auto degree) {
    launch("compute the gradients of the Gaussians", project_vjp_kernel<degree>,
           blocks_for(scene.count, kThreadsVjp), kThreadsVjp, stream, scene, projection, sums, v);
  });
}

}  // namespace cocogs
