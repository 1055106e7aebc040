// The CUDA kernel as it stands, run on the CPU by cuda_on_cpu.h, behind a C interface for tests/native/test_kernel_on_cpu.py.
#include "cuda_on_cpu.h"

#include <sys/mman.h>

#include "../../plugins/multilateration/multilateration_kernel.cu"

namespace keyposs {
namespace {
constexpr std::size_t kWindows = 64 * 1024;
float windows[kWindows / sizeof(float)];
} // namespace
} // namespace keyposs

namespace {

constexpr float kPoison = -12345.0f; // shared memory is not cleared

// Memory whose neighbours on one side may not be touched, with the bytes of `source` right beside them.
class Fenced {
 public:
  Fenced(const void* source, std::size_t bytes, bool fence_before) : length_((bytes + 2 * kPage - 1) / kPage * kPage + kPage) {
    base_ = static_cast<char*>(mmap(nullptr, length_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED) std::abort();
    data_ = fence_before ? base_ + kPage : base_ + length_ - kPage - bytes;
    if (bytes) std::memcpy(data_, source, bytes);
    mprotect(fence_before ? base_ : base_ + length_ - kPage, kPage, PROT_NONE);
  }
  ~Fenced() { munmap(base_, length_); }
  Fenced(const Fenced&) = delete;
  Fenced& operator=(const Fenced&) = delete;
  const void* data() const { return data_; }

 private:
  static constexpr std::size_t kPage = 4096;
  std::size_t length_;
  char *base_, *data_;
};

} // namespace

extern "C" {

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = cuda_on_cpu::multiprocessors;
  return cudaSuccess;
}

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, std::size_t shared, cudaStream_t) {
  using namespace cuda_on_cpu;
  if (shared > kSharedLimit || block.x > 1024 || grid.x > 0x7fffffffu) return cudaErrorInvalidConfiguration;
  const auto kernel = reinterpret_cast<void (*)(keyposs::DecodeJob)>(const_cast<void*>(function));
  const auto job = *static_cast<const keyposs::DecodeJob*>(arguments[0]);
  body = [=] { kernel(job); };
  blockDim.x = block.x, last_block = block;
  ++launches;
  failed = false;
  for (blockIdx.x = 0; blockIdx.x < grid.x && !failed; ++blockIdx.x) {
    std::fill(std::begin(keyposs::windows), std::end(keyposs::windows), kPoison);
    run_block(block.x);
    for (std::size_t i = shared / sizeof(float); i < std::size(keyposs::windows); ++i)
      if (keyposs::windows[i] != kPoison) fail("a write beyond the shared memory");
  }
  return failed ? cudaErrorLaunchFailure : cudaSuccess;
}

// maps [count, height, width], float or half, in host memory. Returns the kernel's error; `threads` gets the block's size, 0 for no launch.
int kernel_on_cpu(const void* maps, std::int64_t count, int height, int width, int half, float sigma, int radius, float prior, float stride,
                  float shift, int multiprocessors, int order, float* landmarks, float* scores, float* covariance, int* threads) {
  cuda_on_cpu::multiprocessors = multiprocessors;
  cuda_on_cpu::backwards = order == 1;
  cuda_on_cpu::launches = 0;
  const bool real = maps && count > 0 && height > 0 && width > 0;
  const std::size_t bytes = real ? static_cast<std::size_t>(count) * static_cast<std::size_t>(height * width) * (half ? 2 : 4) : 0;
  const Fenced fenced(maps, bytes, order == 1);
  const keyposs::DecodeJob job{maps ? fenced.data() : nullptr,
                               landmarks,
                               scores,
                               covariance,
                               count,
                               height,
                               width,
                               half ? keyposs::MapType::kHalf : keyposs::MapType::kFloat,
                               {sigma, radius, prior},
                               stride,
                               shift};
  const cudaError_t code = keyposs::decode_maps(job, nullptr);
  *threads = cuda_on_cpu::launches == 1 ? static_cast<int>(cuda_on_cpu::last_block.x) : -cuda_on_cpu::launches;
  return code;
}

} // extern "C"
