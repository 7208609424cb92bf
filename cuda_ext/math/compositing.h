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

// What blending needs of one splat. The conic is scaled so that
// log2 alpha(dx, dy) = log2_opacity - (xx dx + xy dy) dx - yy dy dy.
template <class R>
struct Splat {
  R x, y;               // centre, px
  R xx, xy, yy;         // scaled conic
  R log2_opacity;
  R red, green, blue;   // not negative
  R depth;              // scene units
};

template <class T>
COCOGS_HD Sym2<T> scaled_conic(const Sym2<T>& conic) {
  return {T(0.5 * kLog2E) * conic.xx, T(kLog2E) * conic.xy, T(0.5 * kLog2E) * conic.yy};
}
template <class T>
COCOGS_HD Sym2<T> unscaled_conic(const Sym2<T>& scaled) {
  return {T(2 * kLn2) * scaled.xx, T(kLn2) * scaled.xy, T(2 * kLn2) * scaled.yy};
}

// log2 of a splat's opacity at an offset (pixel - centre).
template <class T, class R>
COCOGS_HD T log2_alpha(const Splat<R>& splat, const T& dx, const T& dy) {
  return T(splat.log2_opacity) -
         ((T(splat.xx) * dx + T(splat.xy) * dy) * dx + (T(splat.yy) * dy) * dy);
}

// The least falloff (xx dx + xy dy) dx + yy dy dy over the rectangle of half sizes (half_x, half_y)
// whose centre lies at (dx, dy) from the splat's. The rectangle's nearest point lies on one of the
// two sides that face the splat; along a side the falloff is a parabola.
template <class T, class R>
COCOGS_HD T least_falloff(const Splat<R>& splat, const T& dx, const T& dy, R half_x, R half_y) {
  const T left = dx - T(half_x), right = dx + T(half_x), top = dy - T(half_y), bottom = dy + T(half_y);
  const T side_x = minimum(maximum(T(0), left), right), side_y = minimum(maximum(T(0), top), bottom);
  const T slope_y = T(R(-0.5) * splat.xy / splat.yy), slope_x = T(R(-0.5) * splat.xy / splat.xx);
  const T along_y = minimum(maximum(side_x * slope_y, top), bottom);
  const T along_x = minimum(maximum(side_y * slope_x, left), right);
  const T xx = T(splat.xx), xy = T(splat.xy), yy = T(splat.yy);
  return minimum((xx * side_x + xy * along_y) * side_x + yy * along_y * along_y,
                 (xx * along_x + xy * side_y) * along_x + yy * side_y * side_y);
}

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
  kSumX, kSumY,                     // v dx, v dy
  kSumXX, kSumXY, kSumYY,           // v dx dx, v dx dy, v dy dy
  kSumRed, kSumGreen, kSumBlue,     // weight x v_color
  kSumDepth,                        // weight x v_depth
  kMoments
};

// Gradients by the centre and by the (unscaled) conic, from the sums.
template <class T>
COCOGS_HD Vec2<T> mean2d_vjp(const Sym2<T>& conic, const T& sum_x, const T& sum_y) {
  return {conic.xx * sum_x + conic.xy * sum_y, conic.xy * sum_x + conic.yy * sum_y};
}
template <class T>
COCOGS_HD Sym2<T> conic_vjp(const T& sum_xx, const T& sum_xy, const T& sum_yy) {
  return {T(-0.5) * sum_xx, T(0) - sum_xy, T(-0.5) * sum_yy};
}

}  // namespace cocogs
