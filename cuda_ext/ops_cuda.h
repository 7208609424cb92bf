// The contract between the stages of the rasterizer on a GPU: what ops.h is on a CPU. All sets go
// through each stage together. Every stage works in the caller's stream, on memory of the caller; only
// `count` waits for the device, for the number of intersections. Who has memory for some number of them
// needs not know it.
//
// Forward:   project -> order (-> count) -> list_tiles -> rasterize, or of one set rank_contributors.
// Backward:  rasterize_vjp -> sum_moments -> project_vjp.
// And, apart from these, two pictures compared: ssim, ssim_vjp.
//
// A splat is named by its row, set x N + index. An intersection of a splat with a tile has two
// places: among the splats (its slot; those of a splat stand together), and in its tile's list.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

#include "math/compositing.h"
#include "ops.h"

typedef struct CUstream_st* cudaStream_t;

namespace cocogs {

// A splat in three loads and three stores of 16 bytes: whole sectors, which the device need not read
// before it writes them.
struct alignas(16) PackedSplat {
  Splat<float> splat;
  float padding[2];
};

// The tiles that a splat reaches: those of the rectangle whose bit is set, row by row, the first bit
// first. Rectangles of more than 64 tiles are taken whole.
struct Reach {
  TileRect rect;
  uint64_t tiles;
};

// Per tile 16 x 16 px, one warp per block of 8 x 4 px.
constexpr int kWarpSize = 32;
constexpr int kWarpsPerTile = kTile * kTile / kWarpSize;
constexpr int kWarpWidth = 8, kWarpHeight = 4;

// What the forward pass leaves for the backward pass, apart from Lists.
struct Projection {
  PackedSplat* splats = nullptr;      // (S N,), of those drawn
  uint32_t* tile_count = nullptr;     // (S N + 1,) tiles per splat, 0 = not drawn; the last is 0
  uint32_t* first_slot = nullptr;     // (S N,)
};
// What project leaves for order and list_tiles.
struct Ordering {
  Reach* reach = nullptr;             // (S N,)
  uint32_t* keys = nullptr;           // (S N,) bits of the depth; all ones if not drawn
  uint32_t* other_keys = nullptr;     // (S N,) work space
  uint32_t* rows = nullptr;           // (S N,)
  uint32_t* sorted = nullptr;         // (S N,) rows, near to far
  uint64_t* counts = nullptr;         // (S N + 1,) tiles per splat in that order, then 0
  uint64_t* offsets = nullptr;        // (S N + 1,) their running sum: first slots, then the total
  void* work = nullptr;
  size_t work_bytes = 0;
};
// The tiles' lists, kept for the backward pass.
struct alignas(8) Range {
  uint32_t begin, end;
};
struct Lists {
  Range* of_tile = nullptr;           // (S tiles,) of the following
  uint32_t* splat_of = nullptr;       // (intersections,) rows of splats, near to far in each tile
  uint32_t* slot_of = nullptr;        // (intersections,)
  uint8_t* warps_of = nullptr;        // (intersections,) the warps of the tile that it concerns
  int64_t intersections = 0;
};
struct Listing {
  uint32_t* tiles = nullptr;          // (intersections,) set x tiles + tile, slot by slot; all ones: nobody's
  uint32_t* other_tiles = nullptr;    // (intersections,) work space
  uint32_t* slots = nullptr;          // (intersections,) 0, 1, 2, ...
  uint32_t* owners = nullptr;         // (intersections,) row of the splat of each slot
  void* work = nullptr;
  size_t work_bytes = 0;
};
// Work space of the backward pass.
struct Gathering {
  float* slots = nullptr;             // (intersections, kMoments)
  float* sums = nullptr;              // (S N, kMoments)
};

// Cuts an array out of a block of memory after another; without memory, counts the bytes.
class Arena {
 public:
  explicit Arena(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <class T>
  T* take(int64_t count) {
    used_ = (used_ + kAlignment - 1) / kAlignment * kAlignment;
    char* at = memory_ ? memory_ + used_ : nullptr;
    used_ += size_t(count) * sizeof(T);
    return reinterpret_cast<T*>(at);
  }
  size_t used() const { return used_; }

 private:
  static constexpr size_t kAlignment = 256;
  char* memory_;
  size_t used_ = 0;
};
Projection take_projection(const Scene<float>& scene, Arena& arena);
Ordering take_ordering(const Scene<float>& scene, Arena& arena);
Lists take_lists(const Scene<float>& scene, int64_t intersections, Arena& arena);
Listing take_listing(const Scene<float>& scene, int64_t intersections, Arena& arena);
Gathering take_gathering(const Scene<float>& scene, int64_t intersections, Arena& arena);

// radii: (S, N) px.
void project(const Scene<float>& scene, const Projection& projection, const Ordering& ordering, float* radii,
             cudaStream_t stream);
// Sorts the splats by depth and numbers their slots. Those with slots beyond `room`, the farthest, are not
// drawn.
void order(const Scene<float>& scene, const Projection& projection, const Ordering& ordering, int64_t room,
           cudaStream_t stream);
// The number of intersections, also of what is not drawn for want of room: waits for it, or writes it to
// `total` on the device.
int64_t count(const Scene<float>& scene, const Ordering& ordering, cudaStream_t stream);
void count_into(uint64_t* total, const Scene<float>& scene, const Ordering& ordering, cudaStream_t stream);
void list_tiles(const Scene<float>& scene, const Ordering& ordering, const Listing& listing, const Lists& lists,
                cudaStream_t stream);
void rasterize(const Scene<float>& scene, const Projection& projection, const Lists& lists,
               const Images<float>& out, cudaStream_t stream);
void rank_contributors(const Scene<float>& scene, const Projection& projection, const Lists& lists,
                       const Contributors<float>& out, cudaStream_t stream);

// Fills all slots. A null image in v_out is a zero gradient; without `lengths` those of the pulls are 0.
void rasterize_vjp(const Scene<float>& scene, const Projection& projection, const Lists& lists,
                   const Images<const float>& out, const Images<const float>& v_out, bool lengths, float* slots,
                   cudaStream_t stream);
void sum_moments(const Scene<float>& scene, const Projection& projection, const Gathering& gathering,
                 cudaStream_t stream);
// Null arrays in v are not wanted.
void project_vjp(const Scene<float>& scene, const Projection& projection, const float* sums,
                 const Parameters<float>& v, cudaStream_t stream);

// The structural similarity of two pictures and its gradient by the image: as in ops.h, of all tiles.
void ssim(const Comparison<float>& pictures, float* values, float* slopes, cudaStream_t stream);
void ssim_vjp(const Comparison<float>& pictures, const float* slopes, const float* v_values, float* v_image,
              cudaStream_t stream);

// The CUDA that this module was built with, and the newest that the machine's driver knows, as 1000 x major +
// 10 x minor; 0 without a driver. A driver runs what any CUDA of its major version, or an older one, has built.
std::pair<int, int> cuda_versions();

}  // namespace cocogs
