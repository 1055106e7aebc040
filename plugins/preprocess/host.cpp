// The library for the CPU, with the interface of the GPU's: the tests hold the maths against OpenCV by it.
#include "preprocess_host.h"

#define KEYPOSS_EXPORT extern "C" __attribute__((visibility("default")))

KEYPOSS_EXPORT std::int32_t keyposs_preprocess(const KeypossCrop* crops, std::int32_t count, std::int32_t size, void* out,
                                               std::int32_t layout, const float* mean, const float* scale, std::int32_t border, void*) {
  const keyposs::CropJob job = keyposs::crop_job(crops, count, size, out, layout, mean, scale, border);
  if (!keyposs::makes_sense(job)) return 1; // cudaErrorInvalidValue
  keyposs::make_crops_on_cpu(job);
  return 0;
}

KEYPOSS_EXPORT const char* keyposs_preprocess_error(std::int32_t code) {
  return code == 0 ? "no error" : code == 1 ? "invalid argument" : "unknown error";
}
