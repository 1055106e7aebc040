#include "multilateration_creator.h"

#include <cstdint>
#include <new>

#include "multilateration_plugin.h"
#include "plugin_log.h"

namespace keyposs {

MultilaterationCreator::MultilaterationCreator() noexcept
    : fields_(attribute_fields()), collection_{static_cast<std::int32_t>(fields_.size()), fields_.data()} {}

nvinfer1::IPluginV3* MultilaterationCreator::createPlugin(const char*, const nvinfer1::PluginFieldCollection* fields,
                                                          nvinfer1::TensorRTPhase) noexcept {
  Attributes attributes;
  if (!read_attributes(fields, attributes)) return nullptr;
  return new (std::nothrow) MultilaterationPlugin(attributes);
}

const nvinfer1::PluginFieldCollection* MultilaterationCreator::getFieldNames() noexcept { return &collection_; }

const char* MultilaterationCreator::getPluginName() const noexcept { return kPluginName; }

const char* MultilaterationCreator::getPluginVersion() const noexcept { return kPluginVersion; }

const char* MultilaterationCreator::getPluginNamespace() const noexcept { return ""; }

} // namespace keyposs
