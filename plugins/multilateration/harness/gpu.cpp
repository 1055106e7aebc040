// The kernel, run through enqueue() as TensorRT runs it, against keyposs::decode on the CPU.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>

#include <cuda_fp16.h>

#include "../multilateration.h"
#include "cuda_memory.h"
#include "harness.h"

namespace harness {
namespace {

using nvinfer1::DataType;

constexpr float kTolerance = 1e-3f; // heatmap pixels, scores
constexpr std::size_t kGuard = 32;  // floats on both sides of each output that must stay as they are
constexpr float kUntouched = -4321.0f;
constexpr int kKinds = 12, kNoise = 5;

struct Shape {
  std::int64_t n, l;
  int height, width;

  std::size_t maps() const { return static_cast<std::size_t>(n * l); }
  std::size_t pixels() const { return static_cast<std::size_t>(height) * static_cast<std::size_t>(width); }
};

void add_blob(float* map, const Shape& shape, std::mt19937& random, float height) {
  std::uniform_real_distribution<float> unit(0, 1);
  const float cx = unit(random) * static_cast<float>(shape.width) - 0.5f, cy = unit(random) * static_cast<float>(shape.height) - 0.5f;
  const float sigma = 1.4f + 1.8f * unit(random);
  for (int y = 0; y < shape.height; ++y)
    for (int x = 0; x < shape.width; ++x) {
      const float dx = static_cast<float>(x) - cx, dy = static_cast<float>(y) - cy;
      map[y * shape.width + x] += height * std::exp(-(dx * dx + dy * dy) / (2 * sigma * sigma));
    }
}

// Blobs in noise, and what a broken network may give: flat, negative, tied, NaN, infinite.
void fill(float* map, const Shape& shape, int kind, std::mt19937& random) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
  const std::size_t size = shape.pixels();
  std::normal_distribution<float> normal;
  const float flat[kKinds] = {0, 0, 0, 0, 0.5f, -1, 0, 0, 0, kNan, kInf, -kInf};
  for (std::size_t i = 0; i < size; ++i) map[i] = flat[kind];
  if (kind <= 3 || (kind >= 6 && kind <= 8))
    add_blob(map, shape, random, kind == 3 ? -1.0f : 0.2f + 0.1f * static_cast<float>(random() % 9));
  if (kind <= 1 || kind == 7 || kind == 8)
    for (std::size_t i = 0; i < size; ++i) map[i] += 0.02f * normal(random);
  if (kind == kNoise)
    for (std::size_t i = 0; i < size; ++i) map[i] = normal(random);
  if (kind == 6) // a blob and its twin: of equal maxima the first counts
    for (std::size_t i = 0; i < size; ++i) map[i] = std::max(map[i], map[size - 1 - i]);
  if (kind == 7 || kind == 8) {
    const float bad[] = {kNan, kInf, -kInf, 1e25f, -1e25f}; // 1e25 is an infinity in float16
    for (std::size_t i = 0; i < size; ++i)
      if (random() % 5 == 0) map[i] = bad[kind == 7 ? 0 : random() % 5];
  }
  if (kind == 11) map[random() % size] = 0.5f;
}

using Values = std::array<float, 6>;

Values values_of(const keyposs::Landmark& l) { return {l.x, l.y, l.score, l.xx, l.xy, l.yy}; }

// How much each value changes when the map does by a millionth: noise alone has no landmark, and rounding may then move it far.
Values uncertainty(const float* map, const Shape& shape, const keyposs::Parameters& parameters, const Values& want) {
  std::mt19937 random(2);
  Values change{};
  for (int i = 0; i < 4; ++i) {
    std::vector<float> other(map, map + shape.pixels());
    for (float& value : other) value *= random() % 2 ? 1.000001f : 0.999999f;
    const Values moved = values_of(keyposs::decode(other.data(), shape.height, shape.width, parameters));
    for (std::size_t k = 0; k < change.size(); ++k) change[k] = std::max(change[k], std::fabs(moved[k] - want[k]));
  }
  return change;
}

bool agrees(const Values& got, const Values& want, const Values& unsure) {
  bool good = true;
  for (std::size_t k = 0; k < got.size(); ++k) {
    const float allowed = kTolerance + 10 * unsure[k] + (k < 3 ? 0 : 1e-2f * std::fabs(want[k]));
    good = good && std::fabs(got[k] - want[k]) <= allowed; // false for NaN
  }
  return good;
}

class Run {
 public:
  Run(const MakePlugin& make, const Settings& settings, const Shape& shape, DataType type, std::size_t offset, Report& report)
      : settings_(settings), shape_(shape), half_(type == DataType::kHALF), report_(report), maps_(shape.maps() * shape.pixels()) {
    std::mt19937 random(1);
    for (std::size_t i = 0; i < shape.maps(); ++i) fill(&maps_[i * shape.pixels()], shape, static_cast<int>(i) % kKinds, random);
    std::vector<__half> halves;
    if (half_)
      for (float& value : maps_) {
        halves.push_back(__float2half(value));
        value = __half2float(halves.back());
      }
    const std::size_t size = half_ ? sizeof(__half) : sizeof(float), bytes = maps_.size() * size;
    const DeviceMemory input(bytes + offset * size);
    char* start = input.as<char>() + offset * size;
    must(cudaMemcpy(start, half_ ? static_cast<const void*>(halves.data()) : maps_.data(), bytes, cudaMemcpyHostToDevice));
    const Plugin plugin = make(settings);
    const std::vector<std::vector<float>> first = enqueue(*plugin, start, type);
    compare(first);
    const std::vector<std::vector<float>> second = enqueue(*plugin, start, type);
    for (std::size_t i = 0; i < 3; ++i)
      report_.check(std::memcmp(first[i].data(), second[i].data(), first[i].size() * sizeof(float)) == 0, "%s: the same bits again",
                    name());
  }

 private:
  const char* name() {
    std::snprintf(name_, sizeof name_, "[%lld, %lld, %d, %d] %s", static_cast<long long>(shape_.n), static_cast<long long>(shape_.l),
                  shape_.height, shape_.width, half_ ? "fp16" : "fp32");
    return name_;
  }

  std::vector<std::vector<float>> enqueue(nvinfer1::IPluginV3& plugin, const void* maps, DataType type) {
    auto* runtime = static_cast<nvinfer1::IPluginV3OneRuntime*>(plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kRUNTIME));
    const nvinfer1::PluginTensorDesc input = tensor({shape_.n, shape_.l, shape_.height, shape_.width}, type);
    const nvinfer1::PluginTensorDesc output[] = {tensor({shape_.n, shape_.l, 2}), tensor({shape_.n, shape_.l}),
                                                 tensor({shape_.n, shape_.l, 3})};
    const std::size_t lengths[] = {2 * shape_.maps(), shape_.maps(), 3 * shape_.maps()};
    std::vector<std::vector<float>> results;
    std::deque<DeviceMemory> memory;
    void* outputs[3];
    for (std::size_t i = 0; i < 3; ++i) {
      results.emplace_back(lengths[i] + 2 * kGuard, kUntouched);
      memory.emplace_back(results[i].size() * sizeof(float));
      must(cudaMemcpy(memory[i].as<float>(), results[i].data(), results[i].size() * sizeof(float), cudaMemcpyHostToDevice));
      outputs[i] = memory[i].as<float>() + kGuard;
    }
    const Stream stream;
    must(cudaDeviceSynchronize()); // this stream does not wait for copies from pageable memory
    report_.check(runtime->onShapeChange(&input, 1, output, 3) == 0, "%s: onShapeChange", name());
    report_.check(runtime->enqueue(&input, output, &maps, outputs, nullptr, stream) == 0, "%s: enqueue", name());
    must(cudaStreamSynchronize(stream));
    for (std::size_t i = 0; i < 3; ++i) {
      must(cudaMemcpy(results[i].data(), memory[i].as<float>(), results[i].size() * sizeof(float), cudaMemcpyDeviceToHost));
      bool untouched = true;
      for (std::size_t k = 0; k < kGuard; ++k)
        untouched = untouched && results[i][k] == kUntouched && results[i][results[i].size() - 1 - k] == kUntouched;
      report_.check(untouched, "%s: nothing is written beside output %d", name(), static_cast<int>(i));
      results[i] = {results[i].begin() + kGuard, results[i].end() - kGuard};
    }
    return results;
  }

  void compare(const std::vector<std::vector<float>>& results) {
    const keyposs::Parameters parameters{settings_.sigma, settings_.radius, settings_.prior};
    const float stride = settings_.stride, shift = (stride - 1) / 2, area = stride * stride;
    std::size_t wrong = 0, first = 0;
    for (std::size_t i = 0; i < shape_.maps(); ++i) {
      const float* map = &maps_[i * shape_.pixels()];
      const Values want = values_of(keyposs::decode(map, shape_.height, shape_.width, parameters));
      const Values got = {(results[0][2 * i] - shift) / stride,
                          (results[0][2 * i + 1] - shift) / stride,
                          results[1][i],
                          results[2][3 * i] / area,
                          results[2][3 * i + 1] / area,
                          results[2][3 * i + 2] / area};
      bool good = agrees(got, want, {});
      if (!good && i % kKinds == kNoise) good = agrees(got, want, uncertainty(map, shape_, parameters, want));
      if (!good && wrong++ == 0) first = i;
    }
    report_.check(wrong == 0, "%s, radius %d: %zu of %zu maps differ from the CPU, the first is %zu (kind %zu)", name(), settings_.radius,
                  wrong, shape_.maps(), first, first % kKinds);
  }

  const Settings settings_;
  const Shape shape_;
  const bool half_;
  Report& report_;
  std::vector<float> maps_;
  char name_[64];
};

} // namespace

bool check_on_gpu(const MakePlugin& make, bool brief, Report& report) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return false;
  // Few maps take a warp or a block each, many take 8 lanes each; odd sizes are not aligned.
  std::vector<Shape> shapes = {{2, 68, 64, 64}, {3, 5, 32, 32}, {1, 98, 16, 16}, {2, 29, 8, 8},   {2, 29, 4, 4},  {2, 12, 7, 9},
                               {1, 24, 1, 1},   {1, 24, 1, 5},  {1, 24, 13, 3},  {0, 98, 64, 64}, {1, 12, 33, 65}};
  if (!brief) {
    shapes.insert(shapes.end(),
                  {{1, 12, 128, 96}, {1, 12, 512, 512}, {64, 98, 64, 64}, {200, 98, 16, 16}, {200, 98, 8, 8}, {200, 98, 4, 4}});
    shapes.insert(shapes.end(), {{200, 98, 7, 9}, {200, 98, 1, 5}, {128, 68, 33, 31}, {16, 98, 64, 64}});
  } else {
    shapes.insert(shapes.end(), {{64, 98, 7, 9}, {64, 98, 8, 8}}); // 8 lanes a map on up to 196 multiprocessors
  }
  for (const Shape& shape : shapes)
    for (DataType type : {DataType::kFLOAT, DataType::kHALF}) {
      Run(make, {}, shape, type, 0, report);
      if (brief || shape.maps() > 1000) continue;
      Run(make, {}, shape, type, 1, report); // not even the first map is aligned
      Run(make, {1.0f, 16, 0.0f, 1.0f}, shape, type, 0, report);
      Run(make, {4.0f, 1, INFINITY, 64.0f}, shape, type, 0, report);
    }
  return true;
}

} // namespace harness
