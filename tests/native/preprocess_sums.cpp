// Makes crops of random frames and prints a checksum of each launch, so that one processor can be held against another.
#include <cstdio>

#include "harness/cases.h"

int main() {
  harness::Random random(1);
  for (const harness::Case& c : harness::cases({1, 8, 33, 38, 64}, 10)) {
    if (c.shift) continue;
    std::vector<harness::Frame> frames;
    std::vector<KeypossCrop> rows;
    for (int i = 0; i < 6; ++i) frames.emplace_back(random, i % 3, c.odd);
    for (int i = 0; i < c.count; ++i) {
      const harness::Frame& frame = frames[random() % frames.size()];
      rows.push_back(harness::row_of(frame, frame.pixels.data(), frame.chroma.data(), c.size, random));
    }
    std::vector<std::uint8_t> out(c.bytes());
    keyposs::make_crops_on_cpu(keyposs::crop_job(rows.data(), c.count, c.size, out.data(), c.layout, c.mean(), c.scale(), c.border));
    std::uint32_t sum = 2166136261u;
    for (std::uint8_t byte : out) sum = (sum ^ byte) * 16777619u;
    std::printf("%s: %08x\n", c.name().c_str(), static_cast<unsigned>(sum));
  }
}
