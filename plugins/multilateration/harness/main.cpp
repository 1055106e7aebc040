// Plays TensorRT for the plugin: loads the library as TensorRT does, creates, asks, serialises, refuses; with a GPU also runs and times it.
//
//   keyposs_multilateration_harness PLUGIN.so                  everything; the part for the GPU is left out where there is none
//   keyposs_multilateration_harness PLUGIN.so --brief          fewer maps and no timing, for compute-sanitizer
//   keyposs_multilateration_harness AUTOLOAD.so --registry LIB   autoload.cpp alone, with registry.cpp's library in place of libnvinfer
#include <dlfcn.h>

#include "harness.h"

namespace {

using harness::Report;
using nvinfer1::IPluginCreatorInterface;
using GetCreators = IPluginCreatorInterface* const* (*)(std::int32_t&);
using SetLoggerFinder = void (*)(nvinfer1::ILoggerFinder*);

template <typename Function>
Function symbol(void* library, const char* name) {
  void* found = dlsym(library, name);
  if (!found) std::printf("FAILED: no function %s\n", name), std::exit(1);
  return reinterpret_cast<Function>(found);
}

void* open(const char* path) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) std::printf("FAILED: %s\n", dlerror()), std::exit(1);
  return library;
}

// A library is only opened, as DeepStream and Triton do.
void check_autoload(const char* autoload, const char* tensorrt, Report& report) {
  nvinfer1::IPluginRegistry* registry = symbol<nvinfer1::IPluginRegistry* (*)() noexcept>(open(tensorrt), "getPluginRegistry")();
  void* library = open(autoload);
  std::int32_t count = 0;
  IPluginCreatorInterface* const* listed = registry->getAllCreators(&count);
  if (!report.check(count == 1, "TensorRT loads the plugin")) return;
  auto* creator = static_cast<nvinfer1::IPluginCreatorV3One*>(listed[0]);
  dlclose(library);
  report.check(std::strcmp(creator->getPluginName(), "KeyPosSMultilateration") == 0, "the plugin outlives the library that loaded it");
}

int conclude(const Report& report) {
  std::printf("%d checks, %d failed\n", report.checks(), report.failures());
  return report.failures() == 0 ? 0 : 1;
}

} // namespace

int main(int count, char** arguments) {
  const std::string option = count > 2 ? arguments[2] : "";
  Report report;
  if (count == 4 && option == "--registry") {
    check_autoload(arguments[1], arguments[3], report);
    return conclude(report);
  }
  if (count < 2 || count > 3 || (count == 3 && option != "--brief")) {
    std::puts("usage: keyposs_multilateration_harness PLUGIN.so [--brief], or AUTOLOAD.so --registry LIBRARY.so");
    return 2;
  }

  harness::Log log;
  harness::Finder finder(log);
  void* library = open(arguments[1]);
  symbol<SetLoggerFinder>(library, "setLoggerFinder")(&finder);
  std::int32_t creators = 0;
  IPluginCreatorInterface* const* listed = symbol<GetCreators>(library, "getCreators")(creators);
  if (!report.check(creators == 1 && listed && listed[0], "one creator")) return conclude(report);
  auto& creator = *static_cast<nvinfer1::IPluginCreatorV3One*>(listed[0]);
  harness::check_creator(creator, log, report);
  harness::check_plugin(creator, log, report);

  const harness::MakePlugin make = [&](const harness::Settings& settings) {
    harness::Fields fields;
    fields.add("sigma", settings.sigma).add("radius", settings.radius).add("prior", settings.prior).add("stride", settings.stride);
    fields.add("grid", "half_pixel");
    return harness::Plugin(creator.createPlugin("layer", fields.collection(), nvinfer1::TensorRTPhase::kBUILD));
  };
  const bool brief = option == "--brief";
  if (!harness::check_on_gpu(make, brief, report))
    std::puts("There is no NVIDIA GPU here: the kernel was not run.");
  else if (!brief)
    harness::time_on_gpu(make);
  for (const std::string& line : log.errors) report.check(false, "an error in the log: %s", line.c_str());
  return conclude(report);
}
