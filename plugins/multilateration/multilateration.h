// Self-calibrating weighted multilateration: one heatmap -> one landmark with score and covariance.
//
// The same solver as keyposs_trt/decode/multilateration.py, whose head derives it; the symbols are the ones used there.
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
constexpr float kTiny = 1e-9f;           // below floor * kTiny a map is empty
constexpr float kKappaRange = 4.0f;      // kappa stays within this factor of 1 / sigma^2
constexpr int kMinAnchors = 4;           // as many as unknowns
constexpr float kMinDeterminant = 1e-2f; // det G over Gxx * Gyy: anchors on a line give 0
constexpr float kMinPrior = 1e-3f;       // stands for a free sigma; less can be singular
constexpr float kMaxPrior = 1e6f;        // stands for a known sigma

struct Parameters {
  float sigma = 2.0f;  // of the training target, heatmap pixels
  int radius = 3;      // half side of the window, heatmap pixels
  float prior = 0.02f; // strength of the pull towards sigma; 0 is a free sigma, infinity a known one
  float floor = 0.05f; // anchors at or below this fraction of the peak are dropped
};

KEYPOSS_HOST_DEVICE inline bool valid(const Parameters& p) {
  return p.sigma > 0 && p.sigma < 1e6f && p.radius >= 1 && p.radius <= 64 && p.prior >= 0 && p.floor >= 1e-3f && p.floor < 1;
}

struct Landmark {
  float x, y;       // heatmap pixels
  float score;      // fitted amplitude, in [0, 1]
  float xx, xy, yy; // covariance, heatmap pixels squared
};

KEYPOSS_HOST_DEVICE inline float clamp(float v, float low, float high) { return v < low ? low : (v > high ? high : v); }

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
  for (int i = 1; i < height * width; ++i)
    if (measurement(map[i]) > measurement(map[best])) best = i;
  return best;
}

// Calls visit(dx, dy, value / base) for each usable anchor of the window about (column, row).
template <typename T, typename Visit>
KEYPOSS_HOST_DEVICE void each_anchor(const T* map, int height, int width, int column, int row, float base, const Parameters& p,
                                     Visit visit) {
  for (int dy = -p.radius; dy <= p.radius; ++dy) {
    for (int dx = -p.radius; dx <= p.radius; ++dx) {
      const int x = column + dx, y = row + dy;
      if (x < 0 || x >= width || y < 0 || y >= height) continue;
      const float relative = measurement(map[y * width + x]) / base;
      if (relative > p.floor) visit(static_cast<float>(dx), static_cast<float>(dy), relative);
    }
  }
}

// The landmark of a map whose argmax is known.
template <typename T>
KEYPOSS_HOST_DEVICE Landmark solve(const T* map, int height, int width, int argmax_index, const Parameters& p) {
  const int column = argmax_index % width, row = argmax_index / width;
  const float peak = measurement(map[argmax_index]);
  const float base = peak > kTiny ? peak : kTiny;
  const float prior = clamp(p.prior, kMinPrior, kMaxPrior);
  const float kappa0 = 1 / (p.sigma * p.sigma), radius = static_cast<float>(p.radius);
  const Landmark fallback{static_cast<float>(column), static_cast<float>(row), clamp(peak, 0, 1), radius * radius, 0, radius * radius};

  int n = 0;
  float w = 0, mx = 0, my = 0, mr = 0, ml = 0; // weighted sums, then means, of dx, dy, rho, ln h
  each_anchor(map, height, width, column, row, base, p, [&](float dx, float dy, float h) {
    const float q = h * h;
    n += 1;
    w += q;
    mx += q * dx;
    my += q * dy;
    mr += q * (dx * dx + dy * dy) / 2;
    ml += q * std::log(h);
  });
  if (n < kMinAnchors) return fallback;
  mx /= w, my /= w, mr /= w, ml /= w;

  float xx = 0, xy = 0, yy = 0, xr = 0, yr = 0, rr = 0, xl = 0, yl = 0, rl = 0; // centred weighted means of products
  each_anchor(map, height, width, column, row, base, p, [&](float dx, float dy, float h) {
    const float q = h * h / w, x = dx - mx, y = dy - my, r = (dx * dx + dy * dy) / 2 - mr, l = std::log(h) - ml;
    xx += q * x * x, xy += q * x * y, yy += q * y * y;
    xr += q * x * r, yr += q * y * r, rr += q * r * r;
    xl += q * x * l, yl += q * y * l, rl += q * r * l;
  });
  const float det = xx * yy - xy * xy;
  if (!(det > kMinDeterminant * xx * yy)) return fallback;

  const float gxx = yy / det, gxy = -xy / det, gyy = xx / det; // G^-1
  const float ux = gxx * xr + gxy * yr, uy = gxy * xr + gyy * yr;
  const float vx = gxx * xl + gxy * yl, vy = gxy * xl + gyy * yl;
  const float left = (1 + prior) * rr - (xr * ux + yr * uy);
  const float denominator = left > 1e-12f ? left : 1e-12f;
  const float kappa = clamp((prior * rr * kappa0 - rl + (xr * vx + yr * vy)) / denominator, kappa0 / kKappaRange, kappa0 * kKappaRange);
  const float sx = vx / kappa, sy = vy / kappa;
  const float ox = clamp(ux + sx, -radius, radius), oy = clamp(uy + sy, -radius, radius);

  // ln A = < ln h + kappa |d - offset|^2 / 2 >, and the spread about it.
  const float mean = ml + kappa * (mr - ox * mx - oy * my + (ox * ox + oy * oy) / 2);
  float spread = 0;
  each_anchor(map, height, width, column, row, base, p, [&](float dx, float dy, float h) {
    const float ex = dx - ox, ey = dy - oy, residual = std::log(h) + kappa / 2 * (ex * ex + ey * ey) - mean;
    spread += h * h / w * residual * residual;
  });
  const int freedom = n - kMinAnchors > 1 ? n - kMinAnchors : 1;
  const float variance = spread / (kappa * kappa * static_cast<float>(freedom));
  const float ln_amplitude = mean + std::log(base);
  return {static_cast<float>(column) + ox,
          static_cast<float>(row) + oy,
          std::exp(ln_amplitude < 0 ? ln_amplitude : 0.0f),
          variance * (gxx + sx * sx / denominator),
          variance * (gxy + sx * sy / denominator),
          variance * (gyy + sy * sy / denominator)};
}

// The landmark of a row-major map [height, width], both at least 1; the parameters must be valid().
template <typename T>
KEYPOSS_HOST_DEVICE Landmark decode(const T* map, int height, int width, const Parameters& p) {
  return solve(map, height, width, argmax(map, height, width), p);
}

} // namespace keyposs
