#include "multilateration_plugin.h"

#include <cstdio>
#include <new>

#include <cuda_runtime_api.h>

#include "multilateration_kernel.h"
#include "plugin_log.h"

namespace keyposs {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

constexpr std::int32_t kFailed = 1; // TensorRT asks for "not 0"
constexpr std::int32_t kInputs = 1, kOutputs = 3;
enum Output { kLandmarks, kScores, kCovariance };
constexpr const char* kOutputNames[kOutputs] = {"landmarks", "scores", "covariance"};
constexpr int kRanks[kOutputs] = {3, 2, 3};
constexpr std::int64_t kLast[kOutputs] = {2, 0, 3}; // the last dimension, where it is not L

bool expect_tensors(std::int32_t inputs, std::int32_t outputs) {
  if (inputs == kInputs && outputs == kOutputs) return true;
  log_error("there are %d inputs and %d outputs; it has 1 input, the heatmaps, and 3 outputs, landmarks, scores and covariance.", inputs,
            outputs);
  return false;
}

bool is_map_type(DataType type) { return type == DataType::kFLOAT || type == DataType::kHALF; }

bool is_map_tensor(const PluginTensorDesc& tensor) { return is_map_type(tensor.type) && tensor.format == TensorFormat::kLINEAR; }

bool is_result_tensor(const PluginTensorDesc& tensor) { return tensor.type == DataType::kFLOAT && tensor.format == TensorFormat::kLINEAR; }

// Sizes of -1 are not known yet.
bool expect_map_shape(const Dims& dims, bool may_be_unknown) {
  bool good = dims.nbDims == 4;
  for (int i = 0; good && i < 4; ++i) good = dims.d[i] >= (i < 2 ? 0 : 1) || (may_be_unknown && dims.d[i] == -1);
  if (good) good = dims.d[2] <= kMaxPixels && dims.d[3] <= kMaxPixels && dims.d[2] * dims.d[3] <= kMaxPixels;
  if (!good)
    log_error("the heatmaps have %d dimensions, (%lld, %lld, %lld, %lld, ...); they must be [N, L, H, W] with 1 to 2^30 pixels a map.",
              static_cast<int>(dims.nbDims), static_cast<long long>(dims.d[0]), static_cast<long long>(dims.d[1]),
              static_cast<long long>(dims.d[2]), static_cast<long long>(dims.d[3]));
  return good;
}

bool expect_map_tensor(const PluginTensorDesc& tensor) {
  if (is_map_tensor(tensor)) return expect_map_shape(tensor.dims, false);
  log_error("the heatmaps have data type %d in format %d; they must be float32 or float16 in linear format.", static_cast<int>(tensor.type),
            static_cast<int>(tensor.format));
  return false;
}

bool expect_result_tensor(const PluginTensorDesc& tensor, int output, const Dims& maps) {
  bool good = is_result_tensor(tensor) && tensor.dims.nbDims == kRanks[output];
  good = good && tensor.dims.d[0] == maps.d[0] && tensor.dims.d[1] == maps.d[1];
  good = good && (kRanks[output] == 2 || tensor.dims.d[2] == kLast[output]);
  if (!good)
    log_error("output '%s' is not of the type float32 and the shape that belongs to heatmaps of N = %lld and L = %lld.",
              kOutputNames[output], static_cast<long long>(maps.d[0]), static_cast<long long>(maps.d[1]));
  return good;
}

} // namespace

MultilaterationPlugin::MultilaterationPlugin(const Attributes& attributes) noexcept
    : attributes_(attributes),
      fields_(attribute_fields(attributes_)),
      collection_{static_cast<std::int32_t>(fields_.size()), fields_.data()} {
  const Parameters& p = attributes_.parameters;
  std::snprintf(metadata_, sizeof metadata_, "sigma=%g radius=%d prior=%g stride=%g grid=%s", static_cast<double>(p.sigma), p.radius,
                static_cast<double>(p.prior), static_cast<double>(attributes_.stride), attributes_.grid());
}

nvinfer1::IPluginCapability* MultilaterationPlugin::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
  switch (type) {
    case nvinfer1::PluginCapabilityType::kCORE: return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

nvinfer1::IPluginV3* MultilaterationPlugin::clone() noexcept { return new (std::nothrow) MultilaterationPlugin(attributes_); }

const char* MultilaterationPlugin::getPluginName() const noexcept { return kPluginName; }

const char* MultilaterationPlugin::getPluginVersion() const noexcept { return kPluginVersion; }

const char* MultilaterationPlugin::getPluginNamespace() const noexcept { return ""; }

std::int32_t MultilaterationPlugin::getNbOutputs() const noexcept { return kOutputs; }

std::int32_t MultilaterationPlugin::getOutputDataTypes(DataType* outputs, std::int32_t output_count, const DataType* inputs,
                                                       std::int32_t input_count) const noexcept {
  if (!expect_tensors(input_count, output_count)) return kFailed;
  if (!is_map_type(inputs[0])) {
    log_error("the heatmaps have data type %d; they must be float32 or float16.", static_cast<int>(inputs[0]));
    return kFailed;
  }
  for (int i = 0; i < kOutputs; ++i) outputs[i] = DataType::kFLOAT;
  return 0;
}

std::int32_t MultilaterationPlugin::getOutputShapes(const nvinfer1::DimsExprs* inputs, std::int32_t input_count, const nvinfer1::DimsExprs*,
                                                    std::int32_t, nvinfer1::DimsExprs* outputs, std::int32_t output_count,
                                                    nvinfer1::IExprBuilder& builder) noexcept {
  if (!expect_tensors(input_count, output_count)) return kFailed;
  if (inputs[0].nbDims != 4) {
    log_error("the heatmaps have %d dimensions; they must be [N, L, H, W].", static_cast<int>(inputs[0].nbDims));
    return kFailed;
  }
  for (int i = 0; i < kOutputs; ++i) {
    outputs[i].nbDims = kRanks[i];
    outputs[i].d[0] = inputs[0].d[0], outputs[i].d[1] = inputs[0].d[1];
    if (kRanks[i] == 3) outputs[i].d[2] = builder.constant(kLast[i]);
  }
  return 0;
}

bool MultilaterationPlugin::supportsFormatCombination(std::int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                                      std::int32_t input_count, std::int32_t output_count) noexcept {
  if (input_count != kInputs || output_count != kOutputs || position < 0 || position >= kInputs + kOutputs) return false;
  return position == 0 ? is_map_tensor(tensors[0].desc) : is_result_tensor(tensors[position].desc);
}

std::int32_t MultilaterationPlugin::configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, std::int32_t input_count,
                                                    const nvinfer1::DynamicPluginTensorDesc*, std::int32_t output_count) noexcept {
  return expect_tensors(input_count, output_count) && expect_map_shape(inputs[0].desc.dims, true) ? 0 : kFailed;
}

const char* MultilaterationPlugin::getMetadataString() noexcept { return metadata_; }

std::int32_t MultilaterationPlugin::onShapeChange(const PluginTensorDesc* inputs, std::int32_t input_count, const PluginTensorDesc* outputs,
                                                  std::int32_t output_count) noexcept {
  if (!expect_tensors(input_count, output_count) || !expect_map_tensor(inputs[0])) return kFailed;
  for (int i = 0; i < kOutputs; ++i)
    if (!expect_result_tensor(outputs[i], i, inputs[0].dims)) return kFailed;
  return 0;
}

std::int32_t MultilaterationPlugin::enqueue(const PluginTensorDesc* input_descriptions, const PluginTensorDesc*, const void* const* inputs,
                                            void* const* outputs, void*, cudaStream_t stream) noexcept {
  const PluginTensorDesc& maps = input_descriptions[0];
  if (!expect_map_tensor(maps)) return kFailed;
  const DecodeJob job{inputs[0],
                      static_cast<float*>(outputs[kLandmarks]),
                      static_cast<float*>(outputs[kScores]),
                      static_cast<float*>(outputs[kCovariance]),
                      maps.dims.d[0] * maps.dims.d[1],
                      static_cast<std::int32_t>(maps.dims.d[2]),
                      static_cast<std::int32_t>(maps.dims.d[3]),
                      maps.type == DataType::kHALF ? MapType::kHalf : MapType::kFloat,
                      attributes_.parameters,
                      attributes_.stride,
                      attributes_.shift()};
  const cudaError_t code = decode_maps(job, stream);
  if (code == cudaSuccess) return 0;
  log_error("the kernel was not launched: %s.", cudaGetErrorString(code));
  return kFailed;
}

nvinfer1::IPluginV3* MultilaterationPlugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept { return clone(); }

const nvinfer1::PluginFieldCollection* MultilaterationPlugin::getFieldsToSerialize() noexcept { return &collection_; }

} // namespace keyposs
