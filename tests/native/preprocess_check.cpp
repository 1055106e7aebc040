// The crop kernel on the CPU against the same maths pixel by pixel, for the sanitizers: every frame is a piece of memory of just its size.
#include <memory>

#include "preprocess_on_cpu.h"

#include "../../plugins/preprocess/harness/cases.h"

namespace {

constexpr std::size_t kGuard = 64;
constexpr std::uint8_t kUntouched = 0xa5;

// Where the two differ, or something was written beside the output.
bool differs(const harness::Case& c, bool backwards, harness::Random& random) {
  std::vector<harness::Frame> frames;
  std::vector<KeypossCrop> rows;
  for (int i = 0; i < 6; ++i) frames.emplace_back(random, i % 3, c.odd);
  for (int i = 0; i < c.count; ++i) {
    const harness::Frame& frame = frames[random() % frames.size()];
    rows.push_back(harness::row_of(frame, frame.pixels.data(), frame.chroma.data(), c.size, random));
  }
  std::vector<std::uint8_t> got(c.bytes() + 2 * kGuard, kUntouched), want = got;
  const std::size_t first = kGuard + c.shift * c.element();
  cuda_on_cpu::backwards = backwards;
  const auto job = [&](std::uint8_t* out) {
    return keyposs::crop_job(rows.data(), c.count, c.size, out, c.layout, c.mean(), c.scale(), c.border);
  };
  const cudaError_t code = keyposs::make_crops(job(got.data() + first), nullptr);
  keyposs::make_crops_on_cpu(job(want.data() + first));
  return code != cudaSuccess || got != want;
}

} // namespace

int main() {
  harness::Random random(1);
  int crops = 0, bad = 0;
  for (const harness::Case& c : harness::cases({1, 3, 33, 36, 38}, 20)) {
    crops += c.count;
    if (!differs(c, crops / c.count % 2 == 0, random)) continue; // the threads in one order and in the other
    ++bad;
    std::printf("%s: not what the CPU makes\n", c.name().c_str());
  }
  std::printf("%d crops, %d wrong launches\n", crops, bad);
  return bad != 0;
}
