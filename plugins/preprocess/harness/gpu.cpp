// The kernel on the GPU against the same maths on the CPU.
#include <cstring>
#include <deque>

#include <cuda_fp16.h>

#include "cases.h"
#include "harness.h"

namespace harness {
namespace {

constexpr std::size_t kGuard = 64; // bytes on both sides of the output that must stay as they are
constexpr int kUntouched = 0xa5;

template <typename T>
void upload(void* to, const std::vector<T>& from) {
  if (!from.empty()) must(cudaMemcpy(to, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
}

// Frames here and on the GPU, and rows that name them here and there.
class Scene {
 public:
  Scene(Random& random, bool odd) {
    for (int i = 0; i < 6; ++i) {
      const Frame& frame = frames_.emplace_back(random, i % 3, odd);
      upload(planes_.emplace_back(frame.pixels.size()).as<void>(), frame.pixels);
      upload(planes_.emplace_back(frame.chroma.size()).as<void>(), frame.chroma);
    }
  }
  void draw(int count, int size, Random& random) {
    here.clear(), there.clear();
    for (int i = 0; i < count; ++i) {
      const std::size_t k = random() % frames_.size();
      const Frame& frame = frames_[k];
      here.push_back(row_of(frame, frame.pixels.data(), frame.chroma.data(), size, random));
      KeypossCrop row = here.back();
      row.pixels = planes_[2 * k].as<std::uint8_t>() + frame.skip;
      row.chroma = frame.chroma.empty() ? nullptr : planes_[2 * k + 1].as<std::uint8_t>() + frame.chroma_skip;
      there.push_back(row);
    }
  }

  std::vector<KeypossCrop> here, there;

 private:
  std::deque<Frame> frames_;
  std::deque<DeviceMemory> planes_;
};

double value_at(const Case& c, const std::uint8_t* bytes, std::size_t index) {
  if (c.layout == keyposs::kBytes) return bytes[index];
  if (c.layout == keyposs::kFloats) {
    float value;
    std::memcpy(&value, bytes + 4 * index, sizeof value);
    return static_cast<double>(value);
  }
  __half value;
  std::memcpy(static_cast<void*>(&value), bytes + 2 * index, sizeof value);
  return static_cast<double>(__half2float(value));
}

struct Tally {
  std::size_t values = 0, different = 0;
};

// The same bits are expected. A level, or what half a level is after scaling, is the most that another way of rounding could make.
void compare(const Case& c, const std::vector<std::uint8_t>& got, const std::vector<std::uint8_t>& want, Tally& tally) {
  const std::size_t first = kGuard + c.shift * c.element(), count = c.bytes() / c.element();
  const double allowed = c.layout == keyposs::kBytes ? 1 : c.normalise ? 0.01 : 0.15;
  double worst = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double a = value_at(c, &got[first], i), b = value_at(c, &want[first], i);
    tally.different += std::memcmp(&got[first + i * c.element()], &want[first + i * c.element()], c.element()) != 0;
    worst = a == b ? worst : std::fmax(worst, std::fabs(a - b));
    if (a != a) worst = 1e9;
  }
  tally.values += count;
  check(worst <= allowed, (c.name() + ": not what the CPU makes").c_str());
  std::vector<std::uint8_t> around = got;
  std::copy(&want[first], &want[first] + c.bytes(), &around[first]);
  check(around == want, (c.name() + ": nothing is written beside the output").c_str());
}

std::vector<std::uint8_t> on_cpu(const Case& c, const Scene& scene) {
  std::vector<std::uint8_t> bytes(c.bytes() + 2 * kGuard, static_cast<std::uint8_t>(kUntouched));
  std::uint8_t* out = bytes.data() + kGuard + c.shift * c.element();
  keyposs::make_crops_on_cpu(keyposs::crop_job(scene.here.data(), c.count, c.size, out, c.layout, c.mean(), c.scale(), c.border));
  return bytes;
}

std::vector<std::uint8_t> download(const DeviceMemory& memory, std::size_t bytes) {
  std::vector<std::uint8_t> host(bytes);
  must(cudaMemcpy(host.data(), memory.as<void>(), bytes, cudaMemcpyDeviceToHost));
  return host;
}

// Launched, and then twice more from a graph with other rows in the same memory.
void run(const Library& library, const Case& c, Random& random, Tally& tally) {
  Scene scene(random, c.odd);
  scene.draw(c.count, c.size, random);
  const std::size_t bytes = c.bytes() + 2 * kGuard;
  const DeviceMemory rows(scene.there.size() * sizeof(KeypossCrop)), output(bytes);
  const Stream stream;
  std::uint8_t* out = output.as<std::uint8_t>() + kGuard + c.shift * c.element();
  const auto launch = [&] {
    library.must(library.launch(rows.as<KeypossCrop>(), c.count, c.size, out, c.layout, c.mean(), c.scale(), c.border, stream));
  };
  const auto prepare = [&] {
    upload(rows.as<void>(), scene.there);
    must(cudaMemset(output.as<void>(), kUntouched, bytes));
    must(cudaDeviceSynchronize()); // this stream does not wait for the default one
  };
  prepare();
  launch();
  must(cudaStreamSynchronize(stream));
  compare(c, download(output, bytes), on_cpu(c, scene), tally);

  cudaGraph_t graph;
  cudaGraphExec_t replay;
  must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  launch();
  must(cudaStreamEndCapture(stream, &graph));
  must(cudaGraphInstantiate(&replay, graph, 0));
  for (int again = 0; again < 2; ++again) {
    scene.draw(c.count, c.size, random);
    prepare();
    must(cudaGraphLaunch(replay, stream));
    must(cudaStreamSynchronize(stream));
    compare(c, download(output, bytes), on_cpu(c, scene), tally);
  }
  must(cudaGraphExecDestroy(replay));
  must(cudaGraphDestroy(graph));
}

void check_refusals(const Library& library) {
  const DeviceMemory rows(sizeof(KeypossCrop)), out(3 * 64 * 64 * 4);
  auto* row = rows.as<KeypossCrop>();
  auto* bytes = out.as<std::uint8_t>();
  check(library.launch(row, -1, 64, bytes, 0, nullptr, nullptr, 0, nullptr) == 1, "a negative count is refused");
  check(library.launch(row, 1, 0, bytes, 0, nullptr, nullptr, 0, nullptr) == 1, "a size of 0 is refused");
  check(library.launch(row, 1, 64, bytes, 3, nullptr, nullptr, 0, nullptr) == 1, "an unknown layout is refused");
  check(library.launch(row, 1, 64, bytes, 0, nullptr, nullptr, 256, nullptr) == 1, "a border above 255 is refused");
  check(library.launch(row, 1, 32, bytes + 2, 1, nullptr, nullptr, 0, nullptr) == 1, "floats off alignment are refused");
  check(library.launch(nullptr, 0, 64, nullptr, 2, nullptr, nullptr, 0, nullptr) == 0, "no crops are made of nothing");
}

} // namespace

void check_on_gpu(const Library& library, bool brief) {
  Random random(1);
  Tally tally;
  check_refusals(library);
  const std::vector<int> sizes = brief ? std::vector<int>{33, 36, 64} : std::vector<int>{1, 3, 8, 33, 36, 38, 64, 112, 128, 256};
  for (int round = 0; round < (brief ? 1 : 5); ++round)
    for (const Case& c : cases(sizes, brief ? 6 : 24)) run(library, c, random, tally);
  std::printf("%zu values, of which %zu differ in a bit from the CPU's\n", tally.values, tally.different);
}

} // namespace harness
