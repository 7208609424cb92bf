// The arguments of a call from Python, for both native modules: addresses and sizes, each by its name.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/pair.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "math/harmonics.h"
#include "ops.h"

namespace cocogs {

using Address = uintptr_t;  // 0 for what is not there
// A tensor (S, N, ...) or, with stride 0, (1, N, ...): its address, and numbers from one set to the next.
using Array = std::pair<Address, int64_t>;

// The Gaussians, or the gradients by them. cocogs/rasterize/call.py makes it of keywords.
struct Arrays {
  Array means, quats, scales, opacities, blur, shift, sh0, shN, means2d;
};
struct Pictures {
  Address colors = 0, alphas = 0, depths = 0;
};

template <class P>
Parameters<P> parameters(const Arrays& arrays) {
  const auto per_set = [](const Array& a) { return PerSet<P>{reinterpret_cast<P*>(a.first), a.second}; };
  Parameters<P> p;
  p.means = per_set(arrays.means);
  p.quats = per_set(arrays.quats);
  p.scales = per_set(arrays.scales);
  p.opacities = per_set(arrays.opacities);
  p.blur = per_set(arrays.blur);
  p.shift = per_set(arrays.shift);
  p.sh0 = reinterpret_cast<P*>(arrays.sh0.first);
  p.shN = reinterpret_cast<P*>(arrays.shN.first);
  p.means2d = per_set(arrays.means2d);
  return p;
}
template <class P>
Images<P> images(const Pictures& at) {
  return {reinterpret_cast<P*>(at.colors), reinterpret_cast<P*>(at.alphas), reinterpret_cast<P*>(at.depths)};
}

template <class R>
Contributors<R> contributors(int count, Address ids, Address weights) {
  return {count, reinterpret_cast<int32_t*>(ids), reinterpret_cast<R*>(weights)};
}

// `Camera.numbers` of cocogs/camera.py, in this order.
enum CameraNumber {
  kPlace, kFx = 15, kFy, kCx, kCy, kNear, kMinRatioX, kMaxRatioX, kMinRatioY, kMaxRatioY, kCameraNumbers
};
using CameraNumbers = std::array<double, kCameraNumbers>;

// What both passes are told about the scene.
struct Call {
  Arrays gaussians;
  int64_t count;
  int sets, sh_degree, width, height;
  CameraNumbers camera;
  Address place;  // of the numbers that stand for the first ones of `camera`; see Scene
  Address background;
  bool antialiased, with_depth;
};

template <class R>
Scene<R> scene_of(const Call& call) {
  const auto& c = call.camera;
  Scene<R> scene;
  scene.gaussians = parameters<const R>(call.gaussians);
  scene.camera.stand_at(&c[kPlace]);
  scene.place = reinterpret_cast<const R*>(call.place);
  scene.camera.fx = R(c[kFx]);
  scene.camera.fy = R(c[kFy]);
  scene.camera.cx = R(c[kCx]);
  scene.camera.cy = R(c[kCy]);
  scene.camera.near = R(c[kNear]);
  scene.camera.min_ratio_x = R(c[kMinRatioX]);
  scene.camera.max_ratio_x = R(c[kMaxRatioX]);
  scene.camera.min_ratio_y = R(c[kMinRatioY]);
  scene.camera.max_ratio_y = R(c[kMaxRatioY]);
  scene.camera.width = R(call.width);
  scene.camera.height = R(call.height);
  const PixelFilter filter = call.antialiased ? kAntialiased : kClassic;
  scene.camera.dilation = R(filter.dilation);
  scene.camera.blur = R(filter.blur);
  scene.count = call.count;
  scene.sets = call.sets;
  scene.sh_degree = call.sh_degree;
  scene.width = call.width;
  scene.height = call.height;
  scene.with_depth = call.with_depth;
  scene.background = reinterpret_cast<const R*>(call.background);
  return scene;
}

// Two pictures of `size` = channels, height, width.
template <class R>
Comparison<R> comparison(const std::array<int, 3>& size, Address image, Address photo) {
  return {size[0], size[1], size[2], reinterpret_cast<const R*>(image), reinterpret_cast<const R*>(photo)};
}

// Throws std::invalid_argument. The ops in Python have checked the tensors: shapes, types, devices.
inline void check(const Call& call) {
  if (call.sets < 1 || call.sets > kMaxSets)
    throw std::invalid_argument("The number of sets must lie between 1 and " + std::to_string(kMaxSets) + ".");
  if (call.count < 0 || call.count > int64_t(UINT32_MAX) / call.sets)
    throw std::invalid_argument("There may be 2^32 Gaussians at most, all sets together.");
  constexpr int most = kTile * UINT16_MAX;
  if (call.width < 1 || call.height < 1 || call.width > most || call.height > most)
    throw std::invalid_argument("A picture must have between 1 and a million pixels on each side.");
  if (call.sh_degree < 0 || call.sh_degree > kMaxDegree)
    throw std::invalid_argument("sh_degree must lie between 0 and 3.");
  for (const double number : call.camera)
    if (!std::isfinite(number)) throw std::invalid_argument("The camera holds a number that is not finite.");
  if (!(call.camera[kFx] > 0) || !(call.camera[kFy] > 0))
    throw std::invalid_argument("The camera's focal lengths must be greater than 0.");
  if (!(call.camera[kNear] > 0)) throw std::invalid_argument("The camera's near plane must be greater than 0.");
}

// The same for a pass that looks for so many contributors.
inline void check(const Call& call, int contributors) {
  check(call);
  if (call.sets != 1 || call.count > INT32_MAX)
    throw std::invalid_argument("Contributors are those of one set of at most 2^31 Gaussians.");
  if (contributors < 1 || contributors > kMostContributors)
    throw std::invalid_argument("`count` must lie between 1 and " + std::to_string(kMostContributors) + ", not " +
                                std::to_string(contributors) + ".");
}

inline void define_call(nanobind::module_& m) {
  namespace nb = nanobind;
  nb::class_<Arrays>(m, "Arrays")
      .def(nb::init<Array, Array, Array, Array, Array, Array, Array, Array, Array>(), nb::kw_only(),
           nb::arg("means"), nb::arg("quats"), nb::arg("scales"), nb::arg("opacities"), nb::arg("blur"),
           nb::arg("shift"), nb::arg("sh0"), nb::arg("shN"), nb::arg("means2d"));
  nb::class_<Pictures>(m, "Pictures")
      .def(nb::init<Address, Address, Address>(), nb::kw_only(), nb::arg("colors"), nb::arg("alphas"),
           nb::arg("depths"));
  nb::class_<Call>(m, "Call")
      .def(nb::init<Arrays, int64_t, int, int, int, int, CameraNumbers, Address, Address, bool, bool>(),
           nb::kw_only(), nb::arg("gaussians"), nb::arg("count"), nb::arg("sets"), nb::arg("sh_degree"),
           nb::arg("width"), nb::arg("height"), nb::arg("camera"), nb::arg("place"), nb::arg("background"),
           nb::arg("antialiased"), nb::arg("with_depth"));
}

}  // namespace cocogs
