// See preprocess_kernel.h. A warp makes 32 x 4 pixels of a crop, each lane four that lie one below the other: neighbouring lanes read
// neighbouring pixels, and the four give each lane enough loads in flight. Blocks of four warps make squarish tiles, so that rotated crops
// find in L1 what the warp above has read.
//
// Amid the region, a pixel and its right neighbour are read as three aligned words instead of six bytes, and the rows of a mean as aligned
// words as well. At the rim, where words would reach beyond the frame, bytes are read. Either way the sums are the same whole numbers.
#include "preprocess_kernel.h"

#include <algorithm>
#include <climits>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace keyposs {
namespace {

constexpr int kWarp = 32;
constexpr int kWarps = 4;          // of a block
constexpr int kRows = 4;           // of a warp, and pixels of a lane
constexpr int kBlocks = 7;         // of a multiprocessor: 72 registers a thread, of which the kernels want hardly more
constexpr int kMaxCrops = 65535;   // of a launch: the third dimension of a grid
constexpr unsigned kAll = 0xffffffffu;

__device__ const std::uint32_t* word_of(const std::uint8_t* address) {
  return reinterpret_cast<const std::uint32_t*>(reinterpret_cast<std::uintptr_t>(address) / 4 * 4);
}

__device__ unsigned byte_in_word(const std::uint8_t* address) {
  return static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(address) % 4);
}

// The word that begins `bytes` (modulo 4) into `low`, where `high` follows it.
__device__ std::uint32_t shifted(std::uint32_t low, std::uint32_t high, unsigned bytes) { return __funnelshift_r(low, high, 8 * bytes); }

// Sums over BGR pixels by aligned words: four pixels are three words, in which __dp4a adds the bytes of a channel.
struct WordRows {
  __device__ static Sums sum(const std::uint8_t* first, std::int32_t pixels) {
    const unsigned skip = byte_in_word(first);
    const std::uint32_t* words = word_of(first);
    Sums sums;
    for (std::uint32_t before = __ldg(words); pixels > 0; pixels -= 4, words += 3) {
      const unsigned end = skip + 3 * static_cast<unsigned>(pixels); // words from here on are not read
      const std::uint32_t w1 = end > 4 ? __ldg(words + 1) : 0, w2 = end > 8 ? __ldg(words + 2) : 0, w3 = end > 12 ? __ldg(words + 3) : 0;
      // b0 g0 r0 b1, g1 r1 b2 g2, r2 b3 g3 r3, without the pixels that do not count
      const std::uint32_t a = shifted(before, w1, skip) & (pixels > 1 ? kAll : 0x00ffffffu);
      const std::uint32_t b = shifted(w1, w2, skip) & (pixels > 2 ? kAll : pixels > 1 ? 0x0000ffffu : 0);
      const std::uint32_t c = shifted(w2, w3, skip) & (pixels > 3 ? kAll : pixels > 2 ? 0x000000ffu : 0);
      sums.b = __dp4a(a, 0x01000001u, __dp4a(b, 0x00010000u, __dp4a(c, 0x00000100u, sums.b)));
      sums.g = __dp4a(a, 0x00000100u, __dp4a(b, 0x01000001u, __dp4a(c, 0x00010000u, sums.g)));
      sums.r = __dp4a(a, 0x00010000u, __dp4a(b, 0x00000100u, __dp4a(c, 0x01000001u, sums.r)));
      before = w3;
    }
    return sums;
  }
};

// The four neighbours of a crop pixel as they come from memory. load() apart from blend(), so that all loads of a lane are under way at
// once; offsets of 32 bits from the first pixel of the region, of which compact() makes sure.
class BgrTaps {
 public:
  struct Origin {
    const std::uint32_t* words;
    unsigned skip, pitch;

    __device__ explicit Origin(const KeypossCrop& crop) {
      const std::uint8_t* first = frame_byte(crop.pixels, crop.pitch, crop.top, 3 * crop.left);
      words = word_of(first), skip = byte_in_word(first), pitch = static_cast<unsigned>(crop.pitch);
    }
  };

  __device__ void load(const Origin& origin, const Place& place) {
    const unsigned first = origin.skip + static_cast<unsigned>(place.y) * origin.pitch + 3 * static_cast<unsigned>(place.x);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const unsigned offset = row ? first + origin.pitch : first;
      const std::uint32_t* from = origin.words + offset / 4;
      words_[row][0] = __ldg(from), words_[row][1] = __ldg(from + 1);
      words_[row][2] = __ldg(from + 2); // which one pair in four needs
      offset_[row] = offset;
    }
  }
  __device__ Colour blend(const Origin&, const Place& place) const {
    Colour rows[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) { // b g r b, g r
      const std::uint32_t* words = words_[row];
      const std::uint32_t a = shifted(words[0], words[1], offset_[row]), b = shifted(words[1], words[2], offset_[row]);
      rows[row] = {across(raised(a, 2), raised(b, 1), place), across(raised(a, 1), raised(b, 0), place),
                   across(raised(a, 0), raised(a, 3), place)};
    }
    return between(rows[0], rows[1], place.down);
  }

 private:
  static constexpr float kRaised = 8388608.0f; // 2^23, whose last bits count from 0

  // kRaised plus a byte of a word: the byte with the upper bits of kRaised.
  __device__ static float raised(std::uint32_t word, unsigned byte) {
    return __uint_as_float(__byte_perm(word, 0x4b000000u, 0x7440u + byte));
  }
  __device__ static float across(float a, float b, const Place& place) { // both differences are exact
    return std::fma(place.across, b - a, a - kRaised);
  }

  std::uint32_t words_[2][3];
  unsigned offset_[2];
};

// The same of NV12, whose chroma is even in address and pitch.
class Nv12Taps {
 public:
  struct Origin {
    const std::uint8_t* luma;
    const std::uint16_t* chroma;
    unsigned pitch, chroma_pitch, odd_column, odd_row;
    Video video;

    __device__ explicit Origin(const KeypossCrop& crop) : video(Video::of(crop.format)) {
      luma = frame_byte(crop.pixels, crop.pitch, crop.top, crop.left), pitch = static_cast<unsigned>(crop.pitch);
      const std::uint8_t* pair = frame_byte(crop.chroma, crop.chroma_pitch, crop.top >> 1, crop.left & ~1);
      chroma = reinterpret_cast<const std::uint16_t*>(pair), chroma_pitch = static_cast<unsigned>(crop.chroma_pitch) / 2;
      odd_column = static_cast<unsigned>(crop.left) % 2, odd_row = static_cast<unsigned>(crop.top) % 2;
    }
  };

  __device__ void load(const Origin& origin, const Place& place) {
    const unsigned x = static_cast<unsigned>(place.x), y = static_cast<unsigned>(place.y);
#pragma unroll
    for (unsigned row = 0; row < 2; ++row) {
      const std::uint8_t* luma = origin.luma + ((y + row) * origin.pitch + x);
      const unsigned chroma = (origin.odd_row + y + row) / 2 * origin.chroma_pitch;
#pragma unroll
      for (unsigned column = 0; column < 2; ++column) {
        luma_[row][column] = __ldg(luma + column);
        chroma_[row][column] = __ldg(origin.chroma + (chroma + (origin.odd_column + x + column) / 2));
      }
    }
  }
  __device__ Colour blend(const Origin& origin, const Place& place) const {
    const auto colour = [&](int row, int column) {
      return origin.video.colour(luma_[row][column], chroma_[row][column] & 255u, chroma_[row][column] >> 8);
    };
    return between(between(colour(0, 0), colour(0, 1), place.across), between(colour(1, 0), colour(1, 1), place.across), place.down);
  }

 private:
  std::uint8_t luma_[2][2];
  std::uint16_t chroma_[2][2];
};

template <typename Taps>
__device__ void gather(const KeypossCrop& crop, const Point (&points)[kRows], Colour (&colours)[kRows]) {
  const typename Taps::Origin origin(crop);
  const Place places[kRows] = {Place(points[0]), Place(points[1]), Place(points[2]), Place(points[3])};
  static_assert(kRows == 4);
  Taps taps[kRows];
#pragma unroll
  for (int k = 0; k < kRows; ++k) taps[k].load(origin, places[k]);
#pragma unroll
  for (int k = 0; k < kRows; ++k) colours[k] = taps[k].blend(origin, places[k]);
}

// Whether both rows lie in the region, and in each of them a pixel to the left of the two neighbours and two to the right, for the words.
__device__ bool amid(const KeypossCrop& crop, const Point& p) {
  return p.u >= 1 && p.u < static_cast<float>(crop.columns - 3) && p.v >= 0 && p.v < static_cast<float>(crop.rows - 1);
}

__device__ bool compact(const KeypossCrop& crop) {
  const std::uint64_t pitch = static_cast<std::uint64_t>(max(crop.pitch, crop.chroma_pitch)); // huge for one below 0
  return min(crop.pitch, crop.chroma_pitch) >= 0 && pitch * static_cast<std::uint64_t>(crop.rows) <= INT_MAX;
}

__device__ bool in_pairs(const KeypossCrop& crop) { // the chroma
  return (reinterpret_cast<std::uintptr_t>(crop.chroma) | static_cast<std::uintptr_t>(crop.chroma_pitch)) % 2 == 0;
}

// The pixels at (x, y) and below it. Their points lie on a line, so all are amid the region where the ends are; rounding keeps their order.
__device__ void sample_column(const KeypossCrop& crop, const Unit& unit, int x, int y, Colour (&colours)[kRows]) {
  Point points[kRows];
#pragma unroll
  for (int k = 0; k < kRows; ++k) points[k] = point_of(crop, x, y + k);
  if (crop.factor == 1 && compact(crop) && amid(crop, points[0]) && amid(crop, points[kRows - 1])) {
    if (crop.format == kBgr) return gather<BgrTaps>(crop, points, colours);
    if (in_pairs(crop)) return gather<Nv12Taps>(crop, points, colours);
  }
  Colour slow[kRows]; // of its own, as what a loop indexes is not kept in registers
#pragma unroll 1
  for (int k = 0; k < kRows; ++k) slow[k] = sample<WordRows>(crop, point_of(crop, x, y + k), unit);
#pragma unroll
  for (int k = 0; k < kRows; ++k) colours[k] = slow[k];
}

// What a warp writes of a crop: `columns` x `rows` pixels, from number `first` of the crop's S * S on.
struct Span {
  std::int64_t crop; // the number of its first value in the output
  int first, columns, rows, lane;

  __device__ Span(int index, int size, int left, int top, int own_lane) {
    crop = static_cast<std::int64_t>(index) * (3 * size * size);
    first = top * size + left, columns = min(kWarp, size - left), rows = min(kRows, size - top), lane = own_lane;
  }
  __device__ bool has(int k) const { return k < rows && lane < columns; }
};

// RGB bytes: 32 pixels are 24 words, of which lane i puts together number i from pixels i + i / 3 and the one after it.
template <bool kWords>
__device__ void write_bytes(const CropJob& job, const Span& span, const Unit& unit, const Colour (&colours)[kRows]) {
  const unsigned lane = static_cast<unsigned>(span.lane), part = lane % 3, from = lane + lane / 3;
  const unsigned bytes = part == 0 ? 0x4210u : part == 1 ? 0x5421u : 0x6542u; // of r g b - and of the next pixel's
  const bool mine = kWords ? 4 * span.lane < 3 * span.columns : span.lane < span.columns;
  std::uint8_t* row = static_cast<std::uint8_t*>(job.out) + span.crop + (3 * span.first + (kWords ? 4 : 3) * span.lane);
#pragma unroll
  for (int k = 0; k < kRows; ++k, row += 3 * job.size) {
    const std::uint32_t r = level_bits(colours[k].r, unit), g = level_bits(colours[k].g, unit), b = level_bits(colours[k].b, unit);
    if constexpr (kWords) {
      const std::uint32_t packed = __byte_perm(__byte_perm(r, g, 0x0040u), b, 0x0410u);
      const std::uint32_t low = __shfl_sync(kAll, packed, from % 32), high = __shfl_sync(kAll, packed, (from + 1) % 32);
      if (mine && k < span.rows) *reinterpret_cast<std::uint32_t*>(row) = __byte_perm(low, high, bytes);
    } else if (mine && k < span.rows) {
      row[0] = static_cast<std::uint8_t>(r), row[1] = static_cast<std::uint8_t>(g), row[2] = static_cast<std::uint8_t>(b);
    }
  }
}

// One plane, from the first pixel of the span. Two lanes side by side swap halves, so that each writes two pixels of one row as a word.
template <bool kWords>
__device__ void write_halves(__half* first, int size, const Span& span, const float (&values)[kRows]) {
  if constexpr (kWords) {
    const int odd = span.lane % 2;
#pragma unroll
    for (int k = 0; k < kRows; k += 2) {
      const float mine = odd ? values[k + 1] : values[k], theirs = __shfl_xor_sync(kAll, odd ? values[k] : values[k + 1], 1);
      const __half2 pair = odd ? __floats2half2_rn(theirs, mine) : __floats2half2_rn(mine, theirs);
      if (span.has(k + odd)) *reinterpret_cast<__half2*>(first + (k + odd) * size + span.lane - odd) = pair;
    }
  } else {
#pragma unroll
    for (int k = 0; k < kRows; ++k)
      if (span.has(k)) first[k * size + span.lane] = __float2half_rn(values[k]);
  }
}

// Planes of floats or halves.
template <int kLayout, bool kWords>
__device__ void write_planes(const CropJob& job, const Span& span, const Unit& unit, const Colour (&colours)[kRows]) {
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    const std::int64_t first = span.crop + (c * job.size * job.size + span.first);
    float values[kRows];
#pragma unroll
    for (int k = 0; k < kRows; ++k) {
      const float value = c == 0 ? colours[k].r : c == 1 ? colours[k].g : colours[k].b;
      values[k] = normalised(value, unit, job.mean[c], job.scale[c]);
    }
    if constexpr (kLayout == kHalves) {
      write_halves<kWords>(static_cast<__half*>(job.out) + first, job.size, span, values);
    } else {
#pragma unroll
      for (int k = 0; k < kRows; ++k)
        if (span.has(k)) static_cast<float*>(job.out)[first + k * job.size + span.lane] = values[k];
    }
  }
}

// kWords: rows of the output begin at whole words.
template <int kLayout, bool kWords>
__global__ void __launch_bounds__(kWarps* kWarp, kBlocks) crop_kernel(const CropJob job) {
  const int lane = static_cast<int>(threadIdx.x % 32u), warp = static_cast<int>(threadIdx.x / 32u); // signed, it takes more instructions
  const int left = static_cast<int>(blockIdx.x) * kWarp, top = (static_cast<int>(blockIdx.y) * kWarps + warp) * kRows;
  if (top >= job.size) return; // the whole warp
  const KeypossCrop crop = checked(job.crops[blockIdx.z]);
  const Unit unit(crop, job.border);
  Colour colours[kRows]; // those beyond the crop are computed too, and not written
  sample_column(crop, unit, left + lane, top, colours);
  const Span span(static_cast<int>(blockIdx.z), job.size, left, top, lane);
  if constexpr (kLayout == kBytes)
    write_bytes<kWords>(job, span, unit, colours);
  else
    write_planes<kLayout, kWords>(job, span, unit, colours);
}

using Kernel = void (*)(CropJob);

Kernel kernel_of(const CropJob& job) {
  if (job.layout == kFloats) return crop_kernel<kFloats, true>;
  const bool words = aligned(job.out, 4) && job.size % (job.layout == kBytes ? 4 : 2) == 0;
  if (job.layout == kBytes) return words ? crop_kernel<kBytes, true> : crop_kernel<kBytes, false>;
  return words ? crop_kernel<kHalves, true> : crop_kernel<kHalves, false>;
}

} // namespace

cudaError_t make_crops(const CropJob& job, cudaStream_t stream) {
  if (!makes_sense(job)) return cudaErrorInvalidValue;
  const auto kernel = reinterpret_cast<const void*>(kernel_of(job));
  if (job.count == 0) {
    cudaFuncAttributes unused;
    return cudaFuncGetAttributes(&unused, kernel);
  }
  const auto blocks = [&](int pixels) { return static_cast<unsigned>((job.size - 1) / pixels + 1); };
  const int element = job.layout == kBytes ? 1 : job.layout == kFloats ? 4 : 2;
  const std::int64_t bytes = static_cast<std::int64_t>(3) * job.size * job.size * element;
  for (std::int32_t first = 0; first < job.count; first += kMaxCrops) { // once, but for counts that no frame has
    CropJob part = job;
    part.crops += first, part.out = static_cast<char*>(job.out) + first * bytes;
    const dim3 grid(blocks(kWarp), blocks(kWarps * kRows), static_cast<unsigned>(std::min(kMaxCrops, job.count - first)));
    void* arguments[] = {&part};
    const cudaError_t code = cudaLaunchKernel(kernel, grid, dim3(kWarps * kWarp), arguments, 0, stream);
    if (code != cudaSuccess) return code;
  }
  return cudaSuccess;
}

} // namespace keyposs
