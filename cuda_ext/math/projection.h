// From a Gaussian in the world to an ellipse on the image, and back for gradients.
//
// Each function f is followed by its vector-Jacobian product f_vjp, which takes the same arguments, then the
// incoming gradients `v_result`, then the gradients `v_argument` that it writes. The twin of this file is
// cocogs/rasterize/reference.py, with the same names; see cuda_ext/README.md.
#pragma once
#include "scalar.h"

namespace cocogs {

// Widens every projected Gaussian, px^2. `dilation` is added to the variances, so that no Gaussian falls between
// pixel centres. `blur` is added too, but lowers the opacity so that the integral stays the same, because a pixel
// averages over its area.
struct PixelFilter {
  double dilation, blur;
};
constexpr PixelFilter kClassic = {0.3, 0};
constexpr PixelFilter kAntialiased = {0.01, 1.0 / 12};  // a square of 1 px

template <class T>
struct Vec2 {
  T x, y;
};
template <class T>
struct Vec3 {
  T x, y, z;
};
template <class T>
struct Quaternion {
  T w, x, y, z;
};
template <class T>
struct Mat3 {
  Vec3<T> row0, row1, row2;
};
// A symmetric 2x2 matrix. In a gradient, xy is the derivative by the one number that both entries share.
template <class T>
struct Sym2 {
  T xx, xy, yy;
};

template <class A, class B>
COCOGS_HD auto dot(const Vec3<A>& a, const Vec3<B>& b) {
  return a.x * b.x + a.y * b.y + a.z * b.z;
}
template <class T>
COCOGS_HD Vec3<T> cross(const Vec3<T>& a, const Vec3<T>& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
template <class T>
COCOGS_HD Vec3<T> operator+(const Vec3<T>& a, const Vec3<T>& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z};
}
// The sum a x + b y of two vectors.
template <class T, class X>
COCOGS_HD Vec3<T> combine(const T& a, const Vec3<X>& x, const T& b, const Vec3<X>& y) {
  return {a * x.x + b * y.x, a * x.y + b * y.y, a * x.z + b * y.z};
}
// row^T M, the combination of the rows of M.
template <class T, class M>
COCOGS_HD Vec3<T> row_times(const Vec3<T>& row, const Mat3<M>& m) {
  return {row.x * m.row0.x + row.y * m.row1.x + row.z * m.row2.x,
          row.x * m.row0.y + row.y * m.row1.y + row.z * m.row2.y,
          row.x * m.row0.z + row.y * m.row1.z + row.z * m.row2.z};
}
// M row^T, the products of the rows of M with a vector.
template <class T, class M>
COCOGS_HD Vec3<T> times_column(const Mat3<M>& m, const Vec3<T>& column) {
  return {dot(m.row0, column), dot(m.row1, column), dot(m.row2, column)};
}

template <class T>
COCOGS_HD Vec3<T> normalize(const Vec3<T>& a) {
  const T inverse = T(1) / square_root(dot(a, a));
  return {a.x * inverse, a.y * inverse, a.z * inverse};
}
// d(a/|a|) = (da - n (n . da)) / |a|
template <class T>
COCOGS_HD Vec3<T> normalize_vjp(const Vec3<T>& a, const Vec3<T>& v_unit) {
  const T inverse = T(1) / square_root(dot(a, a));
  const Vec3<T> unit = {a.x * inverse, a.y * inverse, a.z * inverse};
  const T along = dot(unit, v_unit);
  return {(v_unit.x - unit.x * along) * inverse, (v_unit.y - unit.y * along) * inverse,
          (v_unit.z - unit.z * along) * inverse};
}

// A pinhole camera; R is a plain float or double.
template <class R>
struct Pinhole {
  Mat3<R> rotation;     // world to camera
  Vec3<R> translation;  // world to camera
  Vec3<R> position;     // of the camera in the world
  R fx, fy, cx, cy;     // px
  R near;               // scene units > 0; Gaussians at this depth or nearer are not drawn
  // Limits of x/z and y/z at which the projection is linearised: farther out the linear approximation
  // explodes. `Camera.slope_limits` in cocogs/camera.py computes them.
  R min_ratio_x, max_ratio_x, min_ratio_y, max_ratio_y;
  R width, height;      // px
  R dilation, blur;     // see PixelFilter

  // Puts the camera where `place` tells: the first three rows of world-to-camera, then the camera's position.
  template <class P>
  COCOGS_HD void stand_at(const P* place) {
    Vec3<R>* rows[] = {&rotation.row0, &rotation.row1, &rotation.row2};
    R* shifts[] = {&translation.x, &translation.y, &translation.z};
    for (int k = 0; k < 3; ++k) {
      *rows[k] = {R(place[4 * k]), R(place[4 * k + 1]), R(place[4 * k + 2])};
      *shifts[k] = R(place[4 * k + 3]);
    }
    position = {R(place[12]), R(place[13]), R(place[14])};
  }
  // The vector from the camera to a point of the world.
  template <class T>
  COCOGS_HD Vec3<T> to_point(const Vec3<T>& point) const {
    return {point.x - T(position.x), point.y - T(position.y), point.z - T(position.z)};
  }
};

// Rotation matrix of a quaternion of any positive length.
template <class T>
COCOGS_HD Mat3<T> quat_to_rotation(const Quaternion<T>& quat) {
  const T inverse =
      T(1) / square_root(quat.w * quat.w + quat.x * quat.x + quat.y * quat.y + quat.z * quat.z);
  const T w = quat.w * inverse, x = quat.x * inverse, y = quat.y * inverse, z = quat.z * inverse;
  const T one = T(1), two = T(2);
  return {{one - two * (y * y + z * z), two * (x * y - w * z), two * (x * z + w * y)},
          {two * (x * y + w * z), one - two * (x * x + z * z), two * (y * z - w * x)},
          {two * (x * z - w * y), two * (y * z + w * x), one - two * (x * x + y * y)}};
}
template <class T>
COCOGS_HD Quaternion<T> quat_to_rotation_vjp(const Quaternion<T>& quat, const Mat3<T>& v) {
  const T inverse =
      T(1) / square_root(quat.w * quat.w + quat.x * quat.x + quat.y * quat.y + quat.z * quat.z);
  const T w = quat.w * inverse, x = quat.x * inverse, y = quat.y * inverse, z = quat.z * inverse;
  const T two = T(2);
  const T anti_x = v.row2.y - v.row1.z, anti_y = v.row0.z - v.row2.x, anti_z = v.row1.x - v.row0.y;
  const T sum_xy = v.row0.y + v.row1.x, sum_xz = v.row0.z + v.row2.x, sum_yz = v.row1.z + v.row2.y;
  const T v_w = two * (x * anti_x + y * anti_y + z * anti_z);
  const T v_x = two * (y * sum_xy + z * sum_xz + w * anti_x - two * x * (v.row1.y + v.row2.z));
  const T v_y = two * (x * sum_xy + z * sum_yz + w * anti_y - two * y * (v.row0.x + v.row2.z));
  const T v_z = two * (x * sum_xz + y * sum_yz + w * anti_z - two * z * (v.row0.x + v.row1.y));
  const T along = v_w * w + v_x * x + v_y * y + v_z * z;
  return {(v_w - along * w) * inverse, (v_x - along * x) * inverse, (v_y - along * y) * inverse,
          (v_z - along * z) * inverse};
}

// F = rotation * diag(scale), so that the covariance of the Gaussian is F F^T.
template <class T>
COCOGS_HD Mat3<T> covariance_factor(const Quaternion<T>& quat, const Vec3<T>& scale) {
  const Mat3<T> r = quat_to_rotation(quat);
  return {{r.row0.x * scale.x, r.row0.y * scale.y, r.row0.z * scale.z},
          {r.row1.x * scale.x, r.row1.y * scale.y, r.row1.z * scale.z},
          {r.row2.x * scale.x, r.row2.y * scale.y, r.row2.z * scale.z}};
}
template <class T>
COCOGS_HD void covariance_factor_vjp(const Quaternion<T>& quat, const Vec3<T>& scale,
                                     const Mat3<T>& v_factor, Quaternion<T>& v_quat,
                                     Vec3<T>& v_scale) {
  const Mat3<T> r = quat_to_rotation(quat);
  const Mat3<T>& v = v_factor;
  v_scale = {r.row0.x * v.row0.x + r.row1.x * v.row1.x + r.row2.x * v.row2.x,
             r.row0.y * v.row0.y + r.row1.y * v.row1.y + r.row2.y * v.row2.y,
             r.row0.z * v.row0.z + r.row1.z * v.row1.z + r.row2.z * v.row2.z};
  v_quat = quat_to_rotation_vjp(
      quat, Mat3<T>{{v.row0.x * scale.x, v.row0.y * scale.y, v.row0.z * scale.z},
                    {v.row1.x * scale.x, v.row1.y * scale.y, v.row1.z * scale.z},
                    {v.row2.x * scale.x, v.row2.y * scale.y, v.row2.z * scale.z}});
}

// The projection around one Gaussian, linearised (EWA splatting, Zwicker et al. 2001).
template <class T>
struct Linearization {
  T depth;                  // along the optical axis
  T inverse_depth;          // of a depth that is at least the near plane's
  T ratio_x, ratio_y;       // x/z and y/z of the mean
  T clamped_x, clamped_y;   // the same, clamped to the limits of the camera
  Vec3<T> axis_x, axis_y;   // derivative of the pixel position by the world position
};

template <class T, class R>
COCOGS_HD Linearization<T> linearize(const Pinhole<R>& camera, const Vec3<T>& mean) {
  Linearization<T> l;
  const T x = dot(camera.rotation.row0, mean) + T(camera.translation.x);
  const T y = dot(camera.rotation.row1, mean) + T(camera.translation.y);
  l.depth = dot(camera.rotation.row2, mean) + T(camera.translation.z);
  l.inverse_depth = T(1) / maximum(l.depth, T(camera.near));
  l.ratio_x = x * l.inverse_depth;
  l.ratio_y = y * l.inverse_depth;
  l.clamped_x = minimum(maximum(l.ratio_x, T(camera.min_ratio_x)), T(camera.max_ratio_x));
  l.clamped_y = minimum(maximum(l.ratio_y, T(camera.min_ratio_y)), T(camera.max_ratio_y));
  const T jacobian_x = T(camera.fx) * l.inverse_depth, jacobian_y = T(camera.fy) * l.inverse_depth;
  const Vec3<R>& forward = camera.rotation.row2;
  l.axis_x = combine(jacobian_x, camera.rotation.row0, T(0) - jacobian_x * l.clamped_x, forward);
  l.axis_y = combine(jacobian_y, camera.rotation.row1, T(0) - jacobian_y * l.clamped_y, forward);
  return l;
}

// A Gaussian seen by the camera. The determinant of the covariance comes along, because computed from the
// rounded entries of a long, thin ellipse it would lose all its digits.
template <class T>
struct Projected {
  Vec2<T> mean;    // px
  T depth;         // scene units
  Sym2<T> covar;   // px^2, dilation included
  T determinant;   // of covar
};

template <class T, class R>
COCOGS_HD Projected<T> project_ewa(const Pinhole<R>& camera, const Vec3<T>& mean,
                                   const Mat3<T>& factor) {
  const Linearization<T> l = linearize(camera, mean);
  const Vec3<T> u = row_times(l.axis_x, factor), v = row_times(l.axis_y, factor);
  const T xx = dot(u, u), xy = dot(u, v), yy = dot(v, v);
  const Vec3<T> minors = cross(u, v);
  const T dilation = T(camera.dilation);
  return {{T(camera.fx) * l.ratio_x + T(camera.cx), T(camera.fy) * l.ratio_y + T(camera.cy)},
          l.depth,
          {xx + dilation, xy, yy + dilation},
          dot(minors, minors) + dilation * (xx + yy + dilation)};
}
template <class T, class R>
COCOGS_HD void project_ewa_vjp(const Pinhole<R>& camera, const Vec3<T>& mean, const Mat3<T>& factor,
                               const Vec2<T>& v_mean2d, const T& v_depth, const Sym2<T>& v_covar,
                               Vec3<T>& v_mean, Mat3<T>& v_factor) {
  const Linearization<T> l = linearize(camera, mean);
  const Vec3<T> u = row_times(l.axis_x, factor), v = row_times(l.axis_y, factor);
  const Vec3<T> v_u = combine(T(2) * v_covar.xx, u, v_covar.xy, v);
  const Vec3<T> v_v = combine(T(2) * v_covar.yy, v, v_covar.xy, u);
  v_factor = {combine(l.axis_x.x, v_u, l.axis_y.x, v_v), combine(l.axis_x.y, v_u, l.axis_y.y, v_v),
              combine(l.axis_x.z, v_u, l.axis_y.z, v_v)};
  const Vec3<T> v_axis_x = times_column(factor, v_u), v_axis_y = times_column(factor, v_v);

  // axis_x = fx/z (rotation.row0 - clamped_x rotation.row2), likewise y.
  const T iz = l.inverse_depth;
  const T fx_z = T(camera.fx) * iz, fy_z = T(camera.fy) * iz;
  const T v_clamped_x = T(0) - fx_z * dot(camera.rotation.row2, v_axis_x);
  const T v_clamped_y = T(0) - fy_z * dot(camera.rotation.row2, v_axis_y);
  const T v_ratio_x =
      T(camera.fx) * v_mean2d.x + select(l.clamped_x == l.ratio_x, v_clamped_x, T(0));
  const T v_ratio_y =
      T(camera.fy) * v_mean2d.y + select(l.clamped_y == l.ratio_y, v_clamped_y, T(0));
  // d(1/z) = -1/z^2 dz and ratio = x/z, so that every term is multiplied by -1/z.
  const T v_z = v_depth - iz * (dot(l.axis_x, v_axis_x) + dot(l.axis_y, v_axis_y) +
                                l.ratio_x * v_ratio_x + l.ratio_y * v_ratio_y);
  v_mean = row_times(Vec3<T>{iz * v_ratio_x, iz * v_ratio_y, v_z}, camera.rotation);
}

// A projected Gaussian widened by a blur of variance `blur` (px^2) per axis; its opacity is lowered
// so that the integral of the splat stays the same.
template <class T>
struct Blurred {
  Sym2<T> covar;
  T determinant;
  T opacity;
};
template <class T>
COCOGS_HD Blurred<T> add_blur(const Sym2<T>& covar, const T& determinant, const T& opacity,
                              const T& blur) {
  const T blurred = determinant + blur * (covar.xx + covar.yy + blur);
  return {{covar.xx + blur, covar.xy, covar.yy + blur},
          blurred,
          opacity * square_root(determinant / blurred)};
}
// v_log_opacity is the gradient by log(result.opacity), which is result.opacity x its gradient. It is also the
// gradient by log(opacity): log o' = log o + (log det - log det') / 2.
template <class T>
COCOGS_HD void add_blur_vjp(const Sym2<T>& covar, const T& determinant, const Blurred<T>& result,
                            const Sym2<T>& v_result_covar, const T& v_log_opacity, Sym2<T>& v_covar,
                            T& v_blur) {
  const T sharp = T(0.5) * v_log_opacity / determinant;
  const T wide = T(0.5) * v_log_opacity / result.determinant;
  v_blur = v_result_covar.xx + v_result_covar.yy - wide * (result.covar.xx + result.covar.yy);
  v_covar = {v_result_covar.xx + sharp * covar.yy - wide * result.covar.yy,
             v_result_covar.xy - T(2) * covar.xy * (sharp - wide),
             v_result_covar.yy + sharp * covar.xx - wide * result.covar.xx};
}

// A triangular root W of the inverse covariance, C^-1 = W^T W. The squared length of an offset d is |W d|^2 in
// standard deviations. It keeps its digits, unlike d^T C^-1 d, which is a small difference of large terms for a
// slanting needle.
//   u = ux dx + uy dy,  w = wy dy
template <class T>
struct Whitening {
  T ux, uy, wy;
};
template <class T>
COCOGS_HD Whitening<T> whitening_of(const Sym2<T>& covar, const T& determinant) {
  const T ux = square_root(covar.yy / determinant);
  return {ux, T(0) - ux * covar.xy / covar.yy, square_root(T(1) / covar.yy)};
}
// v_lengths = sum over pixels of v (u^2, u w, w^2), where v is the gradient by the squared length of W d.
template <class T>
COCOGS_HD Sym2<T> whitening_of_vjp(const Sym2<T>& covar, const T& determinant, const Sym2<T>& v_lengths) {
  // d|W d|^2 = -(C^-1 d)^T dC (C^-1 d), and C^-1 d = W^T (u, w).
  const Whitening<T> white = whitening_of(covar, determinant);
  const T xx = white.ux * white.ux * v_lengths.xx;
  const T half_xy = white.ux * (white.uy * v_lengths.xx + white.wy * v_lengths.xy);
  const T yy = white.uy * (white.uy * v_lengths.xx + (white.wy + white.wy) * v_lengths.xy) +
               white.wy * white.wy * v_lengths.yy;
  return {T(0) - xx, T(-2) * half_xy, T(0) - yy};
}

}  // namespace cocogs
