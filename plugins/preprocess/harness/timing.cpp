// Times the kernel between CUDA events, beside copies of the same card in the same run: the bytes read and written over the time.
#include <algorithm>
#include <cmath>
#include <vector>

#include "../../multilateration/harness/cuda_timing.h"
#include "harness.h"

namespace harness {
namespace {

constexpr int kWidth = 3840, kHeight = 2160, kSize = 128;
constexpr std::size_t kFrames = 8;            // crops lie side by side on them, so that hardly a byte is read twice
constexpr std::size_t kCopied = 512u << 20;   // bytes, more than any cache holds
constexpr Repeats kRepeats{51, 5};

struct Job {
  const char* name;
  int layout, format;
  float step; // frame pixels a crop pixel
  float degrees;
};

// Squares of the job's scale side by side over all frames.
std::vector<KeypossCrop> rows_of(const Job& job, const std::uint8_t* frames, std::size_t frame_bytes, int factor) {
  std::vector<KeypossCrop> rows;
  const float angle = job.degrees * 3.14159265f / 180, scale = job.step / static_cast<float>(factor);
  const int side = static_cast<int>(std::lround(static_cast<double>(job.step) * kSize));
  for (std::size_t f = 0; f < kFrames; ++f)
    for (int top = 0; top + side <= kHeight; top += side)
      for (int left = 0; left + side <= kWidth; left += side) {
        KeypossCrop row{};
        row.pixels = frames + f * frame_bytes;
        row.pitch = job.format ? kWidth : 3 * kWidth;
        row.chroma = job.format ? frames + f * frame_bytes + kWidth * kHeight : nullptr;
        row.chroma_pitch = kWidth, row.format = job.format, row.factor = factor;
        row.left = left - std::min(left, 2 * factor), row.top = top - std::min(top, 2 * factor); // with a rim, as crop.py has
        row.columns = std::min(side + 4 * factor, kWidth - row.left) / factor;
        row.rows = std::min(side + 4 * factor, kHeight - row.top) / factor;
        const float c = scale * std::cos(angle), s = scale * std::sin(angle), half = (kSize - 1) / 2.0f;
        const float x = (static_cast<float>(left - row.left) + static_cast<float>(side - 1) / 2) / static_cast<float>(factor);
        const float y = (static_cast<float>(top - row.top) + static_cast<float>(side - 1) / 2) / static_cast<float>(factor);
        const float to_region[6] = {c, -s, x - half * (c - s), s, c, y - half * (s + c)};
        std::copy(to_region, to_region + 6, row.to_region);
        rows.push_back(row);
      }
  return rows;
}

double bytes_of(const Job& job, std::size_t crops) {
  const double pixels = static_cast<double>(kSize) * kSize, written = 3 * pixels * (job.layout == 0 ? 1 : job.layout == 1 ? 4 : 2);
  const double read = pixels * static_cast<double>(job.step) * static_cast<double>(job.step) * (job.format ? 1.5 : 3.0);
  return static_cast<double>(crops) * (read + written + sizeof(KeypossCrop));
}

} // namespace

void time_on_gpu(const Library& library) {
  cudaDeviceProp card{};
  must(cudaGetDeviceProperties(&card, 0));
  const Stream stream;
  const std::size_t frame_bytes = static_cast<std::size_t>(kWidth) * kHeight * 3;
  const DeviceMemory frames(kFrames * frame_bytes), from(kCopied), to(kCopied);
  std::vector<std::uint8_t> noise(frame_bytes);
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = static_cast<std::uint8_t>(i * 2654435761u >> 13);
  for (std::size_t f = 0; f < kFrames; ++f)
    must(cudaMemcpy(frames.as<std::uint8_t>() + f * frame_bytes, noise.data(), frame_bytes, cudaMemcpyHostToDevice));
  must(cudaMemset(from.as<void>(), 1, kCopied));
  must(cudaDeviceSynchronize());

  const double copy = microseconds(stream, kRepeats, [&] {
    must(cudaMemcpyAsync(to.as<void>(), from.as<void>(), kCopied, cudaMemcpyDeviceToDevice, stream));
  });
  const double bandwidth = 2 * static_cast<double>(kCopied) / copy / 1000;
  std::printf("%s, %d multiprocessors; a copy of %zu MiB: %.0f GB/s read and written; medians of %d between CUDA events\n", card.name,
              card.multiProcessorCount, kCopied >> 20, bandwidth, kRepeats.count);
  std::printf("crops of %d from frames of %d x %d; bytes: frame pixels under the crops once, and the crops\n", kSize, kWidth, kHeight);
  std::printf("  %-36s %7s %7s %10s %8s %8s\n", "", "factor", "crops", "us", "GB/s", "of copy");
  const Job jobs[] = {{"BGR to uint8", 0, 0, 1.0f, 0},          {"BGR to uint8, turned by 20 degrees", 0, 0, 1.0f, 20},
                      {"BGR to uint8, turned by 90 degrees", 0, 0, 1.0f, 90}, {"BGR to uint8, enlarged", 0, 0, 0.5f, 0},
                      {"BGR to uint8, shrunk", 0, 0, 1.7f, 0},  {"BGR to uint8, mean of 2 x 2", 0, 0, 2.8f, 0},
                      {"BGR to uint8, mean of 4 x 4", 0, 0, 5.6f, 0}, {"BGR to half", 2, 0, 1.0f, 0},
                      {"BGR to float", 1, 0, 1.0f, 0},          {"NV12 to uint8", 0, 1, 1.0f, 0},
                      {"NV12 to half", 2, 2, 1.0f, 0},          {"NV12 to uint8, mean of 2 x 2", 0, 1, 2.8f, 0}};
  for (const Job& job : jobs) {
    const int factor = std::max(1, static_cast<int>(std::lround(static_cast<double>(job.step) / 1.4)));
    const std::vector<KeypossCrop> rows = rows_of(job, frames.as<std::uint8_t>(), frame_bytes, factor);
    const auto count = static_cast<std::int32_t>(rows.size());
    const DeviceMemory device(rows.size() * sizeof(KeypossCrop)), out(rows.size() * kSize * kSize * 12);
    must(cudaMemcpy(device.as<void>(), rows.data(), rows.size() * sizeof(KeypossCrop), cudaMemcpyHostToDevice));
    must(cudaDeviceSynchronize());
    const auto make = [&](std::int32_t crops) {
      library.must(library.launch(device.as<KeypossCrop>(), crops, kSize, out.as<void>(), job.layout, nullptr, nullptr, 0, stream));
    };
    const double many = microseconds(stream, kRepeats, [&] { make(count); });
    const double rate = bytes_of(job, rows.size()) / many / 1000;
    std::printf("  %-36s %7d %7d %10.1f %8.0f %7.0f%%\n", job.name, factor, count, many, rate, 100 * rate / bandwidth);
    if (&job == jobs) std::printf("  %-36s %7d %7d %10.1f\n", "the same, one crop", factor, 1, microseconds(stream, kRepeats, [&] { make(1); }));
  }
  std::printf("  %-36s %7s %7s %10.1f\n", "a kernel that does nothing", "", "", microseconds(stream, kRepeats, [&] { launch_nothing(stream); }));
}

} // namespace harness
