// The header on the GPU against the header on the CPU: one thread a map. Not the kernel of the product. scripts/gpu_check.sh builds it.
#include <cstdio>
#include <random>
#include <vector>

#include "multilateration.h"

using keyposs::Landmark;

__global__ void decode_all(const float* maps, int count, int size, Landmark* out) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) out[i] = keyposs::decode(maps + static_cast<long>(i) * size * size, size, size, keyposs::Parameters{});
}

static bool ok(cudaError_t code) {
  if (code != cudaSuccess) std::fprintf(stderr, "error: CUDA: %s.\n", cudaGetErrorString(code));
  return code == cudaSuccess;
}

int main() {
  const int count = 5000, size = 32;
  std::vector<float> maps(static_cast<std::size_t>(count) * size * size);
  std::mt19937 random(1);
  std::uniform_real_distribution<float> place(0, size - 1), width(1.4f, 3.2f), height(0.2f, 1);
  std::normal_distribution<float> noise(0, 0.02f);
  for (int i = 0; i < count; ++i) {
    const float cx = place(random), cy = place(random), s = width(random), a = height(random);
    for (int y = 0; y < size; ++y)
      for (int x = 0; x < size; ++x) {
        const float dx = static_cast<float>(x) - cx, dy = static_cast<float>(y) - cy;
        maps[(static_cast<std::size_t>(i) * size + y) * size + x] = a * std::exp(-(dx * dx + dy * dy) / (2 * s * s)) + noise(random);
      }
  }
  std::vector<Landmark> found(count);
  float* device_maps = nullptr;
  Landmark* device_found = nullptr;
  if (!ok(cudaMalloc(&device_maps, maps.size() * sizeof(float))) || !ok(cudaMalloc(&device_found, count * sizeof(Landmark)))) return 1;
  if (!ok(cudaMemcpy(device_maps, maps.data(), maps.size() * sizeof(float), cudaMemcpyHostToDevice))) return 1;
  decode_all<<<(count + 127) / 128, 128>>>(device_maps, count, size, device_found);
  if (!ok(cudaGetLastError()) || !ok(cudaMemcpy(found.data(), device_found, count * sizeof(Landmark), cudaMemcpyDeviceToHost))) return 1;

  float worst = 0;
  for (int i = 0; i < count; ++i) {
    const Landmark want = keyposs::decode(maps.data() + static_cast<std::size_t>(i) * size * size, size, size, keyposs::Parameters{});
    for (float difference : {found[i].x - want.x, found[i].y - want.y, found[i].score - want.score})
      worst = std::isfinite(difference) ? std::fmax(worst, std::fabs(difference)) : INFINITY;
  }
  std::printf("GPU against CPU, %d maps: largest difference %g heatmap pixels\n", count, worst);
  cudaFree(device_maps);
  cudaFree(device_found);
  return worst <= 1e-3f ? 0 : 1;
}
