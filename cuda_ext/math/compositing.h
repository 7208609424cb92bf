// From an ellipse to the colour of a pixel, front to back, and the gradients.
//
// Exponents are taken to base 2 with log2(opacity) folded in, so that one subtraction and one
// power give the opacity of a splat at a pixel.
#pragma once
#include "projection.h"

namespace cocogs {

// A splat covers a pixel by no more than this; where it is cut off, its gradient is zero.
constexpr double kAlphaMax = 0.999;
// A splat that covers a pixel by less than this is left out there.
constexpr double kAlphaMin = 1.0 / 255.0;
constexpr double kLog2AlphaMin = -7.994353436858858;
// A pixel is finished where the next splat would let less than this through; that splat is left out.
constexpr double kTransmittanceMin = 1e-4;

constexpr double kLog2E = 1.4426950408889634;
constexpr double kLn2 = 0.6931471805599453;

// How far the part of a splat that may be drawn reaches: dx^2/xx <= reach on the axis x, and so on.
// Negative where it is drawn nowhere.
template <class T>
COCOGS_HD T squared_reach(const T& log2_opacity) {
  return T(2 * kLn2) * (log2_opacity - T(kLog2AlphaMin));
}

// What blending needs of one splat. Its whitening is scaled so that, for u and w of a pixel,
// log2 alpha = log2_opacity - u^2 - w^2.
template <class R>
struct Splat {
  R x, y;               // centre, px
  R ux, uy, wy;         // scaled whitening: u = ux dx + uy dy, w = wy dy
  R log2_opacity;
  R red, green, blue;   // not negative
  R depth;              // scene units
};
constexpr double kWhiteningScale = 0.8493218002880191;  // sqrt(log2(e) / 2)

template <class T>
COCOGS_HD Whitening<T> scaled(const Whitening<T>& white) {
  const T scale = T(kWhiteningScale);
  return {scale * white.ux, scale * white.uy, scale * white.wy};
}

// The least u^2 + w^2 over the rectangle of half sizes (half_x, half_y) whose centre lies at (dx, dy)
// from the splat's. The rectangle's nearest point lies on one of the two sides that face the splat;
// along a side the falloff is a parabola.
template <class T, class R>
COCOGS_HD T least_falloff(const Splat<R>& splat, const T& dx, const T& dy, R half_x, R half_y) {
  const T left = dx - T(half_x), right = dx + T(half_x), top = dy - T(half_y), bottom = dy + T(half_y);
  const T side_x = minimum(maximum(T(0), left), right), side_y = minimum(maximum(T(0), top), bottom);
  const T slope_y = T(-splat.ux * splat.uy / (splat.uy * splat.uy + splat.wy * splat.wy));
  const T slope_x = T(-splat.uy / splat.ux);
  const T along_y = minimum(maximum(side_x * slope_y, top), bottom);
  const T along_x = minimum(maximum(side_y * slope_x, left), right);
  const T ux = T(splat.ux), uy = T(splat.uy), wy = T(splat.wy);
  const T u1 = ux * side_x + uy * along_y, w1 = wy * along_y;
  const T u2 = ux * along_x + uy * side_y, w2 = wy * side_y;
  return minimum(u1 * u1 + w1 * w1, u2 * u2 + w2 * w2);
}

// A splat is drawn where its falloff stays below this: a little more than the threshold, so that
// rounding never loses a pixel.
template <class R>
COCOGS_HD R falloff_reach(const Splat<R>& splat) {
  return splat.log2_opacity - R(kLog2AlphaMin) + R(1e-5);
}

// Whether the splat covers by kAlphaMin some pixel of a rectangle of width x height px around a centre.
// `reach` is the splat's falloff_reach.
template <class T, class R>
COCOGS_HD auto reaches(const Splat<R>& splat, R reach, const T& centre_x, const T& centre_y, int width,
                       int height) {
  const R half_x = R(0.5) * R(width - 1), half_y = R(0.5) * R(height - 1);  // to the outer pixels' centres
  return least_falloff(splat, centre_x - T(splat.x), centre_y - T(splat.y), half_x, half_y) <= T(reach);
}

// The splat relative to the pixel corner (x, y), the first of a tile.
template <class R>
COCOGS_HD Splat<R> relative_to(R x, R y, Splat<R> splat) {
  splat.x -= x;
  splat.y -= y;
  return splat;
}

// u and w of pixels, as affine functions of the pixel's place.
template <class R>
struct Whitener {
  R ux, uy, wy, u0, w0;

  Whitener() = default;
  explicit COCOGS_HD Whitener(const Splat<R>& splat)
      : ux(splat.ux), uy(splat.uy), wy(splat.wy),
        u0(-(splat.ux * splat.x + splat.uy * splat.y)), w0(-(splat.wy * splat.y)) {}
  COCOGS_HD R skew() const { return uy / wy; }
  template <class T>
  COCOGS_HD T u(const T& x, const T& y) const {
    return T(ux) * x + (T(uy) * y + T(u0));
  }
  template <class T>
  COCOGS_HD T w(const T& y) const {
    return T(wy) * y + T(w0);
  }
};

// One splat over one pixel: its alpha, what passes it, and its weight in the sum.
template <class T>
struct Blend {
  T alpha;           // 0 where the splat is left out
  T weight;          // alpha x transmittance before
  T transmittance;   // after
};
template <class T>
COCOGS_HD Blend<T> splat_alpha(const T& log2, const T& transmittance) {
  const T alpha = select(log2 >= T(kLog2AlphaMin),
                         minimum(power_of_two(log2), T(kAlphaMax)), T(0));
  const T weight = alpha * transmittance;
  return {alpha, weight, transmittance - weight};
}
// True where this splat ends the pixel (and is itself left out).
template <class T>
COCOGS_HD auto finishes(const Blend<T>& blend) {
  return blend.transmittance < T(kTransmittanceMin);
}

// Gradient by log(alpha), at the same splat and pixel.
//   own    = gradient by the weight: v_color . color + v_depth depth
//   behind = sum over the splats behind of weight x own, plus the background's part
// dC/dalpha = T own - behind / (1 - alpha), where T is the transmittance before.
template <class T>
COCOGS_HD T splat_alpha_vjp(const Blend<T>& blend, const T& own, const T& behind) {
  const T v = blend.weight * own - (behind * blend.alpha) * reciprocal(T(1) - blend.alpha);
  return select(blend.alpha < T(kAlphaMax), v, T(0));
}

// Sums over pixels that the gradients of one splat are made of, in the order of storage.
enum Moment {
  kSumLog,                          // v = gradient by log(alpha)
  kSumX, kSumY,                     // the pull at the centre
  kSumUU, kSumUW, kSumWW,           // v u u, v u w, v w w
  kSumRed, kSumGreen, kSumBlue,     // weight x v_color
  kSumDepth,                        // weight x v_depth
  kLengthX, kLengthY,               // the pull's lengths on both axes
  kMoments
};

// How a pixel pulls at the centre: log alpha = ln 2 (log2_opacity - u^2 - w^2), and u, w fall with the centre, so
// that its gradient is 2 ln 2 (ux v u, uy v u + wy v w). Without the factors 2 ln 2, ux > 0 and wy > 0, which all
// pixels share; skew = uy / wy.
template <class T, class R>
COCOGS_HD Vec2<T> pull_at_centre(R skew, const T& vu, const T& vw) {
  return {vu, T(skew) * vu + vw};
}
// The sum of pulls, or of their lengths, with those factors; `white` is scaled as in Splat.
template <class T>
COCOGS_HD Vec2<T> mean2d_vjp(const Whitening<T>& white, const T& pull_x, const T& pull_y) {
  const T scale = T(2 * kLn2);
  return {scale * (white.ux * pull_x), scale * (white.wy * pull_y)};
}
// Gradient by the covariance, from the sums: log alpha falls by half the squared length of W d.
template <class T>
COCOGS_HD Sym2<T> covar2d_vjp(const Sym2<T>& covar, const T& determinant, const T& sum_uu,
                              const T& sum_uw, const T& sum_ww) {
  const T scale = T(-kLn2);  // -1/2, and the sums' own scale log2(e) / 2 undone
  return whitening_of_vjp(covar, determinant,
                          Sym2<T>{scale * sum_uu, scale * sum_uw, scale * sum_ww});
}

}  // namespace cocogs
