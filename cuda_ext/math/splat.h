// One Gaussian to its splat, and the sums of compositing.h back to the gradients of the Gaussian: the
// steps of projection.h in their order, for every driver alike.
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

// A Gaussian on its way to the image.
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
};
template <class T>
COCOGS_HD Box<T> box_of(const Footprint<T>& f) {
  Box<T> box;
  box.log2_opacity = logarithm2(f.blurred.opacity);
  // Vectors of floats give NaN a logarithm.
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

// Gradients by a Gaussian, without those that come by way of its colour.
//   moments  kMoments sums over pixels
template <class T>
struct GaussianVjp {
  Gaussian<T> gaussian;
  Vec2<T> pull;  // at the projected centre: lengths, which do not cancel
};
template <class T, class R>
COCOGS_HD GaussianVjp<T> footprint_vjp(const Pinhole<R>& camera, const Gaussian<T>& gaussian,
                                       const T* moments) {
  GaussianVjp<T> v;
  const Footprint<T> f = footprint(camera, gaussian);
  const Whitening<T> white = whitening_of(f);
  const Vec2<T> v_mean2d = mean2d_vjp(white, moments[kSumX], moments[kSumY]);
  v.pull = mean2d_vjp(white, moments[kLengthX], moments[kLengthY]);
  const Sym2<T> v_wide = covar2d_vjp(f.blurred.covar, f.blurred.determinant, moments[kSumUU],
                                     moments[kSumUW], moments[kSumWW]);
  Sym2<T> v_covar;
  add_blur_vjp(f.sharp.covar, f.sharp.determinant, f.blurred, v_wide, moments[kSumLog], v_covar,
               v.gaussian.blur);
  Mat3<T> v_factor;
  project_ewa_vjp(camera, gaussian.mean, f.factor, v_mean2d, moments[kSumDepth], v_covar,
                  v.gaussian.mean, v_factor);
  covariance_factor_vjp(gaussian.quat, gaussian.scale, v_factor, v.gaussian.quat, v.gaussian.scale);
  v.gaussian.opacity = moments[kSumLog] / gaussian.opacity;
  return v;
}

}  // namespace cocogs
