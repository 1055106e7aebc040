// Makes the plugin from the fields of a network's layer, and again from those that the plugin serialised into an engine.
#pragma once

#include <NvInferRuntime.h>

#include "multilateration_attributes.h"

namespace keyposs {

class MultilaterationCreator final : public nvinfer1::IPluginCreatorV3One {
 public:
  MultilaterationCreator() noexcept;

  // Null, and a line in the log, for fields that make no sense.
  nvinfer1::IPluginV3* createPlugin(const char* name, const nvinfer1::PluginFieldCollection* fields,
                                    nvinfer1::TensorRTPhase phase) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override;
  const char* getPluginName() const noexcept override;
  const char* getPluginVersion() const noexcept override;
  const char* getPluginNamespace() const noexcept override;

 private:
  const AttributeFields fields_;
  const nvinfer1::PluginFieldCollection collection_;
};

} // namespace keyposs
