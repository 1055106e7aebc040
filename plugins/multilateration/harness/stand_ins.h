// What the plugin meets of TensorRT, played by the harness: a log, shape expressions, fields. And the count of its checks.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <deque>
#include <limits>
#include <string>
#include <vector>

#include <NvInferRuntime.h>

namespace harness {

class Report {
 public:
  __attribute__((format(printf, 3, 4))) bool check(bool good, const char* format, ...) {
    ++checks_;
    if (good) return true;
    ++failures_;
    va_list arguments;
    va_start(arguments, format);
    std::fputs("FAILED: ", stdout);
    std::vprintf(format, arguments);
    std::fputs("\n", stdout);
    va_end(arguments);
    return false;
  }
  int checks() const { return checks_; }
  int failures() const { return failures_; }

 private:
  int checks_ = 0, failures_ = 0;
};

class Log final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* text) noexcept override {
    if (severity <= Severity::kERROR) errors.emplace_back(text);
  }
  // Whether just one error came since the last call, with the plugin's name and each of `words`.
  bool one_error(const std::vector<std::string>& words) {
    const std::vector<std::string> seen = std::move(errors);
    errors.clear();
    last = seen.empty() ? "nothing in the log" : seen.back();
    bool good = seen.size() == 1 && last.find("KeyPosSMultilateration: ") == 0;
    for (const std::string& word : words) good = good && last.find(word) != std::string::npos;
    return good;
  }

  std::vector<std::string> errors;
  std::string last;
};

class Finder final : public nvinfer1::ILoggerFinder {
 public:
  explicit Finder(nvinfer1::ILogger& log) : log_(&log) {}
  nvinfer1::ILogger* findLogger() override { return log_; }

 private:
  nvinfer1::ILogger* log_;
};

// A constant, or an input dimension that is not known when the network is built.
class Expression final : public nvinfer1::IDimensionExpr {
 public:
  Expression(bool constant, std::int64_t value) : value_(constant, value) { mImpl = &value_; }

 private:
  struct Value final : nvinfer1::apiv::VDimensionExpr {
    Value(bool is_constant, std::int64_t number) : constant(is_constant), value(number) {}
    bool isConstant() const override { return constant; }
    std::int64_t getConstantValue() const override { return constant ? value : std::numeric_limits<std::int64_t>::min(); }
    bool isSizeTensor() const override { return false; }
    bool constant;
    std::int64_t value;
  } value_;
};

class ExpressionBuilder final : public nvinfer1::IExprBuilder {
 public:
  ExpressionBuilder() { mImpl = &maker_; }
  const Expression* input(std::int64_t size) { return &maker_.made.emplace_back(size >= 0, size); } // -1: not known

 private:
  struct Maker final : nvinfer1::apiv::VExprBuilder {
    const nvinfer1::IDimensionExpr* constant(std::int64_t value) override { return &made.emplace_back(true, value); }
    const nvinfer1::IDimensionExpr* operation(nvinfer1::DimensionOperation, const nvinfer1::IDimensionExpr&,
                                              const nvinfer1::IDimensionExpr&) override {
      return nullptr;
    }
    const nvinfer1::IDimensionExpr* declareSizeTensor(std::int32_t, const nvinfer1::IDimensionExpr&,
                                                      const nvinfer1::IDimensionExpr&) override {
      return nullptr;
    }
    std::deque<Expression> made;
  } maker_;
};

// Fields that own their data; the data are not aligned, as in a plan.
class Fields {
 public:
  Fields& add(const char* name, nvinfer1::PluginFieldType type, const void* data, std::size_t bytes, int length) {
    std::string& copy = data_.emplace_back(1 + bytes, '\0');
    if (bytes) std::memcpy(&copy[1], data, bytes);
    fields_.emplace_back(name, data ? &copy[1] : nullptr, type, length);
    return *this;
  }
  Fields& add(const char* name, float value) { return add(name, nvinfer1::PluginFieldType::kFLOAT32, &value, sizeof value, 1); }
  Fields& add(const char* name, std::int32_t value) { return add(name, nvinfer1::PluginFieldType::kINT32, &value, sizeof value, 1); }
  Fields& add(const char* name, const char* text, bool terminated = false) {
    const std::size_t bytes = std::strlen(text) + (terminated ? 1 : 0);
    return add(name, nvinfer1::PluginFieldType::kCHAR, text, bytes, static_cast<int>(bytes));
  }
  Fields& without(const char* name) {
    for (std::size_t i = fields_.size(); i-- > 0;)
      if (std::strcmp(fields_[i].name, name) == 0) fields_.erase(fields_.begin() + static_cast<std::ptrdiff_t>(i));
    return *this;
  }
  const nvinfer1::PluginFieldCollection* collection() {
    collection_ = {static_cast<std::int32_t>(fields_.size()), fields_.data()};
    return &collection_;
  }

 private:
  std::deque<std::string> data_;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

inline nvinfer1::PluginTensorDesc tensor(const std::vector<std::int64_t>& shape, nvinfer1::DataType type = nvinfer1::DataType::kFLOAT,
                                         nvinfer1::TensorFormat format = nvinfer1::TensorFormat::kLINEAR) {
  nvinfer1::PluginTensorDesc description{};
  description.dims.nbDims = static_cast<std::int32_t>(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) description.dims.d[i] = shape[i];
  description.type = type, description.format = format, description.scale = -1;
  return description;
}

} // namespace harness
