// Self-calibrating weighted multilateration: one heatmap -> one landmark with score and covariance.
//
// The same solver as keyposs_trt/decode/multilateration.py, whose head derives it; the symbols are the ones used there and in fit.py.
// Plain C++17 in float32 without CUDA or TensorRT types: the CPU and the GPU compile this one file. No allocation, no
// exception, no read outside the map, never a number that is not finite.
#pragma once

#include <cmath>

#ifdef __CUDACC__
#define KEYPOSS_HOST_DEVICE __host__ __device__
#else
#define KEYPOSS_HOST_DEVICE
#endif

namespace keyposs {

constexpr float kHuge = 1e20f;           // map values of this size or more, NaN and the infinities are no measurements
constexpr float kTiny = 1e-9f;           // a map whose peak is not above is empty
constexpr float kFloor = 0.05f;          // of the peak: what the first fit reads as this low may be noise
constexpr int kFirstRadius = 2;          // half side of its square
constexpr float kLowest = -1.0f;         // of the peak: lower values count as this
constexpr float kInlier = 0.15f;         // of the peak, above the first fit: up to here an anchor counts in full
constexpr float kOutlier = 0.25f;        // from here it belongs to another peak
constexpr float kPerOutlier = 1 / (kOutlier - kInlier);
constexpr float kMaxLog = 0.2f;          // ln m never exceeds this
constexpr float kKappaRange = 4.0f;      // kappa stays within this factor of 1
constexpr float kMinAnchors = 3.5f;      // amplitude, place and scale: no more than 3 anchors say nothing
constexpr float kMinDeterminant = 1e-2f; // det G over Gxx * Gyy: anchors on a line give 0
constexpr float kMinSpread = 1e-4f;      // det G over the square of the sum of weights: narrower says nothing of the neighbours
constexpr float kMinIndependence = 1e-5f; // det of the shape's system over the product of its diagonal: less is rounding
constexpr float kMinRoundness = 0.25f;   // det K over (kappa / sigma^2)^2
constexpr float kRound = 4.0f;           // a round Gaussian is expected this much more firmly than sigma
constexpr float kShrink = 2.0f;          // a shape within this many variances of the expected one is noise
constexpr float kMinShape = 3e-4f;       // variance of shapes that are always believed
constexpr float kReach = 3.0f;           // a landmark lies within so many heatmap pixels of the argmax
constexpr float kUnknowns = 6.0f;
constexpr float kMinPrior = 1e-3f; // stands for a free shape; with less, small maps are singular
constexpr float kMaxPrior = 1e6f;  // stands for a known one
constexpr int kMaxRadius = 16;
constexpr float kMinSigma = 0.5f; // a narrower target lies between the anchors
constexpr float kMaxSigma = 64.0f;

struct Parameters {
  float sigma = 2.0f;   // of the training target, heatmap pixels
  int radius = 5;       // of the disc of anchors, heatmap pixels
  float prior = 0.015f; // strength of the pull towards a round Gaussian of sigma; 0 believes the map, infinity the target
};

KEYPOSS_HOST_DEVICE inline bool valid(const Parameters& p) {
  return p.sigma >= kMinSigma && p.sigma <= kMaxSigma && p.radius >= 1 && p.radius <= kMaxRadius && p.prior >= 0;
}

struct Landmark {
  float x, y;       // heatmap pixels
  float score;      // fitted amplitude, in [0, 1]
  float xx, xy, yy; // covariance, heatmap pixels squared
};

// One lane does the work of a map alone. Any Lanes type has these three; each lane takes the anchors index(), index() + count(), ...
struct Alone {
  KEYPOSS_HOST_DEVICE int index() const { return 0; }
  KEYPOSS_HOST_DEVICE int count() const { return 1; }
  KEYPOSS_HOST_DEVICE float sum(float value) const { return value; } // over all lanes, to all lanes
};

KEYPOSS_HOST_DEVICE inline float clamp(float v, float low, float high) { return v < low ? low : (v > high ? high : v); }
KEYPOSS_HOST_DEVICE inline float at_least(float v, float low) { return v > low ? v : low; }

// A map value of any float type; -kHuge where there is no measurement.
template <typename T>
KEYPOSS_HOST_DEVICE float measurement(T value) {
  const float v = static_cast<float>(value);
  return std::fabs(v) < kHuge ? v : -kHuge;
}

// Index of the largest measurement of a row-major map [height, width]; the first of equals.
template <typename T>
KEYPOSS_HOST_DEVICE int argmax(const T* map, int height, int width) {
  int best = 0;
  float top = -kHuge;
  for (int i = 0; i < height * width; ++i) {
    const float v = static_cast<float>(map[i]);
    if (v > top && v < kHuge) top = v, best = i;
  }
  return best;
}

namespace detail {

// Weighted sums over anchors d = (x, y): of monomials up to the fourth degree, of a right-hand side r, and of its square.
struct Sums {
  float o = 0, x = 0, y = 0, xx = 0, xy = 0, yy = 0, xxx = 0, xxy = 0, xyy = 0, yyy = 0;
  float xxxx = 0, xxxy = 0, xxyy = 0, xyyy = 0, yyyy = 0;
  float r = 0, rx = 0, ry = 0, rxx = 0, rxy = 0, ryy = 0;
  float rss = 0, n = 0;

  // w weighs the products of the features, wr is the weight times the right-hand side.
  KEYPOSS_HOST_DEVICE void add(float dx, float dy, float w, float wr) {
    const float a = dx * dx, b = dx * dy, c = dy * dy;
    o += w, x += w * dx, y += w * dy, xx += w * a, xy += w * b, yy += w * c;
    xxx += w * a * dx, xxy += w * a * dy, xyy += w * c * dx, yyy += w * c * dy;
    xxxx += w * a * a, xxxy += w * a * b, xxyy += w * b * b, xyyy += w * b * c, yyyy += w * c * c;
    r += wr, rx += wr * dx, ry += wr * dy, rxx += wr * a, rxy += wr * b, ryy += wr * c;
  }

  template <typename Lanes>
  KEYPOSS_HOST_DEVICE void share(const Lanes& lanes) {
    o = lanes.sum(o), x = lanes.sum(x), y = lanes.sum(y), xx = lanes.sum(xx), xy = lanes.sum(xy), yy = lanes.sum(yy);
    xxx = lanes.sum(xxx), xxy = lanes.sum(xxy), xyy = lanes.sum(xyy), yyy = lanes.sum(yyy);
    xxxx = lanes.sum(xxxx), xxxy = lanes.sum(xxxy), xxyy = lanes.sum(xxyy), xyyy = lanes.sum(xyyy), yyyy = lanes.sum(yyyy);
    r = lanes.sum(r), rx = lanes.sum(rx), ry = lanes.sum(ry), rxx = lanes.sum(rxx), rxy = lanes.sum(rxy), ryy = lanes.sum(ryy);
    rss = lanes.sum(rss), n = lanes.sum(n);
  }
};

// Symmetric 3x3.
struct Sym {
  float a, b, c, d, e, f; // 00, 01, 02, 11, 12, 22

  KEYPOSS_HOST_DEVICE Sym inverse_with(float ridge0, float ridge1, float ridge2) const {
    const float p = a + ridge0, q = d + ridge1, s = f + ridge2;
    const float A = q * s - e * e, B = c * e - b * s, C = b * e - c * q;
    const float det = at_least(p * A + b * B + c * C, at_least(kMinIndependence * p * q * s, 1e-30f));
    const float per_det = 1 / det; // on a GPU a quotient costs ten products
    return {A * per_det, B * per_det, C * per_det, (p * s - c * c) * per_det, (b * c - p * e) * per_det, (p * q - b * b) * per_det};
  }
  KEYPOSS_HOST_DEVICE float row0(float u, float v, float w) const { return a * u + b * v + c * w; }
  KEYPOSS_HOST_DEVICE float row1(float u, float v, float w) const { return b * u + d * v + e * w; }
  KEYPOSS_HOST_DEVICE float row2(float u, float v, float w) const { return c * u + e * v + f * w; }
};

// theta: ln h = c + gx x + gy y + kappa f3 + alpha f4 + beta f5.
struct Theta {
  float c, gx, gy, kappa, alpha, beta;
};

// The normal equations with c and g eliminated: what is left is the system of the shape (kappa, alpha, beta).
struct Normal {
  float per_o, mx, my, mk, ma, mb;  // 1 over the sum of weights, weighted means of the features
  float gxx, gxy, gyy;              // G^-1, G the centred system of g
  float Kx, Ky, Ax, Ay, Bx, By;     // G^-1 times the centred products of shape and place
  Sym Q;                            // Schur complement
  float r, hx, hy;                  // right-hand side, centred
  float ux, uy;                     // G^-1 times it
  float qk, qa, qb;                 // its Schur complement
  bool regular;

  // c = 1 / (2 sigma^2).
  KEYPOSS_HOST_DEVICE Normal(const Sums& s, float c) {
    const float o = at_least(s.o, 1e-12f);
    per_o = 1 / o;
    mx = s.x * per_o, my = s.y * per_o, mk = -c * (s.xx + s.yy) * per_o, ma = -c * (s.xx - s.yy) * per_o, mb = -2 * c * s.xy * per_o;
    const float xx = s.xx - o * mx * mx, xy = s.xy - o * mx * my, yy = s.yy - o * my * my;
    const float kx = -c * (s.xxx + s.xyy) - o * mx * mk, ky = -c * (s.xxy + s.yyy) - o * my * mk;
    const float ax = -c * (s.xxx - s.xyy) - o * mx * ma, ay = -c * (s.xxy - s.yyy) - o * my * ma;
    const float bx = -2 * c * s.xxy - o * mx * mb, by = -2 * c * s.xyy - o * my * mb;
    regular = xx * yy - xy * xy > kMinDeterminant * xx * yy + kMinSpread * o * o;
    const float per_det = regular ? 1 / (xx * yy - xy * xy) : 1;
    gxx = regular ? yy * per_det : 1, gxy = regular ? -xy * per_det : 0, gyy = regular ? xx * per_det : 1;
    Kx = gxx * kx + gxy * ky, Ky = gxy * kx + gyy * ky;
    Ax = gxx * ax + gxy * ay, Ay = gxy * ax + gyy * ay;
    Bx = gxx * bx + gxy * by, By = gxy * bx + gyy * by;
    const float even = s.xxxx + s.yyyy;
    Q = {c * c * (even + 2 * s.xxyy) - o * mk * mk - kx * Kx - ky * Ky,  c * c * (s.xxxx - s.yyyy) - o * mk * ma - kx * Ax - ky * Ay,
         2 * c * c * (s.xxxy + s.xyyy) - o * mk * mb - kx * Bx - ky * By, c * c * (even - 2 * s.xxyy) - o * ma * ma - ax * Ax - ay * Ay,
         2 * c * c * (s.xxxy - s.xyyy) - o * ma * mb - ax * Bx - ay * By, 4 * c * c * s.xxyy - o * mb * mb - bx * Bx - by * By};
    r = s.r;
    hx = s.rx - mx * r, hy = s.ry - my * r;
    ux = gxx * hx + gxy * hy, uy = gxy * hx + gyy * hy;
    qk = -c * (s.rxx + s.ryy) - mk * r - Kx * hx - Ky * hy, qa = -c * (s.rxx - s.ryy) - ma * r - Ax * hx - Ay * hy;
    qb = -2 * c * s.rxy - mb * r - Bx * hx - By * hy;
  }

  // The step from a theta of this shape (kappa less 1), and in `inverse` the covariance of the new shape over the noise.
  KEYPOSS_HOST_DEVICE Theta step(float kappa, float alpha, float beta, float ridge_k, float ridge_a, Sym& inverse) const {
    inverse = Q.inverse_with(ridge_k, ridge_a, ridge_a);
    const float u = qk - ridge_k * kappa, v = qa - ridge_a * alpha, w = qb - ridge_a * beta;
    Theta t{};
    t.kappa = inverse.row0(u, v, w), t.alpha = inverse.row1(u, v, w), t.beta = inverse.row2(u, v, w);
    t.gx = ux - Kx * t.kappa - Ax * t.alpha - Bx * t.beta, t.gy = uy - Ky * t.kappa - Ay * t.alpha - By * t.beta;
    t.c = r * per_o - mx * t.gx - my * t.gy - mk * t.kappa - ma * t.alpha - mb * t.beta;
    return t;
  }
};

} // namespace detail

// The anchors (dx, dy) of a square about the argmax that are one lane's and on the map.
template <typename Lanes, typename Visit>
KEYPOSS_HOST_DEVICE void each_anchor(int radius, int column, int row, int width, int height, const Lanes& lanes, Visit visit) {
  const int side = 2 * radius + 1;
  int dx = lanes.index() - radius, dy = -radius;
  for (;; dx += lanes.count()) {
    for (; dx > radius; dx -= side) ++dy; // cheaper than dividing by the side
    if (dy > radius) return;
    const int x = column + dx, y = row + dy;
    if (x >= 0 && x < width && y >= 0 && y < height) visit(dx, dy, y * width + x);
  }
}

// The landmark of a map whose argmax is known. Every lane of the map calls this and gets the whole result.
template <typename T, typename Lanes>
KEYPOSS_HOST_DEVICE Landmark solve(const T* map, int height, int width, int argmax_index, const Parameters& p, const Lanes& lanes) {
  const int column = argmax_index % width, row = argmax_index / width;
  const float cx = static_cast<float>(column), cy = static_cast<float>(row), peak = measurement(map[argmax_index]);
  const Landmark fallback{cx, cy, clamp(peak, 0, 1), kReach * kReach, 0, kReach * kReach};
  if (!(peak > kTiny)) return fallback;
  const float prior = clamp(p.prior, kMinPrior, kMaxPrior), k0 = 1 / (p.sigma * p.sigma), per_peak = 1 / peak;

  // 1. The logarithm, weighed by the target itself.
  detail::Sums sums;
  const int reach = p.radius < kFirstRadius ? p.radius : kFirstRadius;
  each_anchor(reach, column, row, width, height, lanes, [&](int dx, int dy, int index) {
    const float value = measurement(map[index]), fx = static_cast<float>(dx), fy = static_cast<float>(dy);
    const float f3 = -k0 / 2 * (fx * fx + fy * fy), w = std::exp(2 * f3);
    const float seen = value > -kHuge ? std::log(at_least(value * per_peak, kFloor)) - f3 : 0; // the target stands in
    sums.add(fx, fy, w, w * seen);
  });
  sums.share(lanes);
  detail::Sym inverse;
  const detail::Normal first(sums, k0 / 2);
  if (!first.regular) return fallback;
  detail::Theta theta = first.step(0, 0, 0, prior, kRound * prior, inverse);
  theta.kappa += 1;

  // 2. One Gauss-Newton step on the values, over a disc and that square.
  sums = {};
  const int in_disc = p.radius * (p.radius + 1), in_square = 2 * reach * reach, disc = in_disc > in_square ? in_disc : in_square;
  const float mxx = -k0 / 2 * (theta.kappa + theta.alpha), mxy = -k0 * theta.beta, myy = -k0 / 2 * (theta.kappa - theta.alpha);
  each_anchor(p.radius, column, row, width, height, lanes, [&](int dx, int dy, int index) {
    if (dx * dx + dy * dy > disc) return;
    const float value = measurement(map[index]);
    if (!(value > -kHuge)) return;
    const float fx = static_cast<float>(dx), fy = static_cast<float>(dy);
    const float log_m = theta.c + fx * (theta.gx + mxx * fx + mxy * fy) + fy * (theta.gy + myy * fy);
    const float m = std::exp(log_m < kMaxLog ? log_m : kMaxLog);
    const float residual = at_least(value * per_peak, kLowest) - m;
    const float weight = clamp((kOutlier - residual) * kPerOutlier, 0, 1);
    sums.add(fx, fy, weight * m * m, weight * m * residual);
    sums.rss += weight * residual * residual;
    sums.n += weight;
  });
  sums.share(lanes);
  const detail::Normal normal(sums, k0 / 2);
  if (!normal.regular || !(sums.n > kMinAnchors)) return fallback;

  // The shape as the prior has it, and from what it explains the noise.
  const float kappa = theta.kappa - 1;
  detail::Theta d = normal.step(kappa, theta.alpha, theta.beta, prior, kRound * prior, inverse);
  const float k = kappa + d.kappa, a = theta.alpha + d.alpha, b = theta.beta + d.beta;
  const float place = normal.r * normal.r * normal.per_o + normal.hx * normal.ux + normal.hy * normal.uy;
  const float explained = place + d.kappa * (normal.qk + prior * k) + d.alpha * (normal.qa + kRound * prior * a) +
                          d.beta * (normal.qb + kRound * prior * b);
  const float noise = at_least(sums.rss - explained, 0) / at_least(sums.n - kUnknowns, 1);

  // What of it could be noise is shrunk.
  const float excess = at_least(k * k - kShrink * noise * inverse.a, kMinShape);
  const float skew = at_least(a * a + b * b - kShrink * noise * (inverse.d + inverse.f), kMinShape);
  d = normal.step(kappa, theta.alpha, theta.beta, prior + noise / excess, kRound * prior + 2 * noise / skew, inverse);
  theta.c += d.c, theta.gx += d.gx, theta.gy += d.gy, theta.alpha += d.alpha, theta.beta += d.beta;
  theta.kappa = clamp(theta.kappa + d.kappa, 1 / kKappaRange, kKappaRange);

  // Where the gradient vanishes.
  const float plus = theta.kappa + theta.alpha, minus = theta.kappa - theta.alpha, square = theta.kappa * theta.kappa;
  const float det = k0 * at_least(square - theta.alpha * theta.alpha - theta.beta * theta.beta, kMinRoundness * square);
  const float per_det = 1 / det, kxx = minus * per_det, kxy = -theta.beta * per_det, kyy = plus * per_det; // K^-1
  const float ox = clamp(kxx * theta.gx + kxy * theta.gy, -kReach, kReach);
  const float oy = clamp(kxy * theta.gx + kyy * theta.gy, -kReach, kReach);
  const float log_amplitude = theta.c + (theta.gx * ox + theta.gy * oy) / 2 + std::log(peak);

  // Noise times K^-1 (G^-1 + Y Q^-1 Y^T) K^-1.
  const float tx = k0 * ox, ty = k0 * oy;
  const float y0 = normal.Kx + tx, y1 = normal.Ax + tx, y2 = normal.Bx + ty; // of x
  const float z0 = normal.Ky + ty, z1 = normal.Ay - ty, z2 = normal.By + tx; // of y
  const float u0 = inverse.row0(y0, y1, y2), u1 = inverse.row1(y0, y1, y2), u2 = inverse.row2(y0, y1, y2);
  const float v0 = inverse.row0(z0, z1, z2), v1 = inverse.row1(z0, z1, z2), v2 = inverse.row2(z0, z1, z2);
  const float cxx = normal.gxx + u0 * y0 + u1 * y1 + u2 * y2, cxy = normal.gxy + u0 * z0 + u1 * z1 + u2 * z2;
  const float cyy = normal.gyy + v0 * z0 + v1 * z1 + v2 * z2;
  const float lx = kxx * cxx + kxy * cxy, ly = kxx * cxy + kxy * cyy, dx = kxy * cxx + kyy * cxy, dy = kxy * cxy + kyy * cyy;
  const Landmark found{cx + ox,
                       cy + oy,
                       std::exp(log_amplitude < 0 ? log_amplitude : 0.0f),
                       noise * (lx * kxx + ly * kxy),
                       noise * (lx * kxy + ly * kyy),
                       noise * (dx * kxy + dy * kyy)};
  const float total = found.x + found.y + log_amplitude + found.xx + found.xy + found.yy; // a NaN or an infinity of any makes it one
  return std::fabs(total) < kHuge ? found : fallback;
}

// The landmark of a row-major map [height, width], both at least 1; the parameters must be valid().
template <typename T>
KEYPOSS_HOST_DEVICE Landmark decode(const T* map, int height, int width, const Parameters& p) {
  return solve(map, height, width, argmax(map, height, width), p, Alone{});
}

} // namespace keyposs
