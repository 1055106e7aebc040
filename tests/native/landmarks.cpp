// Decodes seeded maps and prints the landmarks, one a line, so that one processor can be held against another.
#include <cstdint>
#include <cstdio>
#include <vector>

#include "multilateration.h"

namespace {

std::uint32_t state = 1;

float uniform(float low, float high) {
  state = state * 1664525u + 1013904223u;
  return low + (high - low) * static_cast<float>(state >> 8) / 16777216.0f;
}

} // namespace

int main() {
  for (int size : {64, 32, 16, 8, 4, 3})
    for (int i = 0; i < 60; ++i) {
      std::vector<float> map(static_cast<std::size_t>(size * size));
      const float last = static_cast<float>(size - 1), cx = uniform(0, last), cy = uniform(0, last), sigma = uniform(1.4f, 3.2f);
      const float height = uniform(0.2f, 1.0f);
      for (int k = 0; k < size * size; ++k) {
        const float dx = static_cast<float>(k % size) - cx, dy = static_cast<float>(k / size) - cy;
        map[static_cast<std::size_t>(k)] = height * std::exp(-(dx * dx + dy * dy) / (2 * sigma * sigma)) + uniform(-0.03f, 0.03f);
      }
      const keyposs::Landmark l = keyposs::decode(map.data(), size, size, keyposs::Parameters{});
      std::printf("%.7g %.7g %.7g %.7g %.7g %.7g\n", static_cast<double>(l.x), static_cast<double>(l.y), static_cast<double>(l.score),
                  static_cast<double>(l.xx), static_cast<double>(l.xy), static_cast<double>(l.yy));
    }
}
