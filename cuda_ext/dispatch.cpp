#include "dispatch.h"

#include <cstring>
#include <ctime>
#include <stdexcept>

#include "threads.h"
#include "tiles.h"

namespace cocogs {

#define COCOGS_DECLARE_LEVEL(isa)                \
  namespace isa {                                \
  void add_project_kernels(Kernels<float>&);     \
  void add_rasterize_kernels(Kernels<float>&);   \
  void add_ssim_kernels(Kernels<float>&);        \
  }
COCOGS_DECLARE_LEVEL(portable)
#if COCOGS_X86_LEVELS
COCOGS_DECLARE_LEVEL(avx2)
COCOGS_DECLARE_LEVEL(avx512)
#endif
namespace portable {
void add_project_kernels(Kernels<double>&);
void add_rasterize_kernels(Kernels<double>&);
void add_ssim_kernels(Kernels<double>&);
}  // namespace portable

namespace {

struct Level {
  const char* name;
  Kernels<float> kernels;
};

#define COCOGS_LEVEL(isa)                      \
  [] {                                         \
    Level level{#isa, {}};                     \
    isa::add_project_kernels(level.kernels);   \
    isa::add_rasterize_kernels(level.kernels); \
    isa::add_ssim_kernels(level.kernels);      \
    return level;                              \
  }()

std::vector<Level> supported_levels() {
  std::vector<Level> levels;
#if COCOGS_X86_LEVELS
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  if (avx512) levels.push_back(COCOGS_LEVEL(avx512));
  if (avx2) levels.push_back(COCOGS_LEVEL(avx2));
#endif
  levels.push_back(COCOGS_LEVEL(portable));
  return levels;
}

const std::vector<Level>& all_levels() {
  static const std::vector<Level> levels = supported_levels();
  return levels;
}
const Level*& chosen_level() {
  static const Level* level = &all_levels().front();
  return level;
}

template <class R>
const Kernels<R>& kernels();
template <>
const Kernels<float>& kernels() {
  return chosen_level()->kernels;
}
template <>
const Kernels<double>& kernels() {
  static const Kernels<double> kernels = [] {
    Kernels<double> k{};
    portable::add_project_kernels(k);
    portable::add_rasterize_kernels(k);
    portable::add_ssim_kernels(k);
    return k;
  }();
  return kernels;
}

// Of the last call; calls at the same time mix theirs, which only measurements would notice.
std::array<double, kStages> seconds{};

// Adds the CPU time of its life to a stage.
class Timer {
 public:
  explicit Timer(Stage stage) : stage_(stage), start_(now()) {}
  ~Timer() { seconds[stage_] += now() - start_; }

 private:
  static double now() {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
  }
  Stage stage_;
  double start_;
};

// Turns the chunks' numbers of slots into the numbers of their first slots; returns the total.
int64_t chain_chunks(int64_t* chunk_slots, int64_t chunks) {
  int64_t total = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t slots = chunk_slots[chunk];
    chunk_slots[chunk] = total;
    total += slots;
  }
  chunk_slots[chunks] = total;
  return total;
}

struct StagingBuffers {
  Buffer<uint64_t> keys;
  Buffer<TileRect> tiles;
  Buffer<int64_t> drawn;
};

}  // namespace

template <class R>
std::unique_ptr<Saved<R>> rasterize_forward(const Scene<R>& scene, int threads, const Images<R>& out,
                                            R* radii) {
  auto saved = std::make_unique<Saved<R>>();
  saved->kernels = &kernels<R>();
  seconds[kProject] = seconds[kBin] = seconds[kRasterize] = 0;
  const size_t count = size_t(scene.count), chunks = size_t(scene.chunks()), tiles = size_t(scene.tiles());
  std::vector<StagingBuffers> buffers;
  std::vector<Staging> staging;
  for (int s = 0; s < scene.sets; ++s) {
    buffers.push_back({Buffer<uint64_t>(count), Buffer<TileRect>(count), Buffer<int64_t>(chunks)});
    staging.push_back({buffers[s].keys.data(), buffers[s].tiles.data(), buffers[s].drawn.data()});
    saved->records.emplace_back(count);
    saved->chunk_slots.emplace_back(chunks + 1);
    saved->tile_starts.emplace_back(tiles + 1);
    saved->sets.push_back({saved->records[s].data(), saved->chunk_slots[s].data(),
                           saved->tile_starts[s].data(), nullptr, nullptr, 0});
  }
  {
    Timer timer(kProject);
    parallel_for(threads, scene.chunks(), [&](int64_t chunk) {
      saved->kernels->project(scene, chunk, saved->sets.data(), staging.data(), radii);
    });
  }
  for (int s = 0; s < scene.sets; ++s) {
    SetState<R>& state = saved->sets[s];
    {
      Timer timer(kBin);
      state.intersections = chain_chunks(state.chunk_slots, scene.chunks());
      if (state.intersections > int64_t(UINT32_MAX))
        throw std::overflow_error("the Gaussians touch " + std::to_string(state.intersections) +
                                  " image tiles in all, more than 2^32: they are too large, or too many, "
                                  "for this image");
      saved->splats.emplace_back(size_t(state.intersections));
      saved->blocks.emplace_back(size_t(state.intersections));
      state.splat_of = saved->splats[s].data();
      state.blocks_of = saved->blocks[s].data();
      bin_splats({scene.tiles_x(), scene.tiles_y(), scene.count, scene.chunks()}, staging[s], threads,
                 state.tile_start, state.splat_of);
    }
    Timer timer(kRasterize);
    parallel_for(threads, scene.tiles(),
                 [&](int64_t tile) { saved->kernels->rasterize(scene, s, tile, state, out); });
  }
  return saved;
}

template <class R>
void rasterize_backward(const Scene<R>& scene, int threads, const Saved<R>& saved,
                        const Images<const R>& out, const Images<const R>& v_out,
                        const Parameters<R>& v) {
  seconds[kRasterizeVjp] = seconds[kSumMoments] = seconds[kProjectVjp] = 0;
  const Kernels<R>& kernels = *saved.kernels;
  int64_t most = 0;
  for (const auto& state : saved.sets) most = state.intersections > most ? state.intersections : most;
  const Buffer<R> slot_moments(size_t(most) * kSlotSize);
  const Buffer<uint8_t> written{size_t(most)};
  const Slots<R> slots = {slot_moments.data(), written.data()};
  std::vector<Buffer<R>> sums;
  std::vector<Moments<R>> moments;
  for (int s = 0; s < scene.sets; ++s) {
    const SetState<R>& state = saved.sets[s];
    {
      Timer timer(kRasterizeVjp);
      std::memset(slots.written, 0, size_t(state.intersections));
      parallel_for(threads, scene.tiles(), [&](int64_t tile) {
        kernels.rasterize_vjp(scene, s, tile, state, out, v_out, v.means2d.data != nullptr, slots);
      });
    }
    // The last set's slots stay where they are; the others' are needed for the next set.
    if (s + 1 == scene.sets) {
      moments.push_back({nullptr, slots});
      continue;
    }
    Timer timer(kSumMoments);
    sums.emplace_back(size_t(scene.count) * kSlotSize);
    moments.push_back({sums[s].data(), {}});
    parallel_for(threads, scene.chunks(), [&](int64_t chunk) {
      kernels.sum_moments(scene, chunk, state, slots, sums[s].data());
    });
  }
  Timer timer(kProjectVjp);
  parallel_for(threads, scene.chunks(), [&](int64_t chunk) {
    kernels.project_vjp(scene, chunk, saved.sets.data(), moments.data(), v);
  });
}

template <class R>
void ssim_forward(const Comparison<R>& pictures, int threads, R* values, R* slopes) {
  const Kernels<R>& chosen = kernels<R>();
  parallel_for(threads, pictures.tiles(kSsimTile, kSsimTile),
               [&](int64_t tile) { chosen.ssim(pictures, tile, values, slopes); });
}

template <class R>
void ssim_backward(const Comparison<R>& pictures, int threads, const R* slopes, const R* v_values, R* v_image) {
  const Kernels<R>& chosen = kernels<R>();
  parallel_for(threads, pictures.tiles(kSsimTile, kSsimTile),
               [&](int64_t tile) { chosen.ssim_vjp(pictures, tile, slopes, v_values, v_image); });
}

template std::unique_ptr<Saved<float>> rasterize_forward(const Scene<float>&, int, const Images<float>&,
                                                         float*);
template std::unique_ptr<Saved<double>> rasterize_forward(const Scene<double>&, int,
                                                          const Images<double>&, double*);
template void rasterize_backward(const Scene<float>&, int, const Saved<float>&,
                                 const Images<const float>&, const Images<const float>&,
                                 const Parameters<float>&);
template void rasterize_backward(const Scene<double>&, int, const Saved<double>&,
                                 const Images<const double>&, const Images<const double>&,
                                 const Parameters<double>&);
template void ssim_forward(const Comparison<float>&, int, float*, float*);
template void ssim_forward(const Comparison<double>&, int, double*, double*);
template void ssim_backward(const Comparison<float>&, int, const float*, const float*, float*);
template void ssim_backward(const Comparison<double>&, int, const double*, const double*, double*);

std::vector<std::string> levels() {
  std::vector<std::string> names;
  for (const Level& level : all_levels()) names.push_back(level.name);
  return names;
}

void set_level(const std::string& name) {
  for (const Level& level : all_levels())
    if (level.name == name) {
      chosen_level() = &level;
      return;
    }
  throw std::invalid_argument("this processor or build has no instruction set level named " + name);
}

std::string level() { return chosen_level()->name; }

std::array<double, kStages> stage_seconds() { return seconds; }

}  // namespace cocogs
