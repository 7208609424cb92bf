// What Python sees: addresses and sizes in, a handle out. cocogs/rasterize/native.py has checked shapes,
// types and devices before it comes here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <unordered_map>
#include <variant>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "dispatch.h"
#include "math/harmonics.h"

namespace nb = nanobind;

namespace {

using namespace cocogs;

using Address = uintptr_t;  // 0 for what is not there
using AnySaved = std::variant<std::unique_ptr<Saved<float>>, std::unique_ptr<Saved<double>>>;

// Forward passes that some tensor still refers to, by the number that the tensor holds.
struct Registry {
  std::mutex mutex;
  std::unordered_map<int64_t, std::shared_ptr<const AnySaved>> passes;
  int64_t last = 0;
};
Registry& registry() {
  static Registry* const registry = new Registry;  // tensors may outlive static destructors
  return *registry;
}

// A tensor (1,) int64 that names a forward pass, and whose storage keeps it alive.
nb::ndarray<nb::pytorch, int64_t> handle_of(AnySaved&& saved) {
  Registry& r = registry();
  auto number = std::make_unique<int64_t>();
  {
    std::lock_guard<std::mutex> lock(r.mutex);
    *number = ++r.last;
    r.passes.emplace(*number, std::make_shared<const AnySaved>(std::move(saved)));
  }
  int64_t* data = number.release();
  nb::capsule owner(data, [](void* pointer) noexcept {
    std::unique_ptr<int64_t> number(static_cast<int64_t*>(pointer));
    std::shared_ptr<const AnySaved> last_use;
    std::lock_guard<std::mutex> lock(registry().mutex);
    const auto found = registry().passes.find(*number);
    last_use = std::move(found->second);
    registry().passes.erase(found);
  });
  return nb::ndarray<nb::pytorch, int64_t>(data, {1}, owner);
}

std::shared_ptr<const AnySaved> pass_of(int64_t number) {
  Registry& r = registry();
  std::lock_guard<std::mutex> lock(r.mutex);
  const auto found = r.passes.find(number);
  if (found == r.passes.end())
    throw std::invalid_argument("the forward pass of this backward pass is gone: keep its state tensor");
  return found->second;
}

// The order of addresses in calls, as in native.py.
enum Argument { kMeans, kQuats, kScales, kOpacities, kBlur, kSh0, kShN, kMeans2d, kArguments };
enum Image { kColors, kAlphas, kDepths, kImages };
using Addresses = std::array<Address, kArguments>;
using ImageAddresses = std::array<Address, kImages>;

template <class P>
Parameters<P> parameters(const Addresses& at, const std::array<int64_t, kArguments>& strides) {
  const auto per_set = [&](Argument a) { return PerSet<P>{reinterpret_cast<P*>(at[a]), strides[a]}; };
  Parameters<P> p;
  p.means = per_set(kMeans);
  p.quats = per_set(kQuats);
  p.scales = per_set(kScales);
  p.opacities = per_set(kOpacities);
  p.blur = per_set(kBlur);
  p.sh0 = reinterpret_cast<P*>(at[kSh0]);
  p.shN = reinterpret_cast<P*>(at[kShN]);
  p.means2d = per_set(kMeans2d);
  return p;
}
template <class P>
Images<P> images(const ImageAddresses& at) {
  return {reinterpret_cast<P*>(at[kColors]), reinterpret_cast<P*>(at[kAlphas]),
          reinterpret_cast<P*>(at[kDepths])};
}

// What both passes are told about the scene.
struct Call {
  Addresses inputs;
  std::array<int64_t, kArguments> strides;  // between sets, in numbers; 0 = shared
  int64_t count;
  int sets, sh_degree, width, height;
  std::array<double, 16> camera;            // rows of (rotation | translation), then fx fy cx cy
  std::array<double, 3> background;
  bool with_depth;
  int threads;
};

template <class R>
Scene<R> scene_of(const Call& call) {
  const auto& c = call.camera;
  const auto position = [&c](int axis) {  // -rotation^T translation
    return R(-(c[axis] * c[3] + c[4 + axis] * c[7] + c[8 + axis] * c[11]));
  };
  Scene<R> scene;
  scene.gaussians = parameters<const R>(call.inputs, call.strides);
  scene.camera.rotation = {{R(c[0]), R(c[1]), R(c[2])},
                           {R(c[4]), R(c[5]), R(c[6])},
                           {R(c[8]), R(c[9]), R(c[10])}};
  scene.camera.translation = {R(c[3]), R(c[7]), R(c[11])};
  scene.camera.position = {position(0), position(1), position(2)};
  scene.camera.fx = R(c[12]);
  scene.camera.fy = R(c[13]);
  scene.camera.cx = R(c[14]);
  scene.camera.cy = R(c[15]);
  scene.camera.width = R(call.width);
  scene.camera.height = R(call.height);
  scene.count = call.count;
  scene.sets = call.sets;
  scene.sh_degree = call.sh_degree;
  scene.width = call.width;
  scene.height = call.height;
  scene.with_depth = call.with_depth;
  for (int k = 0; k < 3; ++k) scene.background[k] = R(call.background[k]);
  return scene;
}

void check(const Call& call) {
  if (call.sets < 1 || call.sets > kMaxSets)
    throw std::invalid_argument("the number of sets must lie between 1 and " + std::to_string(kMaxSets));
  if (call.count < 0 || call.count > int64_t(UINT32_MAX))
    throw std::invalid_argument("too many Gaussians: 2^32 at most");
  constexpr int most = kTile * UINT16_MAX;
  if (call.width < 1 || call.height < 1 || call.width > most || call.height > most)
    throw std::invalid_argument("the image must measure between 1 and a million pixels on each side");
  if (call.sh_degree < 0 || call.sh_degree > kMaxDegree)
    throw std::invalid_argument("sh_degree must lie between 0 and 3");
}

template <class R>
AnySaved forward_as(const Call& call, const ImageAddresses& out, Address radii) {
  return rasterize_forward(scene_of<R>(call), call.threads, images<R>(out), reinterpret_cast<R*>(radii));
}

nb::ndarray<nb::pytorch, int64_t> forward(bool is_double, const Call& call, ImageAddresses out,
                                          Address radii) {
  check(call);
  AnySaved saved;
  {
    nb::gil_scoped_release release;
    saved = is_double ? forward_as<double>(call, out, radii) : forward_as<float>(call, out, radii);
  }
  return handle_of(std::move(saved));
}

void backward(int64_t pass, const Call& call, ImageAddresses out, ImageAddresses v_out, Addresses v,
              std::array<int64_t, kArguments> v_strides) {
  check(call);
  const std::shared_ptr<const AnySaved> saved = pass_of(pass);
  nb::gil_scoped_release release;
  std::visit(
      [&](const auto& typed) {
        using R = std::remove_pointer_t<decltype(typed->sets.data()->records)>;
        using Number = std::remove_reference_t<decltype(std::declval<R>().splat.x)>;
        rasterize_backward(scene_of<Number>(call), call.threads, *typed, images<const Number>(out),
                           images<const Number>(v_out), parameters<Number>(v, v_strides));
      },
      *saved);
}

nb::dict constants() {
  nb::dict c;
  c["near_plane"] = kNearPlane;
  c["dilation"] = kDilation;
  c["view_margin"] = kViewMargin;
  c["alpha_max"] = kAlphaMax;
  c["alpha_min"] = kAlphaMin;
  c["transmittance_min"] = kTransmittanceMin;
  return c;
}

// Large blocks that are freed and asked for again would each time come back as fresh pages, at the
// price of the work done in them. Tells glibc to keep them.
void keep_freed_memory() {
#if defined(__GLIBC__)
  if (!mallopt(M_MMAP_THRESHOLD, 1 << 30)) mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 2000 << 20);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

}  // namespace

NB_MODULE(_native, m) {
  nb::class_<Call>(m, "Call")
      .def("__init__",
           [](Call* call, Addresses inputs, std::array<int64_t, kArguments> strides, int64_t count, int sets,
              int sh_degree, int width, int height, std::array<double, 16> camera,
              std::array<double, 3> background, bool with_depth, int threads) {
             new (call) Call{inputs, strides, count, sets, sh_degree, width, height, camera, background,
                             with_depth, threads};
           },
           nb::arg("inputs"), nb::arg("strides"), nb::arg("count"), nb::arg("sets"), nb::arg("sh_degree"),
           nb::arg("width"), nb::arg("height"), nb::arg("camera"), nb::arg("background"),
           nb::arg("with_depth"), nb::arg("threads"));
  m.def("forward", &forward, nb::arg("is_double"), nb::arg("call"), nb::arg("out"), nb::arg("radii"));
  m.def("backward", &backward, nb::arg("saved"), nb::arg("call"), nb::arg("out"), nb::arg("v_out"),
        nb::arg("v"), nb::arg("v_strides"));
  m.def("constants", &constants);
  m.def("levels", &levels);
  m.def("level", &level);
  m.def("set_level", &set_level);
  m.def("stage_seconds", &stage_seconds);
  m.def("saved_passes", [] {
    std::lock_guard<std::mutex> lock(registry().mutex);
    return registry().passes.size();
  });
  m.def("release_memory", &release_memory);
  m.def("keep_freed_memory", &keep_freed_memory);
}
