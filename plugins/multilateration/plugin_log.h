// Lines in TensorRT's log, each of them headed by the plugin's name.
#pragma once

#include <NvInferRuntime.h>

namespace keyposs {

constexpr const char* kPluginName = "KeyPosSMultilateration";
constexpr const char* kPluginVersion = "1";

// TensorRT hands the finder over when it loads the library; it stays TensorRT's.
void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept;

// To the log of the engine that calls from this thread, or to stderr where there is none. Lines of more than 500 characters are cut.
__attribute__((format(printf, 1, 2))) void log_error(const char* format, ...) noexcept;

} // namespace keyposs
