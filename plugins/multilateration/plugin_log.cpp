#include "plugin_log.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>

namespace keyposs {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> current_finder{nullptr};

nvinfer1::ILogger* logger() noexcept {
  nvinfer1::ILoggerFinder* finder = current_finder.load();
  try {
    return finder ? finder->findLogger() : nullptr;
  } catch (...) { // findLogger is not noexcept, and nothing may leave the library
    return nullptr;
  }
}

} // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept { current_finder.store(finder); }

void log_error(const char* format, ...) noexcept {
  char line[500];
  const int head = std::snprintf(line, sizeof line, "%s: ", kPluginName);
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line + head, sizeof line - static_cast<std::size_t>(head), format, arguments);
  va_end(arguments);
  if (nvinfer1::ILogger* log = logger())
    log->log(nvinfer1::ILogger::Severity::kERROR, line);
  else
    std::fprintf(stderr, "error: %s\n", line);
}

} // namespace keyposs
