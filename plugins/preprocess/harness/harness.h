// The parts of the harness.
#pragma once

#include <cstdint>

#include "../../multilateration/harness/cuda_memory.h"
#include "../keyposs_preprocess.h"

namespace harness {

// The library's two functions.
struct Library {
  decltype(&keyposs_preprocess) launch;
  decltype(&keyposs_preprocess_error) words;

  void must(std::int32_t code) const {
    if (code == 0) return;
    std::printf("FAILED: keyposs_preprocess: %s\n", words(code));
    std::exit(1);
  }
};

// main.cpp: false for a check that failed, which it counts.
bool check(bool good, const char* what);

// gpu.cpp: crops of every kind against the CPU; through a CUDA graph; what is refused. `brief`: fewer, as compute-sanitizer is slow.
void check_on_gpu(const Library& library, bool brief);

// timing.cpp: prints a table.
void time_on_gpu(const Library& library);

// ../../multilateration/harness/empty.cu
void launch_nothing(cudaStream_t stream);

} // namespace harness
