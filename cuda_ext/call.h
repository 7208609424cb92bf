// The arguments of a call from Python, for both native modules: addresses and sizes, as plain numbers.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>

#include <array>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>

#include "math/harmonics.h"
#include "ops.h"

namespace cocogs {

using Address = uintptr_t;  // 0 for what is not there

// The order of addresses in calls, as in native.py.
enum Argument { kMeans, kQuats, kScales, kOpacities, kBlur, kFirstBand, kOtherBands, kMeans2d, kArguments };
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
  p.sh0 = reinterpret_cast<P*>(at[kFirstBand]);
  p.shN = reinterpret_cast<P*>(at[kOtherBands]);
  p.means2d = per_set(kMeans2d);
  return p;
}
template <class P>
Images<P> images(const ImageAddresses& at) {
  return {reinterpret_cast<P*>(at[kColors]), reinterpret_cast<P*>(at[kAlphas]),
          reinterpret_cast<P*>(at[kDepths])};
}

// `Camera.numbers` of cocogs/camera.py, in this order.
enum CameraNumber { kPose, kFx = 12, kFy, kCx, kCy, kNear, kMinRatioX, kMaxRatioX, kMinRatioY, kMaxRatioY, kCameraNumbers };
using CameraNumbers = std::array<double, kCameraNumbers>;

// What both passes are told about the scene.
struct Call {
  Addresses inputs;
  std::array<int64_t, kArguments> strides;  // between sets, in numbers; 0 = shared
  int64_t count;
  int sets, sh_degree, width, height;
  CameraNumbers camera;
  Address background;
  bool antialiased, with_depth;
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

// Throws std::invalid_argument.
inline void check(const Call& call) {
  if (call.sets < 1 || call.sets > kMaxSets)
    throw std::invalid_argument("the number of sets must lie between 1 and " + std::to_string(kMaxSets));
  if (call.count < 0 || call.count > int64_t(UINT32_MAX) / call.sets)
    throw std::invalid_argument("too many Gaussians: 2^32 at most, all sets together");
  constexpr int most = kTile * UINT16_MAX;
  if (call.width < 1 || call.height < 1 || call.width > most || call.height > most)
    throw std::invalid_argument("the image must measure between 1 and a million pixels on each side");
  if (call.sh_degree < 0 || call.sh_degree > kMaxDegree)
    throw std::invalid_argument("sh_degree must lie between 0 and 3");
}

inline void define_call(nanobind::module_& m) {
  namespace nb = nanobind;
  nb::class_<Call>(m, "Call")
      .def("__init__",
           [](Call* call, Addresses inputs, std::array<int64_t, kArguments> strides, int64_t count, int sets,
              int sh_degree, int width, int height, CameraNumbers camera,
              Address background, bool antialiased, bool with_depth) {
             new (call) Call{inputs, strides, count,      sets,        sh_degree, width,
                             height, camera,  background, antialiased, with_depth};
           },
           nb::arg("inputs"), nb::arg("strides"), nb::arg("count"), nb::arg("sets"), nb::arg("sh_degree"),
           nb::arg("width"), nb::arg("height"), nb::arg("camera"),
           nb::arg("background"), nb::arg("antialiased"), nb::arg("with_depth"));
}

}  // namespace cocogs
