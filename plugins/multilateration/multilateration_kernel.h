// Multilateration on the GPU: heatmaps in device memory -> landmarks, scores and covariances in crop pixels.
//
// Plain C++ with CUDA's two handle types and nothing of TensorRT, so that it can be called and tested alone.
#pragma once

#include <cstdint>

#include <driver_types.h>

#include "multilateration.h"

namespace keyposs {

constexpr std::int64_t kMaxPixels = 1 << 30; // of a map, so that no index overflows

enum class MapType : std::int32_t { kFloat, kHalf };

struct DecodeJob {
  const void* maps;   // device memory, [count, height, width], row-major, of `type`
  float* landmarks;   // device memory, [count, 2]: x, y in crop pixels
  float* scores;      // device memory, [count]: fitted amplitude, in [0, 1]
  float* covariance;  // device memory, [count, 3]: xx, xy, yy in crop pixels squared
  std::int64_t count; // maps: faces times landmarks; 0 does nothing
  std::int32_t height, width;
  MapType type;
  Parameters parameters;
  float stride, shift; // heatmap pixel i lies at i * stride + shift in the crop
};

// One launch on `stream`, without workspace, atomics or synchronisation; the result depends on the input and the kind of GPU alone.
// cudaErrorInvalidValue, and nothing launched, for a job that makes no sense: a null pointer, no pixel, more than kMaxPixels,
// parameters that are not valid(), a stride that is not above 0.
cudaError_t decode_maps(const DecodeJob& job, cudaStream_t stream);

} // namespace keyposs
