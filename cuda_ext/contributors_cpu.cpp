// The splats that contribute most to every pixel, one tile at a time. Lanes are the pixels of a small block of it.
#include "ops.h"
#include "walk.h"

namespace cocogs {
namespace COCOGS_ISA {
namespace {

// Of a block of pixels. The ids are whole_lanes.
template <class T>
struct Ranking {
  using Share = uint32_t;
  static COCOGS_HD Share share_of(const Splat<typename T::Scalar>&, uint32_t index) { return index; }

  int count;
  T* weights;
  T* ids;

  COCOGS_HD void add(uint32_t index, const T& weight) {
    rank(weights, ids, count, weight, whole_lanes<T>(int32_t(index)));
  }
};

template <class T>
void contributors(const Scene<typename T::Scalar>& scene, int64_t tile_index,
                  const SetState<typename T::Scalar>& state, const Contributors<typename T::Scalar>& out) {
  using B = Blocks<T>;
  const Tile tile = place(scene, tile_index, state);
  T weights[B::kCount][kMostContributors + 1], ids[B::kCount][kMostContributors + 1];
  Walker<T, Ranking<T>> walkers[B::kCount];
  for (int b = 0; b < B::kCount; ++b) {
    clear_ranking(weights[b], ids[b], out.count, whole_lanes<T>(-1));
    walkers[b].gathered = {out.count, weights[b], ids[b]};
  }
  walk_tile(tile, state, walkers);
  const int64_t pixels = int64_t(scene.width) * scene.height;
  for (int b = 0; b < B::kCount; ++b)
    for (int k = 0; k < out.count; ++k) {
      alignas(64) int32_t of_pixels[T::kLanes];
      store_whole(ids[b][k + 1], of_pixels);
      store_block(weights[b][k + 1], out.weights + k * pixels, scene.width, tile, b);
      store_lanes<T>(of_pixels, out.ids + k * pixels, scene.width, tile, b);
    }
}

}  // namespace

void add_contributors_kernels(Kernels<float>& kernels) {
  kernels.contributors = contributors<Simd<float, kFloatLanes>>;
}
#if COCOGS_WITH_DOUBLE
void add_contributors_kernels(Kernels<double>& kernels) {
  kernels.contributors = contributors<Simd<double, kDoubleLanes>>;
}
#endif

}  // namespace COCOGS_ISA
}  // namespace cocogs
