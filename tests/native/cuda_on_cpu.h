// As much of CUDA as the kernels of plugins/ use, on the CPU: each thread of a block is a fibre, the blocks run one after another.
// A lane that waits for one that has left, a barrier that is never reached and a write beyond the shared memory fail the launch.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace cuda_on_cpu {

constexpr std::size_t kStack = 64 * 1024;
constexpr std::size_t kSharedLimit = 48 * 1024; // what every GPU gives a block unasked

struct Fibre {
  ucontext_t context{};
  std::unique_ptr<char[]> stack{new char[kStack]};
  unsigned index = 0, exchanges = 0, barriers = 0;
  std::uint32_t slots[2] = {};
  bool done = false;
};

inline std::vector<std::unique_ptr<Fibre>> fibres; // of the block that runs
inline Fibre* current = nullptr;
inline ucontext_t scheduler;
inline std::function<void()> body;
inline unsigned long progress = 0;
inline bool failed = false;
inline bool backwards = false; // the order in which the threads get their turn
inline int multiprocessors = 1;
inline int launches = 0;
inline dim3 last_block;

inline void yield() { swapcontext(&current->context, &scheduler); }

// A thread that fails gets no further turn, nor does any other.
inline void fail(const char* what) {
  std::fprintf(stderr, "CUDA on the CPU: %s\n", what);
  failed = true;
  if (current) yield();
}

inline void enter() {
  body();
  current->done = true;
  ++progress;
  yield();
}

inline void run_block(unsigned threads) {
  while (fibres.size() < threads) fibres.push_back(std::make_unique<Fibre>());
  for (unsigned i = 0; i < threads; ++i) {
    Fibre& fibre = *fibres[i];
    fibre.index = i, fibre.exchanges = fibre.barriers = 0, fibre.done = false;
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack.get();
    fibre.context.uc_stack.ss_size = kStack;
    makecontext(&fibre.context, enter, 0);
  }
  for (bool busy = true; busy && !failed;) {
    const unsigned long before = progress;
    busy = false;
    for (unsigned i = 0; i < threads && !failed; ++i) {
      current = fibres[backwards ? threads - 1 - i : i].get();
      if (current->done) continue;
      busy = true;
      swapcontext(&scheduler, &current->context);
    }
    current = nullptr;
    if (busy && !failed && progress == before) fail("every thread waits");
  }
}

// The value that lane (mine xor step) of my warp gives in its exchange of the same number; all lanes of the mask must come.
template <typename T>
T exchange(unsigned mask, T value, int step) {
  static_assert(sizeof(T) == sizeof(std::uint32_t));
  Fibre& me = *current;
  const unsigned lane = me.index % 32, first = me.index - lane, partner = lane ^ static_cast<unsigned>(step);
  if (!(mask >> lane & 1) || !(mask >> partner & 1)) fail("a lane exchanges with one outside its mask");
  const unsigned slot = me.exchanges++ % 2;
  std::memcpy(&me.slots[slot], &value, sizeof value);
  ++progress;
  for (unsigned other = 0; other < 32; ++other)
    while ((mask >> other & 1) && fibres[first + other]->exchanges < me.exchanges) {
      if (fibres[first + other]->done) fail("a lane waits for one that has left");
      yield();
    }
  T theirs;
  std::memcpy(&theirs, &fibres[first + partner]->slots[slot], sizeof theirs);
  return theirs;
}

struct Thread {
  struct {
    operator unsigned() const { return current->index; }
  } x;
};
struct Index {
  unsigned x = 0, y = 0, z = 0;
};

} // namespace cuda_on_cpu

#undef __launch_bounds__
#define __launch_bounds__(...)

inline cuda_on_cpu::Thread threadIdx;
inline cuda_on_cpu::Index blockIdx, blockDim;

using std::max;
using std::min;

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int step) {
  return cuda_on_cpu::exchange(mask, value, step);
}
inline void __syncwarp(unsigned mask) { cuda_on_cpu::exchange(mask, 0, 0); }
inline void __syncthreads() {
  using namespace cuda_on_cpu;
  const unsigned mine = ++current->barriers;
  ++progress;
  for (unsigned i = 0; i < blockDim.x; ++i)
    while (!fibres[i]->done && fibres[i]->barriers < mine) yield();
}
inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
template <typename T>
T __ldg(const T* address) {
  if (reinterpret_cast<std::uintptr_t>(address) % sizeof(T)) cuda_on_cpu::fail("a load that is not aligned");
  return *address;
}
