// A library with the interface of plugins/preprocess that runs its kernel on the CPU, for tests/native/test_preprocess_kernel.py.
#include "preprocess_on_cpu.h"

extern "C" {

std::int32_t keyposs_preprocess(const KeypossCrop* crops, std::int32_t count, std::int32_t size, void* out, std::int32_t layout,
                                const float* mean, const float* scale, std::int32_t border, void*) {
  return keyposs::make_crops(keyposs::crop_job(crops, count, size, out, layout, mean, scale, border), nullptr);
}

const char* keyposs_preprocess_error(std::int32_t) { return "an error"; }

// The order in which the threads get their turn; returns the number of launches so far.
int keyposs_preprocess_order(int backwards) {
  cuda_on_cpu::backwards = backwards != 0;
  return cuda_on_cpu::launches;
}

} // extern "C"
