// The attributes of the ONNX node or network layer: read from TensorRT's fields, checked, and written back.
#pragma once

#include <array>

#include <NvInferRuntime.h>

#include "multilateration.h"

namespace keyposs {

constexpr float kMaxStride = 1e6f;

struct Attributes {
  Parameters parameters;
  float stride = 1;        // crop pixels a heatmap pixel
  bool half_pixel = false; // the grid: heatmap pixel i lies at i * stride in the crop, or at (i + 0.5) * stride - 0.5

  const char* grid() const { return half_pixel ? "half_pixel" : "corner"; }
  float shift() const { return half_pixel ? (stride - 1) / 2 : 0; }
};

using AttributeFields = std::array<nvinfer1::PluginField, 5>;

// Names and types, without data.
AttributeFields attribute_fields() noexcept;

// Fields that point into `attributes`, which must outlive them; read_attributes() restores the same attributes from them.
AttributeFields attribute_fields(const Attributes& attributes) noexcept;

// False, and a line in the log that names the attribute and says what is allowed, where one is missing, unknown, of another type, out
// of range or given twice. Names that start with "plugin_" are TensorRT's own and are passed over.
bool read_attributes(const nvinfer1::PluginFieldCollection* fields, Attributes& attributes) noexcept;

} // namespace keyposs
