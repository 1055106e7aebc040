// One pixel of a crop: bilinear between four pixels of the region, each of them a pixel or the mean of a block of pixels of the frame.
//
// What keyposs_trt/crop.py does with cv2.resize(INTER_AREA) and cv2.warpAffine(INTER_LINEAR, BORDER_CONSTANT). Plain C++17 without CUDA
// types: the CPU and the GPU compile this one file. Every product that is added to something is written as fma, so that no compiler can
// choose, and both give the same bits.
#pragma once

#include <cmath>
#include <cstdint>

#include "keyposs_preprocess.h"

#ifdef __CUDACC__
#define KEYPOSS_HOST_DEVICE __host__ __device__
#else
#define KEYPOSS_HOST_DEVICE
#endif

namespace keyposs {

static_assert(sizeof(KeypossCrop) == 72, "the layout of KeypossCrop is part of the interface");

enum Format : std::int32_t { kBgr, kNv12Bt601, kNv12Bt709 };
enum Layout : std::int32_t { kBytes, kFloats, kHalves };

constexpr std::int32_t kMaxSize = 16384; // pixels a side of a crop, so that no index within one overflows

// The arguments of keyposs_preprocess.
struct CropJob {
  const KeypossCrop* crops;
  void* out;
  std::int32_t count, size, layout, border;
  float mean[3], scale[3];
};

inline CropJob crop_job(const KeypossCrop* crops, std::int32_t count, std::int32_t size, void* out, std::int32_t layout, const float* mean,
                        const float* scale, std::int32_t border) {
  CropJob job{crops, out, count, size, layout, border, {0, 0, 0}, {1, 1, 1}};
  for (int c = 0; c < 3; ++c) {
    if (mean) job.mean[c] = mean[c];
    if (scale) job.scale[c] = scale[c];
  }
  return job;
}

inline bool aligned(const void* address, std::size_t bytes) { return reinterpret_cast<std::uintptr_t>(address) % bytes == 0; }

inline bool makes_sense(const CropJob& job) {
  const bool numbers = job.count >= 0 && job.size >= 1 && job.size <= kMaxSize && job.border >= 0 && job.border <= 255;
  if (!numbers || job.layout < kBytes || job.layout > kHalves) return false;
  const std::size_t element = job.layout == kBytes ? 1 : job.layout == kFloats ? 4 : 2;
  return job.count == 0 || (job.crops && job.out && aligned(job.crops, alignof(KeypossCrop)) && aligned(job.out, element));
}

// The row, or one without a region where it makes no sense.
KEYPOSS_HOST_DEVICE inline KeypossCrop checked(KeypossCrop crop) {
  const bool format = crop.format == kBgr || ((crop.format == kNv12Bt601 || crop.format == kNv12Bt709) && crop.chroma);
  if (!format || !crop.pixels || crop.columns < 1 || crop.rows < 1 || crop.factor < 1) crop.columns = crop.rows = 0;
  return crop;
}

struct Colour {
  float r, g, b;
};

// What the values of region pixels are counted in: levels, but fractions of 255 where NV12 is sampled without a mean.
struct Unit {
  float levels;  // of one
  float outside; // the border

  KEYPOSS_HOST_DEVICE Unit(const KeypossCrop& crop, std::int32_t border) {
    const bool fractions = crop.format != kBgr && crop.factor == 1;
    levels = fractions ? 255.0f : 1.0f;
    outside = static_cast<float>(border) * (fractions ? 1.0f / 255.0f : 1.0f);
  }
};

// A place in the region.
struct Point {
  float u, v;
};

KEYPOSS_HOST_DEVICE inline Point point_of(const KeypossCrop& crop, std::int32_t column, std::int32_t row) {
  const float i = static_cast<float>(column), j = static_cast<float>(row);
  const float* m = crop.to_region;
  return {std::fma(m[0], i, std::fma(m[1], j, m[2])), std::fma(m[3], i, std::fma(m[4], j, m[5]))};
}

// Whether a pixel of the region is among the neighbours of a point; not for NaN.
KEYPOSS_HOST_DEVICE inline bool near(const KeypossCrop& crop, const Point& p) {
  return p.u > -1 && p.u < static_cast<float>(crop.columns) && p.v > -1 && p.v < static_cast<float>(crop.rows);
}

// The upper left neighbour of a point that is near, and how far it is on the way to the lower right one.
struct Place {
  std::int32_t x, y;
  float across, down;

  KEYPOSS_HOST_DEVICE explicit Place(const Point& p) {
    const float left = std::floor(p.u), top = std::floor(p.v);
    x = static_cast<std::int32_t>(left), y = static_cast<std::int32_t>(top);
    across = p.u - left, down = p.v - top;
  }
};

KEYPOSS_HOST_DEVICE inline float between(float a, float b, float way) { return std::fma(way, b - a, a); }

KEYPOSS_HOST_DEVICE inline Colour between(const Colour& a, const Colour& b, float way) {
  return {between(a.r, b.r, way), between(a.g, b.g, way), between(a.b, b.b, way)};
}

KEYPOSS_HOST_DEVICE inline unsigned byte_at(const std::uint8_t* address) {
#ifdef __CUDA_ARCH__
  return __ldg(address);
#else
  return *address;
#endif
}

KEYPOSS_HOST_DEVICE inline const std::uint8_t* frame_byte(const void* plane, std::int32_t pitch, std::int32_t row, std::int32_t byte) {
  return static_cast<const std::uint8_t*>(plane) + static_cast<std::int64_t>(row) * pitch + byte;
}

struct Sums {
  std::uint32_t b = 0, g = 0, r = 0;
};

// Sums over BGR pixels that lie side by side. Any Rows type has this one; it may read up to 3 bytes beside them, but no more.
struct ByteRows {
  KEYPOSS_HOST_DEVICE static Sums sum(const std::uint8_t* first, std::int32_t pixels) {
    Sums sums;
    for (std::int32_t i = 0; i < pixels; ++i, first += 3)
      sums.b += byte_at(first), sums.g += byte_at(first + 1), sums.r += byte_at(first + 2);
    return sums;
  }
};

// Luma and chroma of limited range to red, green and blue in [0, 1].
struct Video {
  float luma, red_v, green_u, green_v, blue_u;

  // ITU-R BT.601 and BT.709, of the weights of red and blue in the luma: Y from 16 to 235, U and V from 16 to 240 about 128.
  KEYPOSS_HOST_DEVICE static constexpr Video of(double red, double blue) {
    const double green = 1 - red - blue, chroma = 2.0 / 224;
    return {static_cast<float>(1.0 / 219), static_cast<float>(chroma * (1 - red)), static_cast<float>(-chroma * (1 - blue) * blue / green),
            static_cast<float>(-chroma * (1 - red) * red / green), static_cast<float>(chroma * (1 - blue))};
  }
  KEYPOSS_HOST_DEVICE static Video of(std::int32_t format) { return format == kNv12Bt709 ? of(0.2126, 0.0722) : of(0.299, 0.114); }

  KEYPOSS_HOST_DEVICE static float saturate(float v) {
#ifdef __CUDA_ARCH__
    return __saturatef(v);
#else
    return v > 0 ? (v < 1 ? v : 1.0f) : 0.0f;
#endif
  }
  KEYPOSS_HOST_DEVICE Colour colour(unsigned y, unsigned u, unsigned v) const {
    const float du = static_cast<float>(u) - 128, dv = static_cast<float>(v) - 128;
    const float light = std::fmax(std::fma(static_cast<float>(y), luma, -16 * luma), 0.0f); // less than black is black, as in OpenCV
    return {saturate(std::fma(red_v, dv, light)), saturate(std::fma(green_v, dv, std::fma(green_u, du, light))),
            saturate(std::fma(blue_u, du, light))};
  }
};

// The mean over a block from its sum, as a whole level. A half goes to the even one, but up for blocks of 2 x 2, as in cv2.resize.
KEYPOSS_HOST_DEVICE inline float mean_level(float sum, float per_pixel, std::int32_t factor) {
  return factor == 2 ? std::floor(std::fma(sum, per_pixel, 0.5f)) : std::rint(sum * per_pixel);
}

template <typename Rows>
KEYPOSS_HOST_DEVICE Colour bgr_sum(const KeypossCrop& crop, std::int32_t x, std::int32_t y) {
  const std::uint8_t* first = frame_byte(crop.pixels, crop.pitch, crop.top + y * crop.factor, 3 * (crop.left + x * crop.factor));
  const bool amid = x > 0 && x < crop.columns - 1; // what lies beside the block is of the frame
  Colour sum{0, 0, 0};
  for (std::int32_t row = 0; row < crop.factor; ++row, first += crop.pitch) {
    const Sums part = amid ? Rows::sum(first, crop.factor) : ByteRows::sum(first, crop.factor);
    sum.r += static_cast<float>(part.r), sum.g += static_cast<float>(part.g), sum.b += static_cast<float>(part.b);
  }
  return sum;
}

KEYPOSS_HOST_DEVICE inline Colour nv12_sum(const KeypossCrop& crop, std::int32_t x, std::int32_t y) {
  const Video video = Video::of(crop.format);
  const std::int32_t left = crop.left + x * crop.factor, top = crop.top + y * crop.factor;
  Colour sum{0, 0, 0};
  for (std::int32_t row = top; row < top + crop.factor; ++row) {
    const std::uint8_t* luma = frame_byte(crop.pixels, crop.pitch, row, left);
    const std::uint8_t* chroma = frame_byte(crop.chroma, crop.chroma_pitch, row >> 1, left & ~1);
    unsigned u = 0, v = 0;
    for (std::int32_t i = 0; i < crop.factor; ++i) {
      if (i == 0 || (left + i) % 2 == 0) u = byte_at(chroma), v = byte_at(chroma + 1), chroma += 2; // of two pixels side by side
      const Colour colour = video.colour(byte_at(luma + i), u, v);
      sum.r += colour.r, sum.g += colour.g, sum.b += colour.b;
    }
  }
  return sum;
}

template <typename Rows>
KEYPOSS_HOST_DEVICE Colour region_pixel(const KeypossCrop& crop, std::int32_t x, std::int32_t y) {
  const Colour sum = crop.format == kBgr ? bgr_sum<Rows>(crop, x, y) : nv12_sum(crop, x, y);
  if (crop.factor == 1) return sum;
  const float pixels = static_cast<float>(crop.factor) * static_cast<float>(crop.factor);
  const float per_pixel = (crop.format == kBgr ? 1.0f : 255.0f) / pixels;
  return {mean_level(sum.r, per_pixel, crop.factor), mean_level(sum.g, per_pixel, crop.factor), mean_level(sum.b, per_pixel, crop.factor)};
}

// A crop pixel, in the unit of the crop.
template <typename Rows>
KEYPOSS_HOST_DEVICE Colour sample(const KeypossCrop& crop, const Point& point, const Unit& unit) {
  const Colour outside{unit.outside, unit.outside, unit.outside};
  if (!near(crop, point)) return outside;
  const Place place(point);
  Colour left{}, upper{}, sum{};
#ifdef __CUDA_ARCH__
#pragma unroll 1 // one copy of region_pixel()
#endif
  for (int tap = 0; tap < 4; ++tap) {
    const std::int32_t x = place.x + (tap & 1), y = place.y + (tap >> 1);
    const bool held = x >= 0 && x < crop.columns && y >= 0 && y < crop.rows;
    const Colour colour = held ? region_pixel<Rows>(crop, x, y) : outside;
    if (tap == 2) upper = sum;
    if (tap % 2 == 0) left = colour;
    sum = between(left, colour, place.across);
  }
  return between(upper, sum, place.down);
}

// A float whose last byte is the nearest level: from 2^23 on, floats are whole numbers that are counted by their last bits.
KEYPOSS_HOST_DEVICE inline std::uint32_t level_bits(float value, const Unit& unit) {
  const float raised = std::fma(value, unit.levels, 8388608.0f);
#ifdef __CUDA_ARCH__
  return __float_as_uint(raised);
#else
  return static_cast<std::uint32_t>(raised);
#endif
}

KEYPOSS_HOST_DEVICE inline float normalised(float value, const Unit& unit, float mean, float scale) {
  return std::fma(value, unit.levels, -mean) * scale;
}

} // namespace keyposs
