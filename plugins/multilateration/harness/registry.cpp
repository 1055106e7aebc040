// A libnvinfer that is nothing but a plugin registry, to test the library that loads the plugin by itself.
#include <algorithm>
#include <vector>

#include <dlfcn.h>

#include <NvInferRuntime.h>

namespace {

using nvinfer1::AsciiChar;
#if NV_TENSORRT_MAJOR < 11
using nvinfer1::IPluginCreator; // deprecated, but part of the registry
#endif
using nvinfer1::IPluginCreatorInterface;

class Registry final : public nvinfer1::IPluginRegistry {
 public:
  bool registerCreator(IPluginCreatorInterface& creator, AsciiChar const* const) noexcept override {
    creators_.push_back(&creator);
    return true;
  }
  bool deregisterCreator(IPluginCreatorInterface const& creator) noexcept override {
    const auto found = std::find(creators_.begin(), creators_.end(), &creator);
    if (found == creators_.end()) return false;
    creators_.erase(found);
    return true;
  }
  IPluginCreatorInterface* const* getAllCreators(std::int32_t* const count) const noexcept override {
    *count = static_cast<std::int32_t>(creators_.size());
    return creators_.data();
  }

  // The rest is not asked for.
#if NV_TENSORRT_MAJOR < 11
  bool registerCreator(IPluginCreator&, AsciiChar const* const) noexcept override { return false; }
  IPluginCreator* const* getPluginCreatorList(std::int32_t* const) const noexcept override { return nullptr; }
  IPluginCreator* getPluginCreator(AsciiChar const* const, AsciiChar const* const, AsciiChar const* const) noexcept override {
    return nullptr;
  }
  bool deregisterCreator(IPluginCreator const&) noexcept override { return false; }
#endif
  void setErrorRecorder(nvinfer1::IErrorRecorder* const) noexcept override {}
  nvinfer1::IErrorRecorder* getErrorRecorder() const noexcept override { return nullptr; }
  bool isParentSearchEnabled() const override { return true; }
  void setParentSearchEnabled(bool const) override {}
  PluginLibraryHandle loadLibrary(AsciiChar const* path) noexcept override {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void* get = library ? dlsym(library, "getCreators") : nullptr;
    if (!get) return nullptr;
    std::int32_t count = 0;
    auto* const* listed = reinterpret_cast<IPluginCreatorInterface* const* (*)(std::int32_t&)>(get)(count);
    creators_.insert(creators_.end(), listed, listed + count);
    return library;
  }
  void deregisterLibrary(PluginLibraryHandle) noexcept override {}
  IPluginCreatorInterface* getCreator(AsciiChar const* const, AsciiChar const* const, AsciiChar const* const) noexcept override {
    return nullptr;
  }
  nvinfer1::IPluginResource* acquirePluginResource(AsciiChar const*, nvinfer1::IPluginResource*) noexcept override { return nullptr; }
  std::int32_t releasePluginResource(AsciiChar const*) noexcept override { return 1; }
  IPluginCreatorInterface* const* getAllCreatorsRecursive(std::int32_t* const) noexcept { return nullptr; }

 private:
  std::vector<IPluginCreatorInterface*> creators_;
};

} // namespace

extern "C" __attribute__((visibility("default"))) nvinfer1::IPluginRegistry* getPluginRegistry() noexcept {
  static Registry registry;
  return &registry;
}
