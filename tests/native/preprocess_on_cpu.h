// The crop kernel as it stands, run on the CPU by cuda_on_cpu.h: the intrinsics that it needs beyond those there, and the launch.
#pragma once

#include "cuda_on_cpu.h"

inline std::uint32_t __funnelshift_r(std::uint32_t low, std::uint32_t high, unsigned bits) {
  return static_cast<std::uint32_t>((static_cast<std::uint64_t>(high) << 32 | low) >> (bits & 31));
}
inline std::uint32_t __dp4a(std::uint32_t a, std::uint32_t b, std::uint32_t sum) {
  for (int shift = 0; shift < 32; shift += 8) sum += (a >> shift & 255) * (b >> shift & 255);
  return sum;
}
inline std::uint32_t __byte_perm(std::uint32_t low, std::uint32_t high, unsigned selector) {
  const std::uint64_t bytes = static_cast<std::uint64_t>(high) << 32 | low;
  std::uint32_t word = 0;
  for (unsigned i = 0; i < 4; ++i) word |= static_cast<std::uint32_t>(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
  return word;
}
template <typename T>
T __shfl_sync(unsigned mask, T value, unsigned from) {
  return cuda_on_cpu::exchange(mask, value, static_cast<int>(cuda_on_cpu::current->index % 32 ^ from));
}

#include "../../plugins/preprocess/preprocess_kernel.cu"

extern "C" {

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, std::size_t shared, cudaStream_t) {
  using namespace cuda_on_cpu;
  if (shared || block.x > 1024 || block.y != 1 || block.z != 1 || grid.y > 65535 || grid.z > 65535) return cudaErrorInvalidConfiguration;
  const auto kernel = reinterpret_cast<void (*)(keyposs::CropJob)>(const_cast<void*>(function));
  const auto job = *static_cast<const keyposs::CropJob*>(arguments[0]);
  body = [=] { kernel(job); };
  blockDim.x = block.x;
  ++launches;
  failed = false;
  for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid.x && !failed; ++blockIdx.x) run_block(block.x);
  return failed ? cudaErrorLaunchFailure : cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void*) { return cudaSuccess; }

} // extern "C"
