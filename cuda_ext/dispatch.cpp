#include "dispatch.h"

#include <cstring>
#include <stdexcept>

#include "system.h"
#include "tiles.h"

namespace cocogs {

#define COCOGS_DECLARE_LEVEL(isa)                 \
  namespace isa {                                 \
  void add_project_kernels(Kernels<float>&);      \
  void add_rasterize_kernels(Kernels<float>&);    \
  void add_contributors_kernels(Kernels<float>&); \
  void add_ssim_kernels(Kernels<float>&);         \
  }
COCOGS_DECLARE_LEVEL(portable)
#if COCOGS_X86_LEVELS
COCOGS_DECLARE_LEVEL(avx2)
COCOGS_DECLARE_LEVEL(avx512)
#endif
namespace portable {
void add_project_kernels(Kernels<double>&);
void add_rasterize_kernels(Kernels<double>&);
void add_contributors_kernels(Kernels<double>&);
void add_ssim_kernels(Kernels<double>&);
}  // namespace portable

namespace {

struct Level {
  const char* name;
  Kernels<float> kernels;
};

#define COCOGS_LEVEL(isa)                         \
  [] {                                            \
    Level level{#isa, {}};                        \
    isa::add_project_kernels(level.kernels);      \
    isa::add_rasterize_kernels(level.kernels);    \
    isa::add_contributors_kernels(level.kernels); \
    isa::add_ssim_kernels(level.kernels);         \
    return level;                                 \
  }()

std::vector<Level> supported_levels() {
  std::vector<Level> levels;
#if COCOGS_X86_LEVELS
  if (runs_avx512()) levels.push_back(COCOGS_LEVEL(avx512));
  if (runs_avx2()) levels.push_back(COCOGS_LEVEL(avx2));
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
    portable::add_contributors_kernels(k);
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
  explicit Timer(Stage stage) : stage_(stage), start_(process_cpu_seconds()) {}
  ~Timer() { seconds[stage_] += process_cpu_seconds() - start_; }

 private:
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

// Numbers as people read them: 1,234,567.
std::string readable(int64_t number) {
  std::string text = std::to_string(number);
  for (int64_t at = int64_t(text.size()) - 3; at > 0; at -= 3) text.insert(size_t(at), ",");
  return text;
}
std::string in_gigabytes(int64_t bytes) {
  return readable(bytes / 1'000'000'000) + "." + std::to_string(bytes / 100'000'000 % 10) + " GB";
}

// Throws TooLarge where a pass would take more memory than there is. `intersections`: so many make the lists that
// long, 0 where there are none yet.
template <class R>
void check_memory(const Scene<R>& scene, int64_t bytes, int64_t intersections) {
  constexpr int64_t kAlwaysThere = int64_t(256) << 20;
  if (bytes <= kAlwaysThere) return;
  const int64_t available = available_memory() + int64_t(kept_memory());
  if (bytes <= available) return;
  const std::string tiles =
      intersections ? " (they touch " + readable(intersections) + " image tiles in all)" : std::string();
  throw TooLarge("Drawing " + readable(scene.count) + " Gaussians on " + std::to_string(scene.width) + " x " +
                 std::to_string(scene.height) + " px needs " + in_gigabytes(bytes) + " of memory, but " +
                 in_gigabytes(available) + " are free" + tiles +
                 ": draw fewer or smaller Gaussians, or a smaller picture.");
}

// What a forward pass takes before its lists, and writes into the pictures. Those are there already, but the system
// gives memory only when it is written to.
template <class R>
int64_t bytes_before_lists(const Scene<R>& scene, int64_t bytes_per_pixel) {
  const int64_t pixels = int64_t(scene.width) * scene.height;
  const int64_t sorted = scene.gaussians.alike() ? 1 : scene.sets, keys = (sorted + 1) * int64_t(sizeof(uint64_t));
  const int64_t per_gaussian = scene.sets * int64_t(sizeof(Record<R>) + sizeof(TileRect)) + keys;
  return scene.sets * pixels * bytes_per_pixel + scene.count * per_gaussian;
}

// Throws TooLarge where the lists of the sets' tiles cannot be made.
template <class R>
void check_lists(const Scene<R>& scene, const Saved<R>& saved) {
  int64_t total = 0, most = 0;
  for (const auto& state : saved.sets) {
    total += state.intersections;
    most = state.intersections > most ? state.intersections : most;
  }
  if (most > int64_t(UINT32_MAX))
    throw TooLarge("The Gaussians touch " + readable(most) +
                   " image tiles in all, more than 2^32: they are too large, or too many, for a picture of " +
                   std::to_string(scene.width) + " x " + std::to_string(scene.height) + " px.");
  const int64_t per_intersection = sizeof(*saved.sets[0].splat_of) + sizeof(uint64_t);
  check_memory(scene, total * per_intersection, total);
}

struct StagingBuffers {
  Buffer<uint64_t> keys;
  Buffer<TileRect> tiles;
  Buffer<int64_t> drawn;
};

// What a forward pass has of all sets once they are projected.
template <class R>
struct ProjectedSets {
  std::unique_ptr<Saved<R>> saved;
  std::vector<StagingBuffers> buffers;
  std::vector<Staging> staging;
  SortedKeys sorted;  // of the last set that was sorted; sets that are alike share those of the first
};

template <class R>
ProjectedSets<R> project_sets(const Scene<R>& scene, Run run, R* radii, int64_t bytes_per_pixel) {
  begin_pass();
  check_memory(scene, bytes_before_lists(scene, bytes_per_pixel), 0);
  ProjectedSets<R> sets;
  sets.saved = std::make_unique<Saved<R>>();
  Saved<R>& saved = *sets.saved;
  saved.kernels = &kernels<R>();
  saved.count = scene.count;
  saved.width = scene.width;
  saved.height = scene.height;
  seconds[kProject] = seconds[kBin] = seconds[kRasterize] = 0;
  const size_t count = size_t(scene.count), chunks = size_t(scene.chunks()), tiles = size_t(scene.tiles());
  for (int s = 0; s < scene.sets; ++s) {
    const bool sorts = !scene.gaussians.repeats(s);
    sets.buffers.push_back(
        {Buffer<uint64_t>(sorts ? count : 0), Buffer<TileRect>(count), Buffer<int64_t>(chunks)});
    const StagingBuffers& buffers = sets.buffers[s];
    sets.staging.push_back({buffers.keys.data(), buffers.tiles.data(), buffers.drawn.data()});
    saved.records.emplace_back(count);
    saved.chunk_slots.emplace_back(chunks + 1);
    saved.tile_starts.emplace_back(tiles + 1);
    saved.sets.push_back({saved.records[s].data(), saved.chunk_slots[s].data(), saved.tile_starts[s].data(),
                          nullptr, nullptr, 0});
  }
  Timer timer(kProject);
  parallel_for(run.threads, scene.chunks(), run.cancel, [&](int64_t chunk) {
    saved.kernels->project(scene, chunk, saved.sets.data(), sets.staging.data(), radii);
  });
  for (auto& state : saved.sets) state.intersections = chain_chunks(state.chunk_slots, scene.chunks());
  check_lists(scene, saved);
  return sets;
}

// Makes the lists of the tiles of set s, the next one.
template <class R>
const SetState<R>& bin_set(const Scene<R>& scene, Run run, int s, ProjectedSets<R>& sets) {
  Timer timer(kBin);
  Saved<R>& saved = *sets.saved;
  SetState<R>& state = saved.sets[s];
  saved.splats.emplace_back(size_t(state.intersections));
  saved.blocks.emplace_back(size_t(state.intersections));
  state.splat_of = saved.splats[s].data();
  state.blocks_of = saved.blocks[s].data();
  const TileGrid grid = {scene.tiles_x(), scene.tiles_y(), scene.count, scene.chunks()};
  if (!scene.gaussians.repeats(s)) sets.sorted = sort_splats(grid, sets.staging[s], run.threads, run.cancel);
  list_splats(grid, sets.staging[s].tiles, sets.sorted, run.threads, run.cancel, state.tile_start, state.splat_of);
  return state;
}

}  // namespace

template <class R>
std::unique_ptr<Saved<R>> rasterize_forward(const Scene<R>& scene, Run run, const Images<R>& out, R* radii) {
  ProjectedSets<R> sets = project_sets(scene, run, radii, (scene.with_depth ? 5 : 4) * int64_t(sizeof(R)));
  for (int s = 0; s < scene.sets; ++s) {
    const SetState<R>& state = bin_set(scene, run, s, sets);
    Timer timer(kRasterize);
    parallel_for(run.threads, scene.tiles(), run.cancel,
                 [&](int64_t tile) { sets.saved->kernels->rasterize(scene, s, tile, state, out); });
  }
  return std::move(sets.saved);
}

template <class R>
void rank_contributors(const Scene<R>& scene, Run run, const Contributors<R>& out, R* radii) {
  ProjectedSets<R> sets = project_sets(scene, run, radii, out.count * int64_t(sizeof(R) + sizeof(int32_t)));
  const SetState<R>& state = bin_set(scene, run, 0, sets);
  Timer timer(kRasterize);
  parallel_for(run.threads, scene.tiles(), run.cancel,
               [&](int64_t tile) { sets.saved->kernels->contributors(scene, tile, state, out); });
}

template <class R>
void rasterize_backward(const Scene<R>& scene, Run run, const Saved<R>& saved, const Images<const R>& out,
                        const Images<const R>& v_out, const Parameters<R>& v) {
  if (saved.count != scene.count || saved.sets.size() != size_t(scene.sets) || saved.width != scene.width ||
      saved.height != scene.height)
    throw std::invalid_argument("The state is of a forward pass of other sizes than this backward pass.");
  begin_pass();
  seconds[kRasterizeVjp] = seconds[kSumMoments] = seconds[kProjectVjp] = 0;
  const Kernels<R>& kernels = *saved.kernels;
  int64_t most = 0;
  for (const auto& state : saved.sets) most = state.intersections > most ? state.intersections : most;
  const int64_t summed = (scene.sets - 1) * scene.count;
  check_memory(scene, most * int64_t(sizeof(uint8_t)) + (most + summed) * kSlotSize * int64_t(sizeof(R)), most);
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
      parallel_for(run.threads, scene.tiles(), run.cancel, [&](int64_t tile) {
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
    parallel_for(run.threads, scene.chunks(), run.cancel, [&](int64_t chunk) {
      kernels.sum_moments(scene, chunk, state, slots, sums[s].data());
    });
  }
  Timer timer(kProjectVjp);
  parallel_for(run.threads, scene.chunks(), run.cancel, [&](int64_t chunk) {
    kernels.project_vjp(scene, chunk, saved.sets.data(), moments.data(), v);
  });
}

template <class R>
void ssim_forward(const Comparison<R>& pictures, Run run, R* values, R* slopes) {
  const Kernels<R>& chosen = kernels<R>();
  parallel_for(run.threads, pictures.tiles(kSsimTile, kSsimTile), run.cancel,
               [&](int64_t tile) { chosen.ssim(pictures, tile, values, slopes); });
}

template <class R>
void ssim_backward(const Comparison<R>& pictures, Run run, const R* slopes, const R* v_values, R* v_image) {
  const Kernels<R>& chosen = kernels<R>();
  parallel_for(run.threads, pictures.tiles(kSsimTile, kSsimTile), run.cancel,
               [&](int64_t tile) { chosen.ssim_vjp(pictures, tile, slopes, v_values, v_image); });
}

#define COCOGS_PASSES(R)                                                                                     \
  template std::unique_ptr<Saved<R>> rasterize_forward(const Scene<R>&, Run, const Images<R>&, R*);          \
  template void rank_contributors(const Scene<R>&, Run, const Contributors<R>&, R*);                         \
  template void rasterize_backward(const Scene<R>&, Run, const Saved<R>&, const Images<const R>&,            \
                                   const Images<const R>&, const Parameters<R>&);                            \
  template void ssim_forward(const Comparison<R>&, Run, R*, R*);                                             \
  template void ssim_backward(const Comparison<R>&, Run, const R*, const R*, R*);
COCOGS_PASSES(float)
COCOGS_PASSES(double)

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
