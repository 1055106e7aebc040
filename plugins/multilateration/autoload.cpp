// A library for programs that only dlopen a plugin library: DeepStream's custom-lib-path, Triton, trtexec --staticPlugins. When it is
// opened, it asks the TensorRT of the process to load the plugin library beside it. A library of its own, as registering while
// TensorRT itself is loading the plugin could wait for a lock that TensorRT holds.
#include <climits>
#include <cstdio>
#include <cstring>

#include <dlfcn.h>

#include <NvInferRuntime.h>

#define KEYPOSS_TEXT(value) KEYPOSS_TEXT_OF(value)
#define KEYPOSS_TEXT_OF(value) #value

namespace {

constexpr const char* kPlugin = "libkeyposs_multilateration_plugin.so";
// Only the major version compiled against: the layout of IPluginRegistry differs from one to the next.
constexpr const char* kTensorRT = "libnvinfer.so." KEYPOSS_TEXT(NV_TENSORRT_MAJOR);

nvinfer1::IPluginRegistry* find_registry() {
  void* tensorrt = dlopen(kTensorRT, RTLD_NOLOAD | RTLD_LAZY);
  if (!tensorrt) return nullptr;
  const auto get = reinterpret_cast<nvinfer1::IPluginRegistry* (*)() noexcept>(dlsym(tensorrt, "getPluginRegistry"));
  dlclose(tensorrt); // it stays, whoever loaded it
  return get ? get() : nullptr;
}

// Puts the path of the plugin library in the folder of this one into `path`.
bool find_plugin(char (&path)[PATH_MAX]) {
  Dl_info mine{};
  if (!dladdr(reinterpret_cast<void*>(&find_registry), &mine) || !mine.dli_fname) return false;
  const char* slash = std::strrchr(mine.dli_fname, '/');
  const int folder = slash ? static_cast<int>(slash - mine.dli_fname) + 1 : 0;
  const int length = std::snprintf(path, sizeof path, "%.*s%s", folder, mine.dli_fname, kPlugin);
  return length > 0 && length < static_cast<int>(sizeof path);
}

struct Autoload {
  Autoload() {
    char path[PATH_MAX];
    nvinfer1::IPluginRegistry* registry = find_registry();
    if (registry && find_plugin(path) && !registry->loadLibrary(path))
      std::fprintf(stderr, "error: KeyPosSMultilateration: TensorRT cannot load '%s'.\n", path);
  }
} autoload;

} // namespace
