// The splats that contribute most to every pixel.
#include "walk_cuda.h"

namespace cocogs {
namespace {

struct Ranking {
  int count;
  float weights[kMostContributors + 1];
  uint32_t places[kMostContributors + 1];  // of the lists

  explicit __device__ Ranking(const Contributors<float>& out) : count(out.count) {
    clear_ranking(weights, places, count, ~uint32_t(0));
  }
  __device__ void add(const Staged&, uint32_t place, float weight) { rank(weights, places, count, weight, place); }
  __device__ void store(const Scene<float>& scene, const Lists& lists, const Pixel& pixel, float,
                        const Contributors<float>& out) const {
    const int64_t pixels = int64_t(scene.width) * scene.height;
    for (int k = 0; k < count; ++k) {
      const uint32_t place = places[k + 1];
      out.ids[k * pixels + pixel.place] = place == ~uint32_t(0) ? -1 : int32_t(lists.splat_of[place]);
      out.weights[k * pixels + pixel.place] = weights[k + 1];
    }
  }
};

}  // namespace

void rank_contributors(const Scene<float>& scene, const Projection& projection, const Lists& lists,
                       const Contributors<float>& out, cudaStream_t stream) {
  launch("find the contributors to the pixels", walk_kernel<Ranking, Contributors<float>>, unsigned(scene.tiles()),
         kThreads, stream, scene, projection.splats, lists, out);
}

}  // namespace cocogs
