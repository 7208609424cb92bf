// What Python sees of the CPU's passes: addresses and sizes in, a handle out. The torch ops
// (cocogs/rasterize/native.py, cocogs/ssim/native.py) have checked shapes, types and devices before.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <mutex>
#include <stdexcept>
#include <unordered_map>
#include <variant>

#include "call.h"
#include "dispatch.h"

namespace nb = nanobind;

namespace {

using namespace cocogs;

using AnySaved = std::variant<std::unique_ptr<Saved<float>>, std::unique_ptr<Saved<double>>>;

// Whether Ctrl-C, or another signal whose handler raises, wants the pass to end. The exception stays set in
// Python until the pass has ended, see `pass_on`. Signals reach the main thread alone.
bool interrupted() {
  nb::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;
}
void pass_on(const std::exception_ptr& error, void*) {
  try {
    std::rethrow_exception(error);
  } catch (const Cancelled&) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_RuntimeError, "The pass was cancelled.");
  }
}

// Runs a pass without Python's lock.
template <class Pass>
void run_pass(int threads, Pass&& pass) {
  nb::gil_scoped_release release;
  Cancel cancel(interrupted);
  pass(Run{threads, cancel});
}

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
    last_use = std::move(found->second);  // destroyed after the lock is given back
    registry().passes.erase(found);
  });
  return nb::ndarray<nb::pytorch, int64_t>(data, {1}, owner);
}

std::shared_ptr<const AnySaved> pass_of(int64_t number) {
  Registry& r = registry();
  std::lock_guard<std::mutex> lock(r.mutex);
  const auto found = r.passes.find(number);
  if (found == r.passes.end())
    throw std::invalid_argument("The forward pass of this backward pass is gone: keep its state tensor.");
  return found->second;
}

template <class R>
Scene<R> host_scene(const Call& call) {
  Scene<R> scene = scene_of<R>(call);
  scene.camera = scene.placed_camera();
  return scene;
}

nb::ndarray<nb::pytorch, int64_t> forward(bool is_double, const Call& call, int threads, const Pictures& out,
                                          Address radii) {
  check(call);
  AnySaved saved;
  run_pass(threads, [&](Run run) {
    if (is_double)
      saved = rasterize_forward(host_scene<double>(call), run, images<double>(out), reinterpret_cast<double*>(radii));
    else
      saved = rasterize_forward(host_scene<float>(call), run, images<float>(out), reinterpret_cast<float*>(radii));
  });
  return handle_of(std::move(saved));
}

template <class R>
void contributors_as(const Call& call, Run run, int count, Address ids, Address weights, Address radii) {
  rank_contributors(host_scene<R>(call), run, contributors<R>(count, ids, weights), reinterpret_cast<R*>(radii));
}
void contributors_pass(bool is_double, const Call& call, int threads, int count, Address ids, Address weights,
                       Address radii) {
  check(call, count);
  run_pass(threads, [&](Run run) {
    (is_double ? contributors_as<double> : contributors_as<float>)(call, run, count, ids, weights, radii);
  });
}

template <class R>
void backward_as(const AnySaved& saved, const Call& call, Run run, const Pictures& out, const Pictures& v_out,
                 const Arrays& v) {
  const auto* typed = std::get_if<std::unique_ptr<Saved<R>>>(&saved);
  if (!typed) throw std::invalid_argument("The state is of a forward pass in another float type.");
  rasterize_backward(host_scene<R>(call), run, **typed, images<const R>(out), images<const R>(v_out),
                     parameters<R>(v));
}

void backward(bool is_double, int64_t state, const Call& call, int threads, const Pictures& out,
              const Pictures& v_out, const Arrays& v) {
  check(call);
  const std::shared_ptr<const AnySaved> saved = pass_of(state);
  run_pass(threads, [&](Run run) {
    (is_double ? backward_as<double> : backward_as<float>)(*saved, call, run, out, v_out, v);
  });
}

// Two pictures of size (channels, height, width); slopes: see dispatch.h.
template <class R>
void ssim_as(const std::array<int, 3>& size, Run run, Address image, Address photo, Address values,
             Address slopes) {
  ssim_forward(comparison<R>(size, image, photo), run, reinterpret_cast<R*>(values),
               reinterpret_cast<R*>(slopes));
}
template <class R>
void ssim_backward_as(const std::array<int, 3>& size, Run run, Address image, Address photo, Address slopes,
                      Address v_values, Address v_image) {
  ssim_backward(comparison<R>(size, image, photo), run, reinterpret_cast<const R*>(slopes),
                reinterpret_cast<const R*>(v_values), reinterpret_cast<R*>(v_image));
}
void ssim_pass(bool is_double, std::array<int, 3> size, int threads, Address image, Address photo, Address values,
               Address slopes) {
  run_pass(threads, [&](Run run) {
    (is_double ? ssim_as<double> : ssim_as<float>)(size, run, image, photo, values, slopes);
  });
}
void ssim_backward_pass(bool is_double, std::array<int, 3> size, int threads, Address image, Address photo,
                        Address slopes, Address v_values, Address v_image) {
  run_pass(threads, [&](Run run) {
    (is_double ? ssim_backward_as<double> : ssim_backward_as<float>)(size, run, image, photo, slopes, v_values,
                                                                     v_image);
  });
}

nb::dict constants() {
  nb::dict c;
  c["classic"] = nb::make_tuple(kClassic.dilation, kClassic.blur);
  c["antialiased"] = nb::make_tuple(kAntialiased.dilation, kAntialiased.blur);
  c["alpha_max"] = kAlphaMax;
  c["alpha_min"] = kAlphaMin;
  c["transmittance_min"] = kTransmittanceMin;
  c["most_contributors"] = kMostContributors;
  return c;
}

}  // namespace

NB_MODULE(_native, m) {
  keep_freed_memory();
  define_call(m);
  nb::exception<TooLarge>(m, "TooLarge", PyExc_ValueError);
  nb::register_exception_translator(pass_on);
  m.def("forward", &forward, nb::kw_only(), nb::arg("is_double"), nb::arg("call"), nb::arg("threads"),
        nb::arg("out"), nb::arg("radii"));
  m.def("backward", &backward, nb::kw_only(), nb::arg("is_double"), nb::arg("state"), nb::arg("call"),
        nb::arg("threads"), nb::arg("out"), nb::arg("v_out"), nb::arg("v"));
  m.def("contributors", &contributors_pass, nb::kw_only(), nb::arg("is_double"), nb::arg("call"),
        nb::arg("threads"), nb::arg("count"), nb::arg("ids"), nb::arg("weights"), nb::arg("radii"));
  m.def("ssim", &ssim_pass, nb::kw_only(), nb::arg("is_double"), nb::arg("size"), nb::arg("threads"),
        nb::arg("image"), nb::arg("photo"), nb::arg("values"), nb::arg("slopes"));
  m.def("ssim_backward", &ssim_backward_pass, nb::kw_only(), nb::arg("is_double"), nb::arg("size"),
        nb::arg("threads"), nb::arg("image"), nb::arg("photo"), nb::arg("slopes"), nb::arg("v_values"),
        nb::arg("v_image"));
  m.def("constants", &constants);
  m.def("levels", &levels);
  m.def("level", &level);
  m.def("set_level", &set_level);
  m.def("stage_seconds", &stage_seconds);
  m.def("saved_passes", [] {
    std::lock_guard<std::mutex> lock(registry().mutex);
    return registry().passes.size();
  });
  m.def("kept_memory", &kept_memory);
  m.def("available_memory", &available_memory);
  m.def("release_memory", &release_memory, nb::call_guard<nb::gil_scoped_release>());
}
