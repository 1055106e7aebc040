// Frames and crops of every kind, at random, and what the CPU makes of them: for the GPU, and for the kernel on the CPU.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "../preprocess_host.h"

namespace harness {

using Random = std::mt19937;

inline int uniform(Random& random, int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); }
inline float part(Random& random, int low, int high) { return static_cast<float>(uniform(random, low, high)) / 4096; }

// Bytes as long as the frame and no longer: the last row ends with its last pixel. `skip` bytes before it put it off alignment.
struct Frame {
  std::int32_t format, width, height, pitch, chroma_pitch;
  std::size_t skip, chroma_skip;
  std::vector<std::uint8_t> pixels, chroma;

  Frame(Random& random, std::int32_t kind, bool odd) : format(kind) {
    width = uniform(random, 60, 140), height = uniform(random, 60, 140);
    const int columns = format == keyposs::kBgr ? 3 * width : width, pairs = (width + 1) / 2 * 2;
    pitch = columns + (odd ? uniform(random, 0, 9) : 0), chroma_pitch = pairs + (odd ? uniform(random, 0, 5) : 0);
    skip = odd ? static_cast<std::size_t>(uniform(random, 0, 7)) : 0;
    chroma_skip = odd ? static_cast<std::size_t>(uniform(random, 0, 3)) : 0;
    pixels.resize(skip + static_cast<std::size_t>((height - 1) * pitch + columns));
    if (format != keyposs::kBgr) chroma.resize(chroma_skip + static_cast<std::size_t>(((height + 1) / 2 - 1) * chroma_pitch + pairs));
    for (std::vector<std::uint8_t>* plane : {&pixels, &chroma})
      for (std::uint8_t& value : *plane) value = static_cast<std::uint8_t>(random());
  }
};

// A row for a crop of a frame whose planes begin at the addresses given.
inline KeypossCrop row_of(const Frame& frame, const void* pixels, const void* chroma, int size, Random& random) {
  KeypossCrop row{};
  row.pixels = static_cast<const std::uint8_t*>(pixels) + frame.skip;
  row.chroma = frame.chroma.empty() ? nullptr : static_cast<const std::uint8_t*>(chroma) + frame.chroma_skip;
  row.format = frame.format, row.pitch = frame.pitch, row.chroma_pitch = frame.chroma_pitch;
  row.factor = uniform(random, 0, 2) ? 1 : uniform(random, 2, 7);
  if (uniform(random, 0, 1)) { // to the rim of the frame on all sides
    row.columns = frame.width / row.factor, row.rows = frame.height / row.factor;
  } else {
    row.left = uniform(random, 0, frame.width - row.factor), row.top = uniform(random, 0, frame.height - row.factor);
    row.columns = uniform(random, 0, (frame.width - row.left) / row.factor);
    row.rows = uniform(random, 0, (frame.height - row.top) / row.factor);
  }
  // Any turn and scale, one in three upright; in whole 4096ths, so that no rounding makes them other rows on another processor.
  const bool upright = uniform(random, 0, 2) == 0;
  const float c = part(random, upright ? 800 : -6000, upright ? 9000 : 6000), s = upright ? 0 : part(random, -6000, 6000);
  const float x = part(random, -80000, 4096 * row.columns + 80000), y = part(random, -80000, 4096 * row.rows + 80000);
  const float half = static_cast<float>(size - 1) / 2;
  const float to_region[6] = {c, -s, x - half * (c - s), s, c, y - half * (s + c)};
  std::copy(to_region, to_region + 6, row.to_region);
  if (uniform(random, 0, 60) == 0) row.to_region[uniform(random, 0, 5)] = uniform(random, 0, 1) ? NAN : 1e30f;
  if (uniform(random, 0, 60) == 0) row.format = 3 + uniform(random, -6, 0) * 2;
  return row;
}

// The settings of one call.
struct Case {
  int count, size, layout, border;
  bool odd, normalise; // frames off alignment; mean and scale
  std::size_t shift;   // elements that the output lies off alignment

  static constexpr float kMean[3] = {123.675f, 116.28f, 103.53f}, kScale[3] = {0.01712f, 0.01751f, 0.01743f};

  const float* mean() const { return normalise ? kMean : nullptr; }
  const float* scale() const { return normalise ? kScale : nullptr; }
  std::size_t element() const { return layout == keyposs::kBytes ? 1 : layout == keyposs::kFloats ? 4 : 2; }
  std::size_t bytes() const { return static_cast<std::size_t>(3 * count * size * size) * element(); }
  std::string name() const {
    char text[100];
    std::snprintf(text, sizeof text, "%d crops of %d, layout %d%s%s%s", count, size, layout, odd ? ", odd frames" : "",
                  normalise ? ", normalised" : "", shift ? ", output off alignment" : "");
    return text;
  }
};

inline std::vector<Case> cases(const std::vector<int>& sizes, int count) {
  std::vector<Case> all;
  for (int size : sizes)
    for (int layout : {keyposs::kBytes, keyposs::kFloats, keyposs::kHalves})
      for (bool odd : {false, true})
        for (std::size_t shift : {0, 1})
          if (shift == 0 || layout != keyposs::kFloats)
            all.push_back({count, size, layout, odd ? 114 : 0, odd, odd && layout != keyposs::kBytes, shift});
  return all;
}

} // namespace harness
