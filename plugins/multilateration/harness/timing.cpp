// Times the kernel between CUDA events: against a copy of the same bytes on the same card, and against a kernel that does nothing.
#include <algorithm>
#include <cmath>

#include <cuda_fp16.h>

#include "cuda_timing.h"
#include "harness.h"

namespace harness {
namespace {

constexpr int kPoints = 98;
constexpr std::size_t kRotate = 512u << 20; // bytes of maps that take turns, more than any cache holds
constexpr int kRepeats = 101, kWarmUp = 10;

// Blobs, of which every map has one, in a pattern of a few maps that repeats.
std::vector<__half> maps_of(int size, std::size_t count) {
  std::vector<__half> maps(count * static_cast<std::size_t>(size * size));
  for (std::size_t i = 0; i < maps.size(); ++i) {
    const std::size_t map = i / static_cast<std::size_t>(size * size) % 61;
    const int x = static_cast<int>(i) % size, y = static_cast<int>(i) / size % size;
    const float dx = static_cast<float>(x) - static_cast<float>(map * 7 % static_cast<std::size_t>(size)) - 0.3f;
    const float dy = static_cast<float>(y) - static_cast<float>(map * 5 % static_cast<std::size_t>(size)) + 0.2f;
    maps[i] = __float2half(0.8f * std::exp(-(dx * dx + dy * dy) / 8));
  }
  return maps;
}

struct Row {
  double decode, copy;
  std::size_t bytes;
};

Row time_batch(const MakePlugin& make, cudaStream_t stream, int size, int batch, int calls) {
  const auto maps = static_cast<std::size_t>(batch) * kPoints;
  const std::size_t bytes = maps * static_cast<std::size_t>(size * size) * sizeof(__half);
  const std::size_t copies = calls == 1 ? 2 : std::clamp<std::size_t>(kRotate / bytes, 2, 64);
  const std::vector<__half> host = maps_of(size, maps);
  const DeviceMemory input(bytes * copies), landmarks(maps * 8), scores(maps * 4), covariance(maps * 12);
  for (std::size_t i = 0; i < copies; ++i) must(cudaMemcpy(input.as<char>() + i * bytes, host.data(), bytes, cudaMemcpyHostToDevice));
  const Plugin plugin = make({2, 5, 0.015f, 256.0f / static_cast<float>(size)});
  auto* runtime = static_cast<nvinfer1::IPluginV3OneRuntime*>(plugin->getCapabilityInterface(nvinfer1::PluginCapabilityType::kRUNTIME));
  const nvinfer1::PluginTensorDesc description = tensor({batch, kPoints, size, size}, nvinfer1::DataType::kHALF);
  const nvinfer1::PluginTensorDesc results[] = {tensor({batch, kPoints, 2}), tensor({batch, kPoints}), tensor({batch, kPoints, 3})};
  void* outputs[] = {landmarks.as<void>(), scores.as<void>(), covariance.as<void>()};
  must(cudaDeviceSynchronize()); // the stream does not wait for copies from pageable memory
  std::size_t turn = 0;
  const auto next = [&] { return input.as<char>() + turn++ % copies * bytes; };
  Row row{0, 0, bytes + maps * 24};
  row.decode = microseconds(stream, {kRepeats, kWarmUp, calls}, [&] {
    const void* in = next();
    if (runtime->enqueue(&description, results, &in, outputs, nullptr, stream) != 0) must(cudaErrorUnknown);
  });
  row.copy = microseconds(stream, {kRepeats, kWarmUp, calls}, [&] {
    const char* from = next();
    must(cudaMemcpyAsync(input.as<char>() + turn % copies * bytes, from, bytes, cudaMemcpyDeviceToDevice, stream));
  });
  return row;
}

} // namespace

void time_on_gpu(const MakePlugin& make) {
  cudaDeviceProp card{};
  must(cudaGetDeviceProperties(&card, 0));
  const Stream stream;
  std::printf("%s, %d multiprocessors; float16 maps, %d a face; medians of %d between CUDA events\n", card.name, card.multiProcessorCount,
              kPoints, kRepeats);
  std::printf("64 faces, in turn over %zu MiB of maps; a copy reads and writes, so its bytes count twice\n", kRotate >> 20);
  std::printf("  %-8s %12s %10s %12s %10s %10s\n", "map", "decode us", "GB/s", "copy us", "GB/s", "share");
  for (int size : {64, 32, 16, 8, 4}) {
    const Row row = time_batch(make, stream, size, 64, 20);
    const double decode = static_cast<double>(row.bytes) / row.decode / 1000;
    const double copy = 2 * static_cast<double>(size * size * 2 * 64 * kPoints) / row.copy / 1000;
    std::printf("  %2d x %-3d %12.2f %10.0f %12.2f %10.0f %9.0f%%\n", size, size, row.decode, decode, row.copy, copy, 100 * decode / copy);
  }
  const double empty = microseconds(stream, {kRepeats, kWarmUp}, [&] { launch_nothing(stream); });
  std::printf("1 face; a kernel that does nothing takes %.2f us\n  %-8s %12s %10s\n", empty, "map", "decode us", "times");
  for (int size : {64, 32, 16, 8, 4}) {
    const Row row = time_batch(make, stream, size, 1, 1);
    std::printf("  %2d x %-3d %12.2f %10.2f\n", size, size, row.decode, row.decode / empty);
  }
}

} // namespace harness
