// Device memory and errors of the CUDA runtime for the harness.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include <cuda_runtime_api.h>

namespace harness {

inline void must(cudaError_t code) {
  if (code == cudaSuccess) return;
  std::printf("FAILED: CUDA: %s\n", cudaGetErrorString(code));
  std::exit(1);
}

class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t bytes) { must(cudaMalloc(&data_, bytes ? bytes : 1)); }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

class Stream {
 public:
  Stream() { must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

} // namespace harness
