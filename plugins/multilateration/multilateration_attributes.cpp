#include "multilateration_attributes.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>

#include "plugin_log.h"

namespace keyposs {
namespace {

using nvinfer1::PluginField;
using Type = nvinfer1::PluginFieldType;

enum Index : std::size_t { kSigma, kRadius, kPrior, kStride, kGrid, kAttributes };

struct Description {
  const char* name;
  Type type;
  bool required;
};

constexpr Description kDescriptions[kAttributes] = {
    {"sigma", Type::kFLOAT32, true},  {"radius", Type::kINT32, false}, {"prior", Type::kFLOAT32, false},
    {"stride", Type::kFLOAT32, true}, {"grid", Type::kCHAR, true},
};

// What an attribute may be, for the log.
struct Allowed {
  char text[96];

  explicit Allowed(std::size_t attribute) {
    switch (attribute) {
      case kSigma:
        std::snprintf(text, sizeof text, "one float32 from %g to %g, in heatmap pixels", static_cast<double>(kMinSigma),
                      static_cast<double>(kMaxSigma));
        break;
      case kRadius: std::snprintf(text, sizeof text, "one int32 from 1 to %d, in heatmap pixels", kMaxRadius); break;
      case kPrior: std::snprintf(text, sizeof text, "one float32, 0 or more, infinity included"); break;
      case kStride:
        std::snprintf(text, sizeof text, "one float32 above 0 and up to %g, in crop pixels", static_cast<double>(kMaxStride));
        break;
      default: std::snprintf(text, sizeof text, "the string 'corner' or 'half_pixel'");
    }
  }
};

const char* name_of(Type type) {
  constexpr const char* kNames[] = {"float16", "float32", "float64", "int8", "int16", "int32", "string", "dims"};
  const auto index = static_cast<std::size_t>(type);
  return index < std::size(kNames) ? kNames[index] : "another type";
}

template <typename T>
T value_of(const PluginField& field) {
  T value;
  std::memcpy(&value, field.data, sizeof value); // the data need not be aligned
  return value;
}

bool is(const PluginField& field, const char* text) { // zero-terminated or not
  const auto* data = static_cast<const char*>(field.data);
  const std::size_t given = strnlen(data, static_cast<std::size_t>(field.length));
  return given == std::strlen(text) && std::memcmp(data, text, given) == 0;
}

bool read_number(std::size_t attribute, const PluginField& field, Attributes& attributes) {
  Attributes changed = attributes;
  float& number = attribute == kSigma ? changed.parameters.sigma : attribute == kPrior ? changed.parameters.prior : changed.stride;
  if (attribute == kRadius)
    changed.parameters.radius = value_of<std::int32_t>(field);
  else
    number = value_of<float>(field);
  if (!valid(changed.parameters) || !(changed.stride > 0 && changed.stride <= kMaxStride)) {
    const double value = attribute == kRadius ? changed.parameters.radius : static_cast<double>(number);
    log_error("attribute '%s' is %g; it must be %s.", field.name, value, Allowed(attribute).text);
    return false;
  }
  attributes = changed;
  return true;
}

bool read_grid(const PluginField& field, Attributes& attributes) {
  attributes.half_pixel = is(field, "half_pixel");
  if (attributes.half_pixel || is(field, "corner")) return true;
  log_error("attribute 'grid' is '%.*s'; it must be %s.", field.length < 40 ? field.length : 40, static_cast<const char*>(field.data),
            Allowed(kGrid).text);
  return false;
}

bool read(std::size_t attribute, const PluginField& field, Attributes& attributes) {
  const Description& want = kDescriptions[attribute];
  const bool length = attribute == kGrid ? field.length > 0 : field.length == 1;
  if (field.type != want.type || !length || !field.data) {
    log_error("attribute '%s' is %s of length %d%s; it must be %s.", want.name, name_of(field.type), static_cast<int>(field.length),
              field.data ? "" : " without data", Allowed(attribute).text);
    return false;
  }
  return attribute == kGrid ? read_grid(field, attributes) : read_number(attribute, field, attributes);
}

std::size_t find(const char* name) {
  std::size_t i = 0;
  while (i < kAttributes && std::strcmp(name, kDescriptions[i].name) != 0) ++i;
  return i;
}

} // namespace

AttributeFields attribute_fields() noexcept {
  AttributeFields fields;
  for (std::size_t i = 0; i < kAttributes; ++i) fields[i] = {kDescriptions[i].name, nullptr, kDescriptions[i].type, 1};
  return fields;
}

AttributeFields attribute_fields(const Attributes& attributes) noexcept {
  AttributeFields fields = attribute_fields();
  fields[kSigma].data = &attributes.parameters.sigma;
  fields[kRadius].data = &attributes.parameters.radius;
  fields[kPrior].data = &attributes.parameters.prior;
  fields[kStride].data = &attributes.stride;
  fields[kGrid].data = attributes.grid();
  fields[kGrid].length = static_cast<std::int32_t>(std::strlen(attributes.grid()));
  return fields;
}

bool read_attributes(const nvinfer1::PluginFieldCollection* fields, Attributes& attributes) noexcept {
  bool given[kAttributes] = {};
  const std::int32_t count = fields && fields->fields ? fields->nbFields : 0;
  for (std::int32_t i = 0; i < count; ++i) {
    const PluginField& field = fields->fields[i];
    const char* name = field.name ? field.name : "";
    if (std::strncmp(name, "plugin_", 7) == 0) continue;
    const std::size_t attribute = find(name);
    if (attribute == kAttributes) {
      log_error("there is no attribute '%s'; there are sigma, radius, prior, stride and grid.", name);
      return false;
    }
    if (given[attribute]) {
      log_error("attribute '%s' is given twice; give it once.", name);
      return false;
    }
    if (!read(attribute, field, attributes)) return false;
    given[attribute] = true;
  }
  for (std::size_t i = 0; i < kAttributes; ++i)
    if (kDescriptions[i].required && !given[i]) {
      log_error("attribute '%s' is missing; give %s.", kDescriptions[i].name, Allowed(i).text);
      return false;
    }
  return true;
}

} // namespace keyposs
