// Holds the library against the CPU on a GPU, and times it.
//
//   keyposs_preprocess_harness LIBRARY.so            everything
//   keyposs_preprocess_harness LIBRARY.so --brief    fewer crops and no timing, for compute-sanitizer
#include <cstring>

#include <dlfcn.h>

#include "harness.h"

namespace {

int checks = 0, failures = 0;

template <typename Function>
Function symbol(void* library, const char* name) {
  void* found = dlsym(library, name);
  if (!found) std::printf("FAILED: no function %s\n", name), std::exit(1);
  return reinterpret_cast<Function>(found);
}

harness::Library open(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) std::printf("FAILED: %s\n", dlerror()), std::exit(1);
  return {symbol<decltype(&keyposs_preprocess)>(library, "keyposs_preprocess"),
          symbol<decltype(&keyposs_preprocess_error)>(library, "keyposs_preprocess_error")};
}

} // namespace

bool harness::check(bool good, const char* what) {
  ++checks;
  if (!good) ++failures, std::printf("FAILED: %s\n", what);
  return good;
}

int main(int count, char** arguments) {
  const bool brief = count == 3 && std::strcmp(arguments[2], "--brief") == 0;
  if (count != 2 && !brief) {
    std::puts("usage: keyposs_preprocess_harness LIBRARY.so [--brief]");
    return 2;
  }
  const harness::Library library = open(arguments[1]);
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    const std::int32_t code = library.launch(nullptr, 0, 64, nullptr, 0, nullptr, nullptr, 0, nullptr);
    harness::check(code != 0 && std::strlen(library.words(code)) > 0, "an error, and words for it, where there is no GPU");
    harness::check(library.launch(nullptr, 1, 64, nullptr, 0, nullptr, nullptr, 0, nullptr) == 1, "null pointers are refused");
    std::puts("There is no NVIDIA GPU here: the kernel was not run.");
  } else {
    harness::check_on_gpu(library, brief);
    if (!brief) harness::time_on_gpu(library);
  }
  std::printf("%d checks, %d failed\n", checks, failures);
  return failures != 0;
}
