// View-dependent colour: real spherical harmonics up to degree 3, in the order and with the signs
// of 3D Gaussian Splatting (the Condon-Shortley phase is included).
#pragma once
#include <type_traits>

#include "projection.h"

namespace cocogs {

constexpr int kMaxDegree = 3;
template <int Degree>
constexpr int kBasisSize = (Degree + 1) * (Degree + 1);
// Numbers per Gaussian: all coefficients, and those in shN.
constexpr int kCoefficients = 3 * kBasisSize<kMaxDegree>;
constexpr int kShRest = kCoefficients - 3;

// Calls visit(std::integral_constant<int, degree>).
template <class Visit>
inline void with_degree(int degree, const Visit& visit) {
  switch (degree) {
    case 0: return visit(std::integral_constant<int, 0>());
    case 1: return visit(std::integral_constant<int, 1>());
    case 2: return visit(std::integral_constant<int, 2>());
    default: return visit(std::integral_constant<int, 3>());
  }
}

constexpr double kSh0 = 0.28209479177387814;
constexpr double kSh1 = 0.4886025119029199;
// Separate numbers instead of arrays, because device code may not index a constant array of the host.
constexpr double kSh2_0 = 1.0925484305920792, kSh2_1 = 0.31539156525252005, kSh2_2 = 0.5462742152960396;
constexpr double kSh3_0 = 0.5900435899266435, kSh3_1 = 2.890611442640554, kSh3_2 = 0.4570457994644658,
                 kSh3_3 = 0.3731763325901154, kSh3_4 = 1.445305721320277;

// The kBasisSize<Degree> basis functions at a unit direction.
template <int Degree, class T>
COCOGS_HD void sh_basis(const Vec3<T>& unit, T* basis) {
  const T x = unit.x, y = unit.y, z = unit.z;
  basis[0] = T(kSh0);
  if constexpr (Degree >= 1) {
    basis[1] = T(-kSh1) * y;
    basis[2] = T(kSh1) * z;
    basis[3] = T(-kSh1) * x;
  }
  if constexpr (Degree >= 2) {
    const T xx = x * x, yy = y * y, zz = z * z;
    basis[4] = T(kSh2_0) * x * y;
    basis[5] = T(-kSh2_0) * y * z;
    basis[6] = T(kSh2_1) * (zz + zz - xx - yy);
    basis[7] = T(-kSh2_0) * x * z;
    basis[8] = T(kSh2_2) * (xx - yy);
    if constexpr (Degree >= 3) {
      basis[9] = T(-kSh3_0) * y * (T(3) * xx - yy);
      basis[10] = T(kSh3_1) * x * y * z;
      basis[11] = T(-kSh3_2) * y * (T(4) * zz - xx - yy);
      basis[12] = T(kSh3_3) * z * (T(2) * zz - T(3) * (xx + yy));
      basis[13] = T(-kSh3_2) * x * (T(4) * zz - xx - yy);
      basis[14] = T(kSh3_4) * z * (xx - yy);
      basis[15] = T(-kSh3_0) * x * (xx - T(3) * yy);
    }
  }
}
template <int Degree, class T>
COCOGS_HD Vec3<T> sh_basis_vjp(const Vec3<T>& unit, const T* v_basis) {
  const T x = unit.x, y = unit.y, z = unit.z;
  Vec3<T> v = {T(0), T(0), T(0)};
  if constexpr (Degree >= 1) {
    v = {T(-kSh1) * v_basis[3], T(-kSh1) * v_basis[1], T(kSh1) * v_basis[2]};
  }
  if constexpr (Degree >= 2) {
    const T v4 = T(kSh2_0) * v_basis[4], v5 = T(-kSh2_0) * v_basis[5];
    const T v6 = T(2 * kSh2_1) * v_basis[6], v7 = T(-kSh2_0) * v_basis[7];
    const T v8 = T(2 * kSh2_2) * v_basis[8];
    v.x = v.x + v4 * y - v6 * x + v7 * z + v8 * x;
    v.y = v.y + v4 * x + v5 * z - v6 * y - v8 * y;
    v.z = v.z + v5 * y + (v6 + v6) * z + v7 * x;
  }
  if constexpr (Degree >= 3) {
    const T xx = x * x, yy = y * y, zz = z * z, xy = x * y, xz = x * z, yz = y * z;
    const T v9 = T(-3 * kSh3_0) * v_basis[9], v10 = T(kSh3_1) * v_basis[10];
    const T v11 = T(-kSh3_2) * v_basis[11], v12 = T(3 * kSh3_3) * v_basis[12];
    const T v13 = T(-kSh3_2) * v_basis[13], v14 = T(kSh3_4) * v_basis[14];
    const T v15 = T(-3 * kSh3_0) * v_basis[15];
    const T two = T(2), three = T(3), four = T(4), eight = T(8);
    v.x = v.x + v9 * two * xy + v10 * yz - v11 * two * xy - v12 * two * xz +
          v13 * (four * zz - three * xx - yy) + v14 * two * xz + v15 * (xx - yy);
    v.y = v.y + v9 * (xx - yy) + v10 * xz + v11 * (four * zz - xx - three * yy) - v12 * two * yz -
          v13 * two * xy - v14 * two * yz - v15 * two * xy;
    v.z = v.z + v10 * xy + v11 * eight * yz + v12 * (two * zz - xx - yy) + v13 * eight * xz +
          v14 * (xx - yy);
  }
  return v;
}

// Colour, not yet clamped at 0, of coefficients sh[3 k + channel] seen along `toward`, the vector (of any
// length) from the camera to the Gaussian.
template <int Degree, class T>
COCOGS_HD Vec3<T> eval_sh(const Vec3<T>& toward, const T* sh) {
  T basis[kBasisSize<Degree>];
  sh_basis<Degree>(normalize(toward), basis);
  Vec3<T> color = {T(0.5), T(0.5), T(0.5)};
  for (int k = 0; k < kBasisSize<Degree>; ++k) {
    color.x = color.x + basis[k] * sh[3 * k];
    color.y = color.y + basis[k] * sh[3 * k + 1];
    color.z = color.z + basis[k] * sh[3 * k + 2];
  }
  return color;
}
// Adds to v_sh and returns the gradient by `toward`.
template <int Degree, class T>
COCOGS_HD Vec3<T> eval_sh_vjp(const Vec3<T>& toward, const T* sh, const Vec3<T>& v_color, T* v_sh) {
  const Vec3<T> unit = normalize(toward);
  T basis[kBasisSize<Degree>], v_basis[kBasisSize<Degree>];
  sh_basis<Degree>(unit, basis);
  for (int k = 0; k < kBasisSize<Degree>; ++k) {
    v_sh[3 * k] = v_sh[3 * k] + basis[k] * v_color.x;
    v_sh[3 * k + 1] = v_sh[3 * k + 1] + basis[k] * v_color.y;
    v_sh[3 * k + 2] = v_sh[3 * k + 2] + basis[k] * v_color.z;
    v_basis[k] = sh[3 * k] * v_color.x + sh[3 * k + 1] * v_color.y + sh[3 * k + 2] * v_color.z;
  }
  return normalize_vjp(toward, sh_basis_vjp<Degree>(unit, v_basis));
}

// Colour of a Gaussian seen by the camera, clamped at 0. What is not a number stays so and reaches the picture: a
// training that has broken down must show it. (`maximum` returns its second argument where either is NaN.)
template <int Degree, class T, class R>
COCOGS_HD Vec3<T> color_of(const Pinhole<R>& camera, const Vec3<T>& mean, const T* sh) {
  const Vec3<T> color = eval_sh<Degree>(camera.to_point(mean), sh);
  return {maximum(T(0), color.x), maximum(T(0), color.y), maximum(T(0), color.z)};
}

}  // namespace cocogs
