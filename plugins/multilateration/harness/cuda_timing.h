// How long a call takes on the GPU, for the harnesses.
#pragma once

#include <algorithm>
#include <vector>

#include "cuda_memory.h"

namespace harness {

// How often something is timed, and before that run to warm up; each time `calls` calls in a row.
struct Repeats {
  int count, warm_up, calls = 1;
};

// Microseconds a call between CUDA events, median of the repeats.
template <typename Call>
double microseconds(cudaStream_t stream, const Repeats& repeats, const Call& call) {
  cudaEvent_t begin, end;
  must(cudaEventCreate(&begin));
  must(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = -repeats.warm_up; i < repeats.count; ++i) {
    must(cudaEventRecord(begin, stream));
    for (int k = 0; k < repeats.calls; ++k) call();
    must(cudaEventRecord(end, stream));
    must(cudaEventSynchronize(end));
    float milliseconds = 0;
    must(cudaEventElapsedTime(&milliseconds, begin, end));
    if (i >= 0) times.push_back(milliseconds);
  }
  must(cudaEventDestroy(begin));
  must(cudaEventDestroy(end));
  std::nth_element(times.begin(), times.begin() + repeats.count / 2, times.end());
  return static_cast<double>(times[static_cast<std::size_t>(repeats.count / 2)]) * 1000 / repeats.calls;
}

} // namespace harness
