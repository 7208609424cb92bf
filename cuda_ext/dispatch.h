// The passes, from arrays to arrays, at the best instruction set level of this processor.
#pragma once
#include <array>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "memory.h"
#include "ops.h"
#include "threads.h"

namespace cocogs {

// Thrown before a pass takes memory that it cannot have. `what` is one sentence for the user.
struct TooLarge : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// How a pass runs: on so many threads, until it ends or is cancelled.
struct Run {
  int threads;
  Cancel& cancel;
};

// What a forward pass keeps for its backward pass.
template <class R>
class Saved {
 public:
  std::vector<SetState<R>> sets;
  std::vector<Buffer<Record<R>>> records;
  std::vector<Buffer<int64_t>> chunk_slots, tile_starts;
  std::vector<Buffer<uint32_t>> splats;
  std::vector<Buffer<uint64_t>> blocks;
  const Kernels<R>* kernels = nullptr;  // of the level that drew it
  int64_t count = 0;                    // Gaussians per set
  int width = 0, height = 0;
};

// Draws all sets. radii: (S, N) px. Throws std::bad_alloc, TooLarge, Cancelled.
template <class R>
std::unique_ptr<Saved<R>> rasterize_forward(const Scene<R>& scene, Run run, const Images<R>& out, R* radii);

// Finds the contributors to the pixels of one set. radii: (N,) px. Throws std::bad_alloc, TooLarge, Cancelled.
template <class R>
void rank_contributors(const Scene<R>& scene, Run run, const Contributors<R>& out, R* radii);

// Writes the gradients by the arrays of v that are not null. A null image in v_out is a zero gradient.
// Throws std::bad_alloc, TooLarge, Cancelled; std::invalid_argument where `saved` is of a scene of another size.
template <class R>
void rasterize_backward(const Scene<R>& scene, Run run, const Saved<R>& saved, const Images<const R>& out,
                        const Images<const R>& v_out, const Parameters<R>& v);

// The structural similarity of two pictures, values (channels, H, W); slopes (kSsimSlopes, channels, H, W)
// are for the backward pass, null if there will be none. Throws Cancelled.
template <class R>
void ssim_forward(const Comparison<R>& pictures, Run run, R* values, R* slopes);
// The gradient by the image. Throws Cancelled.
template <class R>
void ssim_backward(const Comparison<R>& pictures, Run run, const R* slopes, const R* v_values, R* v_image);

// Instruction set levels that were compiled in and run here, best first.
std::vector<std::string> levels();
// Chooses a level (for tests and measurements). Throws std::invalid_argument.
void set_level(const std::string& name);
std::string level();

// CPU seconds of the process in the stages of the last passes.
enum Stage { kProject, kBin, kRasterize, kRasterizeVjp, kSumMoments, kProjectVjp, kStages };
std::array<double, kStages> stage_seconds();

}  // namespace cocogs
