// From one Gaussian to its splat, and from the sums of compositing.h to the gradients by the Gaussian: the steps of
// projection.h in order, for the CPU and the GPU.
#pragma once
#include "compositing.h"
#include "projection.h"

namespace cocogs {

template <class T>
struct Gaussian {
  Vec3<T> mean;           // world
  Quaternion<T> quat;
  Vec3<T> scale;
  T opacity;
  T blur;                 // px^2
};

// A Gaussian seen by the camera, without its colour.
template <class T>
struct Footprint {
  Mat3<T> factor;
  Projected<T> sharp;
  Blurred<T> blurred;
};
template <class T, class R>
COCOGS_HD Footprint<T> footprint(const Pinhole<R>& camera, const Gaussian<T>& gaussian) {
  Footprint<T> f;
  f.factor = covariance_factor(gaussian.quat, gaussian.scale);
  f.sharp = project_ewa(camera, gaussian.mean, f.factor);
  f.blurred = add_blur(f.sharp.covar, f.sharp.determinant, gaussian.opacity, gaussian.blur + T(camera.blur));
  return f;
}
template <class T>
COCOGS_HD Whitening<T> whitening_of(const Footprint<T>& f) {
  return scaled(whitening_of(f.blurred.covar, f.blurred.determinant));
}

// The box around the part of a splat that may be drawn, px.
template <class T>
struct Box {
  T log2_opacity;
  T reach;                     // see squared_reach
  T radius;                    // half the larger side
  T left, right, top, bottom;

  COCOGS_HD Box moved(const Vec2<T>& shift) const {
    return {log2_opacity, reach, radius, left + shift.x, right + shift.x, top + shift.y, bottom + shift.y};
  }
};
template <class T>
COCOGS_HD Box<T> box_of(const Footprint<T>& f) {
  Box<T> box;
  box.log2_opacity = logarithm2(f.blurred.opacity);
  // A vector's logarithm of NaN is some number, so this asks the opacity itself.
  box.reach = select(f.blurred.opacity > T(0), squared_reach(box.log2_opacity), T(-1));
  const T x = square_root(maximum(box.reach, T(0)) * f.blurred.covar.xx);
  const T y = square_root(maximum(box.reach, T(0)) * f.blurred.covar.yy);
  box.radius = maximum(x, y);
  box.left = f.sharp.mean.x - x;
  box.right = f.sharp.mean.x + x;
  box.top = f.sharp.mean.y - y;
  box.bottom = f.sharp.mean.y + y;
  return box;
}
template <class T, class R>
COCOGS_HD auto visible(const Pinhole<R>& camera, const T& depth, const Box<T>& box) {
  return (depth > T(camera.near)) & (box.reach >= T(0)) & (box.right > T(0)) &
         (box.left < T(camera.width)) & (box.bottom > T(0)) & (box.top < T(camera.height));
}

// How the pixels pull at the projected centre of a splat.
//   moments  kMoments sums over pixels
template <class T>
struct Pull {
  Vec2<T> sum;     // the gradient by the centre, and by what moves it in the picture
  Vec2<T> length;  // the sum of the pulls' lengths
};
template <class T>
COCOGS_HD Pull<T> pull_of(const Whitening<T>& white, const T* moments) {
  return {mean2d_vjp(white, moments[kSumX], moments[kSumY]),
          mean2d_vjp(white, moments[kLengthX], moments[kLengthY])};
}
// A pull, 0 where nothing is drawn (a mask, for vectors): there the whitening may be NaN.
template <class Drawn, class T>
COCOGS_HD Pull<T> kept(const Drawn& drawn, const Pull<T>& pull) {
  const auto keep = [&drawn](const T& value) { return select(drawn, value, T(0)); };
  return {{keep(pull.sum.x), keep(pull.sum.y)}, {keep(pull.length.x), keep(pull.length.y)}};
}

// Gradients by a Gaussian, without those through its colour.
//   f, white  its footprint and that one's whitening
//   moments   kMoments sums over the pixels, of all sets that share the footprint
template <class T, class R>
COCOGS_HD Gaussian<T> footprint_vjp(const Pinhole<R>& camera, const Gaussian<T>& gaussian,
                                    const Footprint<T>& f, const Whitening<T>& white, const T* moments) {
  Gaussian<T> v;
  const Sym2<T> v_wide = covar2d_vjp(f.blurred.covar, f.blurred.determinant, moments[kSumUU],
                                     moments[kSumUW], moments[kSumWW]);
  Sym2<T> v_covar;
  add_blur_vjp(f.sharp.covar, f.sharp.determinant, f.blurred, v_wide, moments[kSumLog], v_covar,
               v.blur);
  Mat3<T> v_factor;
  project_ewa_vjp(camera, gaussian.mean, f.factor, pull_of(white, moments).sum, moments[kSumDepth], v_covar,
                  v.mean, v_factor);
  covariance_factor_vjp(gaussian.quat, gaussian.scale, v_factor, v.quat, v.scale);
  v.opacity = moments[kSumLog] / gaussian.opacity;
  return v;
}

}  // namespace cocogs
