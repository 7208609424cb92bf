// Structural similarity (Wang et al. 2004, "Image quality assessment: from error visibility to structural
// similarity") of an image x and a photo y in [0, 1], and its gradient by the image.
//
// SSIM is luminance (2 mx my + C1) / (mx^2 + my^2 + C1) times structure (2 cov + C2) / (varx + vary + C2), from
// averages over a Gaussian window of 11 x 11 px. Outside the image both are 0, as in 3DGS. Written with the difference
// d = x - y instead of the product x y, the same fractions are
//   1 - (mx - my)^2 / (mx^2 + my^2 + C1)   and   1 - var(d) / (varx + vary + C2).
// In float32 this loses no digits where image and photo agree, and it takes four averages instead of five.
#pragma once
#include "scalar.h"

namespace cocogs {

constexpr int kWindow = 11;  // px; kWindowHalf of them are on each side of the pixel
constexpr int kWindowHalf = kWindow / 2;
constexpr double kSsimC1 = 0.01 * 0.01, kSsimC2 = 0.03 * 0.03;

// Weight of place k of the window along one axis: a normalised Gaussian with a standard deviation of 1.5 px. The
// window is the product over both axes.
COCOGS_HD constexpr double window_weight(int k) {
  constexpr double kWeights[kWindowHalf + 1] = {0.2660117248617943,  0.21300553771125366,
                                                0.1093606895097,     0.03600077212843082,
                                                0.007598758135239184, 0.0010283800844791099};
  return kWeights[k < kWindowHalf ? kWindowHalf - k : k - kWindowHalf];
}

// The four numbers of a pixel that are averaged over the window; also the averages.
constexpr int kSsimTerms = 4;
template <class T>
struct SsimTerms {
  T x, y;
  T squares;  // x^2 + y^2
  T error;    // (x - y)^2
};
template <class T>
COCOGS_HD SsimTerms<T> ssim_terms(const T& x, const T& y) {
  const T d = x - y;
  return {x, y, x * x + y * y, d * d};
}

// Gradients by the terms that depend on the image.
constexpr int kSsimSlopes = 3;
template <class T>
struct SsimSlopes {
  T x, squares, error;
};
// The gradient by x.
template <class T>
COCOGS_HD T ssim_terms_vjp(const T& x, const T& y, const SsimSlopes<T>& v) {
  return v.x + T(2) * (x * v.squares + (x - y) * v.error);
}

// The two factors of SSIM are 1 - difference x r and 1 - q.
template <class T>
struct SsimParts {
  T difference;  // of the means of x and y
  T r;           // difference / (mx^2 + my^2 + C1)
  T variance;    // 1 / (varx + vary + C2)
  T q;           // variance of x - y, times `variance`
};
template <class T>
COCOGS_HD SsimParts<T> ssim_parts(const SsimTerms<T>& mean) {
  const T d = mean.x - mean.y, squares = mean.x * mean.x + mean.y * mean.y;
  // Rounding can make the variance of bright pixels negative.
  const T variance = reciprocal(maximum(mean.squares - squares, T(0)) + T(kSsimC2));
  return {d, d * reciprocal(squares + T(kSsimC1)), variance, (mean.error - d * d) * variance};
}

// SSIM from the window's averages.
template <class T>
COCOGS_HD T ssim(const SsimTerms<T>& mean) {
  const SsimParts<T> s = ssim_parts(mean);
  return (T(1) - s.difference * s.r) * (T(1) - s.q);
}
// The derivatives by the mean of x are -2 r (1 - r mx) of the first factor and 2 (difference - q mx) x variance of
// the second.
template <class T>
COCOGS_HD SsimSlopes<T> ssim_vjp(const SsimTerms<T>& mean, const T& v_ssim) {
  const SsimParts<T> s = ssim_parts(mean);
  const T v_first = v_ssim * (T(1) - s.q);
  const T v_error = v_ssim * (T(1) - s.difference * s.r) * s.variance;
  return {T(2) * (v_error * (s.difference - s.q * mean.x) - v_first * s.r * (T(1) - s.r * mean.x)),
          v_error * s.q, T(0) - v_error};
}

}  // namespace cocogs
