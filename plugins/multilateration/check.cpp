// Runs the solver on maps of every small size and kind under the sanitizers: no read outside the map, always finite, always inside.
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "multilateration.h"

int main() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const float odd[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1e30f, 1e30f,
                       std::numeric_limits<float>::denorm_min(), 0.0f};
  long bad = 0, maps = 0;
  for (int height = 1; height <= 9; ++height)
    for (int width = 1; width <= 9; ++width)
      for (int kind = 0; kind < 200; ++kind, ++maps) {
        std::vector<float> map(static_cast<std::size_t>(height * width)); // of exactly this size: a read beyond it is found
        for (float& v : map) v = kind % 4 == 0 ? 0.05f * static_cast<float>(kind) : normal(random);
        if (kind % 4 == 3)
          for (float& v : map)
            if (random() % 2) v = odd[random() % 6];
        keyposs::Parameters p;
        p.radius = 1 + kind % 13;
        p.sigma = kind % 5 == 0 ? 2.0f : 0.5f + 0.2f * static_cast<float>(kind % 5);
        p.prior = kind % 3 == 0 ? 0 : (kind % 3 == 1 ? 0.02f : std::numeric_limits<float>::infinity());
        const keyposs::Landmark l = keyposs::decode(map.data(), height, width, p);
        const float reach = keyposs::kReach;
        for (float v : {l.x, l.y, l.score, l.xx, l.xy, l.yy}) bad += !std::isfinite(v);
        bad += !(l.x >= -reach && l.x <= static_cast<float>(width) + reach && l.y >= -reach && l.y <= static_cast<float>(height) + reach);
        bad += !(l.score >= 0 && l.score <= 1 && l.xx >= 0 && l.yy >= 0);
      }
  std::printf("%ld maps, %ld wrong values\n", maps, bad);
  return bad != 0;
}
