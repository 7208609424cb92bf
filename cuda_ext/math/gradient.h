// Between arrays of Gaussians and the mathematics: loads Gaussians, and adds up and stores their gradients.
//
// The CPU and the GPU share this file. They differ in T, and in `At`, which says where in the arrays the
// Gaussians are that T stands for:
//   at.load<Columns>(array, columns)    columns[c] = number c of their rows in an array (N, Columns)
//   at.store<Columns>(array, columns)   writes the columns to their rows
#pragma once
#include <cstdint>

#include "harmonics.h"
#include "splat.h"

namespace cocogs {

// An array of shape (S, N, ...) or, with stride 0, (N, ...), which all sets share. May be null.
template <class P>
struct PerSet {
  P* data = nullptr;
  int64_t stride = 0;  // between sets, in numbers
  COCOGS_HD P* set(int s) const { return data + s * stride; }
};

template <class P>
struct Parameters {        // of the Gaussians, or the gradients by them
  PerSet<P> means;         // (N, 3) world
  PerSet<P> quats;         // (N, 4) wxyz, of any positive length
  PerSet<P> scales;        // (N, 3) > 0
  PerSet<P> opacities;     // (N,) >= 0; a pixel's alpha never exceeds ALPHA_MAX
  PerSet<P> blur;          // (N,) px^2, >= 0; null = 0
  PerSet<P> shift;         // (N, 2) px, moves the projected centres; null = 0
  P* sh0 = nullptr;        // (N, 1, 3); null where nobody asks for colours, as for shN
  P* shN = nullptr;        // (N, 15, 3)
  PerSet<P> means2d;       // (N, 2) px; only as a gradient: the sum over pixels of the pulls' lengths

  // Whether all sets share all but the shift, and so one footprint and one colour per Gaussian.
  COCOGS_HD bool alike() const {
    return !(means.stride || quats.stride || scales.stride || opacities.stride || blur.stride);
  }
  // Whether a set has the footprint, colour and order that the set before it has.
  COCOGS_HD bool repeats(int set) const { return set > 0 && alike(); }
};

template <class T, class R, class At>
COCOGS_HD Gaussian<T> load_gaussian(const Parameters<const R>& from, int set, const At& at) {
  T mean[3], quat[4], scale[3], opacity[1], blur[1] = {T(0)};
  at.template load<3>(from.means.set(set), mean);
  at.template load<4>(from.quats.set(set), quat);
  at.template load<3>(from.scales.set(set), scale);
  at.template load<1>(from.opacities.set(set), opacity);
  if (from.blur.data) at.template load<1>(from.blur.set(set), blur);
  return {{mean[0], mean[1], mean[2]}, {quat[0], quat[1], quat[2], quat[3]}, {scale[0], scale[1], scale[2]},
          opacity[0], blur[0]};
}
template <class T, class R, class At>
COCOGS_HD Vec2<T> load_shift(const Parameters<const R>& from, int set, const At& at) {
  T shift[2] = {T(0), T(0)};
  if (from.shift.data) at.template load<2>(from.shift.set(set), shift);
  return {shift[0], shift[1]};
}

// The gradient by one input: stored set by set, or added up over the sets that share the input and then stored.
template <int Columns, class T, class R>
class GradientRows {
 public:
  explicit COCOGS_HD GradientRows(const PerSet<R>& to) : to_(to) {
    for (int c = 0; c < Columns; ++c) sum_[c] = T(0);
  }
  template <class At>
  COCOGS_HD void add(int set, const At& at, const T (&value)[Columns]) {
    if (to_.stride)
      store(to_.set(set), at, value);
    else
      for (int c = 0; c < Columns; ++c) sum_[c] += value[c];
  }
  template <class At>
  COCOGS_HD void finish(const At& at) const {
    if (!to_.stride) store(to_.data, at, sum_);
  }

 private:
  template <class At>
  static COCOGS_HD void store(R* array, const At& at, const T (&value)[Columns]) {
    if (array) at.template store<Columns>(array, value);
  }
  PerSet<R> to_;
  T sum_[Columns];
};

// The gradients by all inputs but the colours. `add_pull` wants every set. `add` wants every set too, unless they are
// alike: then any set once, with what all sets together give.
template <class T, class R>
class GaussianGradients {
 public:
  explicit COCOGS_HD GaussianGradients(const Parameters<R>& v)
      : means_(v.means), scales_(v.scales), quats_(v.quats), opacities_(v.opacities), blur_(v.blur),
        shift_(v.shift), means2d_(v.means2d) {}
  template <class At>
  COCOGS_HD void add_pull(int set, const At& at, const Pull<T>& pull) {
    shift_.add(set, at, {pull.sum.x, pull.sum.y});
    means2d_.add(set, at, {pull.length.x, pull.length.y});
  }
  template <class At>
  COCOGS_HD void add(int set, const At& at, const Gaussian<T>& g) {
    means_.add(set, at, {g.mean.x, g.mean.y, g.mean.z});
    quats_.add(set, at, {g.quat.w, g.quat.x, g.quat.y, g.quat.z});
    scales_.add(set, at, {g.scale.x, g.scale.y, g.scale.z});
    opacities_.add(set, at, {g.opacity});
    blur_.add(set, at, {g.blur});
  }
  template <class At>
  COCOGS_HD void finish(const At& at) const {
    means_.finish(at);
    quats_.finish(at);
    scales_.finish(at);
    opacities_.finish(at);
    blur_.finish(at);
    shift_.finish(at);
    means2d_.finish(at);
  }

 private:
  GradientRows<3, T, R> means_, scales_;
  GradientRows<4, T, R> quats_;
  GradientRows<1, T, R> opacities_, blur_;
  GradientRows<2, T, R> shift_, means2d_;
};

// The gradients by a Gaussian from the moments of its splat, by way of its colour too: adds those by its
// coefficients to v_sh. Without `sh` the colour has no gradient.
//   color    as color_of gave it
//   moments  of all sets that share the Gaussian
//   drawn    whether there is a splat (a mask, for vectors); gradients of others are 0
template <int Degree, class T, class R, class Drawn>
COCOGS_HD Gaussian<T> gaussian_vjp(const Pinhole<R>& camera, const Gaussian<T>& gaussian, const Footprint<T>& f,
                                   const Whitening<T>& white, const Vec3<T>& color, const T* moments,
                                   const Drawn& drawn, const T* sh, T* v_sh) {
  const auto keep = [&drawn](const T& value) { return select(drawn, value, T(0)); };
  Gaussian<T> g = footprint_vjp(camera, gaussian, f, white, moments);
  if (sh) {
    const Vec3<T> from_eye = camera.to_point(gaussian.mean);
    const Vec3<T> toward = {select(drawn, from_eye.x, T(1)), select(drawn, from_eye.y, T(1)),
                            select(drawn, from_eye.z, T(1))};
    const Vec3<T> v_color = {select(drawn & (color.x > T(0)), moments[kSumRed], T(0)),
                             select(drawn & (color.y > T(0)), moments[kSumGreen], T(0)),
                             select(drawn & (color.z > T(0)), moments[kSumBlue], T(0))};
    g.mean = g.mean + eval_sh_vjp<Degree>(toward, sh, v_color, v_sh);
  }
  return {{keep(g.mean.x), keep(g.mean.y), keep(g.mean.z)},
          {keep(g.quat.w), keep(g.quat.x), keep(g.quat.y), keep(g.quat.z)},
          {keep(g.scale.x), keep(g.scale.y), keep(g.scale.z)},
          keep(g.opacity),
          keep(g.blur)};
}

}  // namespace cocogs
