// The library's two functions.
#include <cuda_runtime_api.h>

#include "preprocess_kernel.h"

#define KEYPOSS_EXPORT extern "C" __attribute__((visibility("default")))

KEYPOSS_EXPORT std::int32_t keyposs_preprocess(const KeypossCrop* crops, std::int32_t count, std::int32_t size, void* out,
                                               std::int32_t layout, const float* mean, const float* scale, std::int32_t border,
                                               void* stream) {
  const keyposs::CropJob job = keyposs::crop_job(crops, count, size, out, layout, mean, scale, border);
  return keyposs::make_crops(job, static_cast<cudaStream_t>(stream));
}

KEYPOSS_EXPORT const char* keyposs_preprocess_error(std::int32_t code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
