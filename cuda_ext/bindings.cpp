// What Python sees: addresses and sizes in, a handle out. cocogs/rasterize/__init__.py has checked
// shapes, types and devices before it comes here.
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

#include "call.h"
#include "dispatch.h"

namespace nb = nanobind;

namespace {

using namespace cocogs;

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

template <class R>
AnySaved forward_as(const Call& call, int threads, const ImageAddresses& out, Address radii) {
  return rasterize_forward(scene_of<R>(call), threads, images<R>(out), reinterpret_cast<R*>(radii));
}

nb::ndarray<nb::pytorch, int64_t> forward(bool is_double, const Call& call, int threads,
                                          ImageAddresses out, Address radii) {
  check(call);
  AnySaved saved;
  {
    nb::gil_scoped_release release;
    saved = is_double ? forward_as<double>(call, threads, out, radii)
                      : forward_as<float>(call, threads, out, radii);
  }
  return handle_of(std::move(saved));
}

void backward(int64_t pass, const Call& call, int threads, ImageAddresses out, ImageAddresses v_out,
              Addresses v, std::array<int64_t, kArguments> v_strides) {
  check(call);
  const std::shared_ptr<const AnySaved> saved = pass_of(pass);
  nb::gil_scoped_release release;
  std::visit(
      [&](const auto& typed) {
        using R = std::remove_pointer_t<decltype(typed->sets.data()->records)>;
        using Number = std::remove_reference_t<decltype(std::declval<R>().splat.x)>;
        rasterize_backward(scene_of<Number>(call), threads, *typed, images<const Number>(out),
                           images<const Number>(v_out), parameters<Number>(v, v_strides));
      },
      *saved);
}

template <class R>
void ssim_as(const std::array<int, 3>& size, int threads, Address image, Address photo, Address values,
             Address slopes) {
  ssim_forward(comparison<R>(size, image, photo), threads, reinterpret_cast<R*>(values),
               reinterpret_cast<R*>(slopes));
}
template <class R>
void ssim_backward_as(const std::array<int, 3>& size, int threads, Address image, Address photo,
                      Address slopes, Address v_values, Address v_image) {
  ssim_backward(comparison<R>(size, image, photo), threads, reinterpret_cast<const R*>(slopes),
                reinterpret_cast<const R*>(v_values), reinterpret_cast<R*>(v_image));
}

nb::dict constants() {
  nb::dict c;
  c["classic"] = nb::make_tuple(kClassic.dilation, kClassic.blur);
  c["antialiased"] = nb::make_tuple(kAntialiased.dilation, kAntialiased.blur);
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
  define_call(m);
  m.def("forward", &forward, nb::arg("is_double"), nb::arg("call"), nb::arg("threads"), nb::arg("out"),
        nb::arg("radii"));
  m.def("backward", &backward, nb::arg("saved"), nb::arg("call"), nb::arg("threads"), nb::arg("out"),
        nb::arg("v_out"), nb::arg("v"), nb::arg("v_strides"));
  // Two pictures of size (channels, height, width); slopes: see dispatch.h.
  const auto release = nb::call_guard<nb::gil_scoped_release>();
  m.def("ssim", [](bool is_double, std::array<int, 3> size, int threads, Address image, Address photo,
                   Address values, Address slopes) {
    (is_double ? ssim_as<double> : ssim_as<float>)(size, threads, image, photo, values, slopes);
  }, nb::arg("is_double"), nb::arg("size"), nb::arg("threads"), nb::arg("image"), nb::arg("photo"),
     nb::arg("values"), nb::arg("slopes"), release);
  m.def("ssim_backward", [](bool is_double, std::array<int, 3> size, int threads, Address image,
                            Address photo, Address slopes, Address v_values, Address v_image) {
    (is_double ? ssim_backward_as<double>
               : ssim_backward_as<float>)(size, threads, image, photo, slopes, v_values, v_image);
  }, nb::arg("is_double"), nb::arg("size"), nb::arg("threads"), nb::arg("image"), nb::arg("photo"),
     nb::arg("slopes"), nb::arg("v_values"), nb::arg("v_image"), release);
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
