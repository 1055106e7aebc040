// The solver behind a C interface, so that the tests can hold it against the NumPy oracle.
#include <cstdint>

#include "multilateration.h"

// maps [count, height, width] -> points [count, 2], scores [count], covariance [count, 3]. 0, or 1 for arguments that make no sense.
extern "C" int keyposs_wls(const float* maps, std::int64_t count, int height, int width, float sigma, int radius, float prior,
                           float* points, float* scores, float* covariance) {
  const keyposs::Parameters p{sigma, radius, prior};
  if (!maps || !points || !scores || !covariance || count < 0 || height < 1 || width < 1 || !keyposs::valid(p)) return 1;
  for (std::int64_t i = 0; i < count; ++i) {
    const keyposs::Landmark found = keyposs::decode(maps + i * height * width, height, width, p);
    points[2 * i] = found.x, points[2 * i + 1] = found.y;
    scores[i] = found.score;
    covariance[3 * i] = found.xx, covariance[3 * i + 1] = found.xy, covariance[3 * i + 2] = found.yy;
  }
  return 0;
}
