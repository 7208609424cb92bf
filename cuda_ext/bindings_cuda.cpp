// What Python sees of the GPU's passes: addresses on the device, sizes and a stream in. All memory
// is the caller's; cocogs/rasterize/native_cuda.py asks how much is needed, and holds it.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>

#include <limits>
#include <utility>

#include "call.h"
#include "ops_cuda.h"

namespace nb = nanobind;

namespace {

using namespace cocogs;
using Sizes = std::pair<size_t, size_t>;  // bytes

void* memory(Address address) { return reinterpret_cast<void*>(address); }
cudaStream_t stream_at(Address address) { return reinterpret_cast<cudaStream_t>(address); }

template <class Take>
size_t bytes_of(Take take) {
  Arena arena(nullptr);
  take(arena);
  return arena.used();
}

// What the projection keeps, and what it needs besides.
Sizes projection_sizes(const Call& call) {
  check(call);
  const Scene<float> scene = scene_of<float>(call);
  return {bytes_of([&](Arena& arena) { take_projection(scene, arena); }),
          bytes_of([&](Arena& arena) { take_ordering(scene, arena); })};
}
// What the tiles' lists keep, and what making them needs besides.
Sizes list_sizes(const Call& call, int64_t intersections) {
  const Scene<float> scene = scene_of<float>(call);
  return {bytes_of([&](Arena& arena) { take_lists(scene, intersections, arena); }),
          bytes_of([&](Arena& arena) { take_listing(scene, intersections, arena); })};
}
size_t backward_size(const Call& call, int64_t intersections) {
  const Scene<float> scene = scene_of<float>(call);
  return bytes_of([&](Arena& arena) { take_gathering(scene, intersections, arena); });
}

// Projects and sorts the splats, and returns the number of intersections, for which it waits. Given a `total`
// it writes the number there, on the device, does not wait, and returns `room`, to which it keeps.
int64_t project_and_order(const Call& call, Address kept, Address work, Address radii, int64_t room,
                          Address total, Address stream) {
  const Scene<float> scene = scene_of<float>(call);
  Arena keep(memory(kept)), use(memory(work));
  const Projection projection = take_projection(scene, keep);
  const Ordering ordering = take_ordering(scene, use);
  project(scene, projection, ordering, reinterpret_cast<float*>(radii), stream_at(stream));
  order(scene, projection, ordering, total ? room : std::numeric_limits<int64_t>::max(), stream_at(stream));
  if (!total) return count(scene, ordering, stream_at(stream));
  count_into(reinterpret_cast<uint64_t*>(total), scene, ordering, stream_at(stream));
  return room;
}

// Lists the splats in the tiles that they reach, and calls walk(scene, projection, lists).
template <class Walk>
void list_and_walk(const Call& call, int64_t intersections, Address kept, Address work, Address kept_lists,
                   Address list_work, Address stream, Walk walk) {
  const Scene<float> scene = scene_of<float>(call);
  Arena keep(memory(kept)), use(memory(work)), keep_lists(memory(kept_lists)), use_lists(memory(list_work));
  const Projection projection = take_projection(scene, keep);
  const Lists lists = take_lists(scene, intersections, keep_lists);
  list_tiles(scene, take_ordering(scene, use), take_listing(scene, intersections, use_lists), lists,
             stream_at(stream));
  walk(scene, projection, lists);
}
void draw(const Call& call, int64_t intersections, Address kept, Address work, Address kept_lists,
          Address list_work, const Pictures& out, Address stream) {
  list_and_walk(call, intersections, kept, work, kept_lists, list_work, stream,
                [&](const Scene<float>& scene, const Projection& projection, const Lists& lists) {
                  rasterize(scene, projection, lists, images<float>(out), stream_at(stream));
                });
}
void find_contributors(const Call& call, int64_t intersections, Address kept, Address work, Address kept_lists,
                       Address list_work, int count, Address ids, Address weights, Address stream) {
  check(call, count);
  list_and_walk(call, intersections, kept, work, kept_lists, list_work, stream,
                [&](const Scene<float>& scene, const Projection& projection, const Lists& lists) {
                  rank_contributors(scene, projection, lists, contributors<float>(count, ids, weights),
                                    stream_at(stream));
                });
}

void backward(const Call& call, int64_t intersections, Address kept, Address kept_lists, Address work,
              const Pictures& out, const Pictures& v_out, const Arrays& v, Address stream) {
  const Scene<float> scene = scene_of<float>(call);
  Arena keep(memory(kept)), keep_lists(memory(kept_lists)), use(memory(work));
  const Projection projection = take_projection(scene, keep);
  const Lists lists = take_lists(scene, intersections, keep_lists);
  const Gathering gathering = take_gathering(scene, intersections, use);
  const Parameters<float> wanted = parameters<float>(v);
  rasterize_vjp(scene, projection, lists, images<const float>(out), images<const float>(v_out),
                wanted.means2d.data != nullptr, gathering.slots, stream_at(stream));
  sum_moments(scene, projection, gathering, stream_at(stream));
  project_vjp(scene, projection, gathering.sums, wanted, stream_at(stream));
}

// Two pictures of `size` = channels, height, width; slopes: see ops.h, 0 if not wanted.
void compare(std::array<int, 3> size, Address image, Address photo, Address values, Address slopes,
             Address stream) {
  ssim(comparison<float>(size, image, photo), reinterpret_cast<float*>(values),
       reinterpret_cast<float*>(slopes), stream_at(stream));
}
void compare_backward(std::array<int, 3> size, Address image, Address photo, Address slopes,
                      Address v_values, Address v_image, Address stream) {
  ssim_vjp(comparison<float>(size, image, photo), reinterpret_cast<const float*>(slopes),
           reinterpret_cast<const float*>(v_values), reinterpret_cast<float*>(v_image), stream_at(stream));
}

}  // namespace

NB_MODULE(_cuda, m) {
  define_call(m);
  const auto release = nb::call_guard<nb::gil_scoped_release>();
  m.def("cuda_versions", &cuda_versions);
  m.def("projection_sizes", &projection_sizes, nb::arg("call"));
  m.def("list_sizes", &list_sizes, nb::arg("call"), nb::arg("intersections"));
  m.def("backward_size", &backward_size, nb::arg("call"), nb::arg("intersections"));
  m.def("project_and_order", &project_and_order, nb::kw_only(), nb::arg("call"), nb::arg("kept"), nb::arg("work"),
        nb::arg("radii"), nb::arg("room"), nb::arg("total"), nb::arg("stream"), release);
  m.def("draw", &draw, nb::kw_only(), nb::arg("call"), nb::arg("intersections"), nb::arg("kept"), nb::arg("work"),
        nb::arg("kept_lists"), nb::arg("list_work"), nb::arg("out"), nb::arg("stream"), release);
  m.def("contributors", &find_contributors, nb::kw_only(), nb::arg("call"), nb::arg("intersections"),
        nb::arg("kept"), nb::arg("work"), nb::arg("kept_lists"), nb::arg("list_work"), nb::arg("count"),
        nb::arg("ids"), nb::arg("weights"), nb::arg("stream"), release);
  m.def("backward", &backward, nb::kw_only(), nb::arg("call"), nb::arg("intersections"), nb::arg("kept"),
        nb::arg("kept_lists"), nb::arg("work"), nb::arg("out"), nb::arg("v_out"), nb::arg("v"),
        nb::arg("stream"), release);
  m.def("ssim", &compare, nb::kw_only(), nb::arg("size"), nb::arg("image"), nb::arg("photo"), nb::arg("values"),
        nb::arg("slopes"), nb::arg("stream"), release);
  m.def("ssim_backward", &compare_backward, nb::kw_only(), nb::arg("size"), nb::arg("image"), nb::arg("photo"),
        nb::arg("slopes"), nb::arg("v_values"), nb::arg("v_image"), nb::arg("stream"), release);
}
