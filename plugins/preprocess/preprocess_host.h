// The crops on the CPU, pixel by pixel: what the kernel is held against.
#pragma once

#include <cstring>

#include "preprocess.h"

namespace keyposs {

// The nearest IEEE half, ties to even.
inline std::uint16_t half_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return 0x7fffu;                                 // NaN, as the GPU writes it
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u); // rounds to 65536 or more
  if (magnitude < 0x38800000u) { // subnormal: the last bit of 0.5f is that of these, so the sum rounds as it must
    float small;
    std::memcpy(&small, &magnitude, sizeof small);
    const float shifted = small + 0.5f;
    std::memcpy(&bits, &shifted, sizeof bits);
    return static_cast<std::uint16_t>(sign | (bits - 0x3f000000u));
  }
  const std::uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return static_cast<std::uint16_t>(sign | (rounded - 0x38000000u) >> 13);
}

inline void write_pixel(const CropJob& job, std::int64_t crop, std::int64_t pixel, const Colour& colour, const Unit& unit) {
  const std::int64_t plane = static_cast<std::int64_t>(job.size) * job.size;
  const float values[3] = {colour.r, colour.g, colour.b};
  for (int c = 0; c < 3; ++c) {
    const std::int64_t planar = (3 * crop + c) * plane + pixel, interleaved = (crop * plane + pixel) * 3 + c;
    const float value = normalised(values[c], unit, job.mean[c], job.scale[c]);
    if (job.layout == kBytes)
      static_cast<std::uint8_t*>(job.out)[interleaved] = static_cast<std::uint8_t>(level_bits(values[c], unit));
    else if (job.layout == kFloats)
      static_cast<float*>(job.out)[planar] = value;
    else
      static_cast<std::uint16_t*>(job.out)[planar] = half_of(value);
  }
}

// A job that makes_sense(), whose frames lie in host memory.
inline void make_crops_on_cpu(const CropJob& job) {
  for (std::int32_t i = 0; i < job.count; ++i) {
    const KeypossCrop crop = checked(job.crops[i]);
    const Unit unit(crop, job.border);
    for (std::int32_t y = 0; y < job.size; ++y)
      for (std::int32_t x = 0; x < job.size; ++x)
        write_pixel(job, i, static_cast<std::int64_t>(y) * job.size + x, sample<ByteRows>(crop, point_of(crop, x, y), unit), unit);
  }
}

} // namespace keyposs
