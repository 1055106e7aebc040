// The two functions that TensorRT looks for in a plugin library (IPluginRegistry::loadLibrary; trtexec --dynamicPlugins; Python's
// load_library; libraries inside an engine). TensorRT is not linked, so the library loads without it.
#include <cstdint>

#include <NvInferRuntime.h>

#include "multilateration_creator.h"
#include "plugin_log.h"

static_assert(NV_TENSORRT_MAJOR > 10 || (NV_TENSORRT_MAJOR == 10 && NV_TENSORRT_MINOR >= 3), "needs the headers of TensorRT 10.3 or newer");

#define KEYPOSS_EXPORT extern "C" __attribute__((visibility("default")))

KEYPOSS_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { keyposs::set_logger_finder(finder); }

KEYPOSS_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(std::int32_t& count) {
  static keyposs::MultilaterationCreator creator;
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
  count = 1;
  return creators;
}
