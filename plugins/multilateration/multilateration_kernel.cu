// See multilateration_kernel.h. Two steps, both done by the same threads for one map:
//   1. The argmax, in one pass over the map with 16-byte loads. This is all that is read from DRAM.
//   2. The window about it goes to shared memory, and solve() of multilateration.h works there with the sums shared by shuffles.
// How many threads take one map is chosen by threads_a_map() below.
#include "multilateration_kernel.h"

#include <climits>
#include <cstring>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace keyposs {
namespace {

constexpr int kWarp = 32;
constexpr int kFew = 8;                // threads a map where there are many maps
constexpr int kBlock = 256;            // threads a map where the maps are large
constexpr int kFewBlock = 128;         // threads of a block of kFew-thread groups
constexpr int kMany = 32;              // maps a multiprocessor from which kFew threads a map keep the memory busy
constexpr int kFewRadius = 8;          // larger windows of a block of small groups would not fit in shared memory
constexpr std::int64_t kLarge = 4096;  // bytes; a larger map gets a block where there are few
constexpr int kBlocks = 3;             // maps a multiprocessor up to which that many blocks run at once
constexpr std::int64_t kVast = 65536;  // bytes; the scan of a larger map takes longer than the solver, so it gets a block anyway
constexpr int kLoads = 8;              // 16-byte loads of a thread in flight
constexpr int kRows = 6;               // the same for single elements of the window; half of the default one's rows
constexpr unsigned kAll = 0xffffffffu; // every lane of a warp

extern __shared__ float windows[]; // one window of (2 radius + 1)^2 for each group of the block

// The lanes of a warp that share a map: groups of 8, or all 32. The xor exchange gives every lane the same sum, bit for bit.
template <int kCount>
struct Group {
  int lane;
  unsigned mask;

  __device__ static Group mine() {
    const unsigned first = threadIdx.x % kWarp / kCount * kCount;
    return {static_cast<int>(threadIdx.x % kCount), kCount == kWarp ? kAll : ((1u << (kCount % kWarp)) - 1) << first};
  }
  __device__ int index() const { return lane; }
  __device__ int count() const { return kCount; }
  __device__ float sum(float value) const {
    for (int step = kCount / 2; step > 0; step /= 2) value += __shfl_xor_sync(mask, value, step);
    return value;
  }
};

// The largest measurement seen, and the first element of the load it came in. Starts are handed out in row-major order.
struct Peak {
  float value;
  int start;

  __device__ void offer(float other, int other_start) { // of one thread, whose starts only grow
    if (other > value) value = other, start = other_start;
  }
  __device__ void merge(float other, int other_start) { // of another thread: the first of equals
    if (other > value || (other == value && other_start < start)) value = other, start = other_start;
  }
};

template <int kCount>
__device__ Peak highest(Peak peak, const Group<kCount>& group) {
  for (int step = kCount / 2; step > 0; step /= 2) {
    const float value = __shfl_xor_sync(group.mask, peak.value, step);
    peak.merge(value, __shfl_xor_sync(group.mask, peak.start, step));
  }
  return peak;
}

// The four words of a 16-byte load. highest() ignores NaN, as fmaxf and __hmax2 do, and lets infinities through; measured() lets neither.
template <typename T>
struct Pack;

template <>
struct Pack<float> {
  uint4 words;

  __device__ float highest() const {
    return fmaxf(fmaxf(__uint_as_float(words.x), __uint_as_float(words.y)), fmaxf(__uint_as_float(words.z), __uint_as_float(words.w)));
  }
  __device__ static float measured(unsigned word) { return measurement(__uint_as_float(word)); }
};

template <>
struct Pack<__half> {
  uint4 words;

  __device__ static __half2 pair(unsigned word) {
    __half2 two;
    memcpy(static_cast<void*>(&two), &word, sizeof two);
    return two;
  }
  __device__ float highest() const {
    const __half2 top = __hmax2(__hmax2(pair(words.x), pair(words.y)), __hmax2(pair(words.z), pair(words.w)));
    return fmaxf(__low2float(top), __high2float(top));
  }
  __device__ static float measured(unsigned word) {
    return fmaxf(measurement(__low2float(pair(word))), measurement(__high2float(pair(word))));
  }
};

template <typename T>
__device__ float highest_measurement(const Pack<T>& pack) {
  const uint4& words = pack.words;
  return fmaxf(fmaxf(pack.measured(words.x), pack.measured(words.y)), fmaxf(pack.measured(words.z), pack.measured(words.w)));
}

// The peak of what thread `lane` of kThreads reads: single elements up to the first 16-byte boundary and after the last, loads between.
template <typename T, int kThreads>
__device__ Peak scan(const T* map, int size, int lane) {
  constexpr int kPer = 16 / sizeof(T);
  const int past_boundary = static_cast<int>(reinterpret_cast<std::uintptr_t>(map) % 16 / sizeof(T));
  const int head = min(size, (kPer - past_boundary) % kPer), loads = (size - head) / kPer, tail = head + loads * kPer;
  const uint4* packs = reinterpret_cast<const uint4*>(map + head);
  Peak peak{-kHuge, 0};
  for (int i = lane; i < head; i += kThreads) peak.offer(measurement(map[i]), i);
  for (int first = lane; first < loads; first += kThreads * kLoads) {
    Pack<T> loaded[kLoads];
    float tops[kLoads], top = -kHuge;
#pragma unroll
    for (int k = 0; k < kLoads; ++k)
      if (first + k * kThreads < loads) loaded[k].words = __ldg(packs + first + k * kThreads);
#pragma unroll
    for (int k = 0; k < kLoads; ++k) {
      tops[k] = first + k * kThreads < loads ? loaded[k].highest() : -kHuge;
      top = fmaxf(top, tops[k]);
    }
    if (top >= kHuge) { // rare: look at each value
#pragma unroll
      for (int k = 0; k < kLoads; ++k)
        if (first + k * kThreads < loads) tops[k] = highest_measurement(loaded[k]);
    }
#pragma unroll
    for (int k = 0; k < kLoads; ++k) peak.offer(tops[k], head + (first + k * kThreads) * kPer);
  }
  for (int i = tail + lane; i < size; i += kThreads) peak.offer(measurement(map[i]), i);
  return peak;
}

// The first element of the peak's load that has its value. Where every element is bad this is element 0.
template <typename T, int kCount>
__device__ int place(const T* map, int size, const Peak& peak, const Group<kCount>& group) {
  constexpr int kPer = 16 / sizeof(T);
  static_assert(kPer <= kCount);
  const int i = peak.start + group.lane;
  int offset = group.lane < kPer && i < size && measurement(map[i]) == peak.value ? group.lane : kPer;
  for (int step = kCount / 2; step > 0; step /= 2) offset = min(offset, __shfl_xor_sync(group.mask, offset, step));
  return peak.start + offset;
}

// The landmark from the argmax, by one group. The window is cut at the rim of the map, so solve() sees there what it would see on the map.
template <typename T, int kCount>
__device__ void finish(const DecodeJob& job, std::int64_t index, const T* map, int argmax, float* window, const Group<kCount>& group) {
  const int column = argmax % job.width, row = argmax / job.width, radius = job.parameters.radius;
  const int left = max(column - radius, 0), top = max(row - radius, 0);
  const int width = min(column + radius, job.width - 1) - left + 1, height = min(row + radius, job.height - 1) - top + 1;
  const T* corner = map + top * job.width + left;
  for (int x = group.lane; x < width; x += kCount)
    for (int y = 0; y < height; y += kRows) { // the loads before the stores, so that they wait for memory together
      T values[kRows];
#pragma unroll
      for (int k = 0; k < kRows; ++k) values[k] = corner[min(y + k, height - 1) * job.width + x]; // past the last row: that row again
#pragma unroll
      for (int k = 0; k < kRows; ++k) window[min(y + k, height - 1) * width + x] = measurement(values[k]);
    }
  __syncwarp(group.mask);
  const Landmark found = solve(window, height, width, (row - top) * width + column - left, job.parameters, group);
  if (group.lane != 0) return;
  job.landmarks[2 * index] = (found.x + static_cast<float>(left)) * job.stride + job.shift;
  job.landmarks[2 * index + 1] = (found.y + static_cast<float>(top)) * job.stride + job.shift;
  job.scores[index] = found.score;
  job.covariance[3 * index] = found.xx * job.stride * job.stride;
  job.covariance[3 * index + 1] = found.xy * job.stride * job.stride;
  job.covariance[3 * index + 2] = found.yy * job.stride * job.stride;
}

// A group of 8 or 32 lanes a map.
template <typename T, int kCount>
__global__ void __launch_bounds__(kFewBlock) decode_by_groups(const DecodeJob job) {
  const Group<kCount> group = Group<kCount>::mine();
  const int slot = static_cast<int>(threadIdx.x) / kCount, groups = static_cast<int>(blockDim.x) / kCount;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * groups + slot;
  if (index >= job.count) return; // a whole group leaves: no other waits for it
  const int size = job.height * job.width, side = 2 * job.parameters.radius + 1;
  const T* map = static_cast<const T*>(job.maps) + index * size;
  const Peak peak = highest(scan<T, kCount>(map, size, group.lane), group);
  finish(job, index, map, place(map, size, peak, group), windows + slot * side * side, group);
}

// A block a map; the first warp finishes it.
template <typename T>
__global__ void __launch_bounds__(kBlock) decode_by_blocks(const DecodeJob job) {
  static __shared__ Peak peaks[kBlock / kWarp];
  const Group<kWarp> group = Group<kWarp>::mine();
  const int size = job.height * job.width, thread = static_cast<int>(threadIdx.x), warp = thread / kWarp;
  const std::int64_t index = blockIdx.x;
  const T* map = static_cast<const T*>(job.maps) + index * size;
  Peak peak = highest(scan<T, kBlock>(map, size, thread), group);
  if (group.lane == 0) peaks[warp] = peak;
  __syncthreads();
  if (warp != 0) return;
  peak = highest(peaks[group.lane % (kBlock / kWarp)], group);
  finish(job, index, map, place(map, size, peak, group), windows, group);
}

cudaError_t launch(void (*kernel)(DecodeJob), const DecodeJob& job, int threads, int maps_a_block, cudaStream_t stream) {
  const std::int64_t blocks = (job.count - 1) / maps_a_block + 1;
  if (blocks > INT_MAX) return cudaErrorInvalidValue;
  const int side = 2 * job.parameters.radius + 1;
  const std::size_t shared = static_cast<std::size_t>(maps_a_block * side * side) * sizeof(float);
  DecodeJob copy = job;
  void* arguments[] = {&copy};
  return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads)),
                          arguments, shared, stream);
}

// Few threads a map solve with the fewest instructions, but need many maps to fill the GPU; with few maps, more threads hide the latency.
// A block scans fastest, but while its first warp solves, the others' registers lie idle.
int threads_a_map(const DecodeJob& job, int multiprocessors) {
  if (job.count >= static_cast<std::int64_t>(kMany) * multiprocessors && job.parameters.radius <= kFewRadius) return kFew;
  const std::int64_t bytes = static_cast<std::int64_t>(job.height) * job.width * (job.type == MapType::kHalf ? 2 : 4);
  const bool few = job.count <= static_cast<std::int64_t>(kBlocks) * multiprocessors;
  return bytes > (few ? kLarge : kVast) ? kBlock : kWarp;
}

template <typename T>
cudaError_t decode(const DecodeJob& job, int threads, cudaStream_t stream) {
  if (threads == kFew) return launch(decode_by_groups<T, kFew>, job, kFewBlock, kFewBlock / kFew, stream);
  if (threads == kWarp) return launch(decode_by_groups<T, kWarp>, job, kWarp, 1, stream);
  return launch(decode_by_blocks<T>, job, kBlock, 1, stream);
}

bool makes_sense(const DecodeJob& job) {
  const bool memory = job.count == 0 || (job.maps && job.landmarks && job.scores && job.covariance);
  const bool pixels = job.height > 0 && job.width > 0 && static_cast<std::int64_t>(job.height) * job.width <= kMaxPixels;
  return memory && pixels && job.count >= 0 && valid(job.parameters) && job.stride > 0;
}

} // namespace

cudaError_t decode_maps(const DecodeJob& job, cudaStream_t stream) {
  if (!makes_sense(job)) return cudaErrorInvalidValue;
  if (job.count == 0) return cudaSuccess;
  int device = 0, multiprocessors = 0;
  cudaError_t code = cudaGetDevice(&device);
  if (code == cudaSuccess) code = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (code != cudaSuccess) return code;
  const int threads = threads_a_map(job, multiprocessors);
  return job.type == MapType::kHalf ? decode<__half>(job, threads, stream) : decode<float>(job, threads, stream);
}

} // namespace keyposs
