// The creator: its own description, good fields, and each kind of bad field, whose log line must name it.
#include <cmath>

#include "harness.h"

namespace harness {
namespace {

using Type = nvinfer1::PluginFieldType;
constexpr auto kBuild = nvinfer1::TensorRTPhase::kBUILD;

Fields good() {
  Fields fields;
  fields.add("sigma", 2.0f).add("radius", 5).add("prior", 0.015f).add("stride", 4.0f).add("grid", "half_pixel");
  return fields;
}

void check_description(nvinfer1::IPluginCreatorV3One& creator, Report& report) {
  report.check(std::strcmp(creator.getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") == 0, "the creator is a V3One");
  report.check(std::strcmp(creator.getPluginName(), "KeyPosSMultilateration") == 0, "name");
  report.check(std::strcmp(creator.getPluginVersion(), "1") == 0, "version");
  report.check(std::strcmp(creator.getPluginNamespace(), "") == 0, "namespace");
  const nvinfer1::PluginFieldCollection* names = creator.getFieldNames();
  const std::vector<std::pair<std::string, Type>> want = {
      {"sigma", Type::kFLOAT32}, {"radius", Type::kINT32}, {"prior", Type::kFLOAT32}, {"stride", Type::kFLOAT32}, {"grid", Type::kCHAR}};
  report.check(names->nbFields == static_cast<int>(want.size()), "the number of fields");
  for (std::size_t i = 0; i < want.size(); ++i)
    report.check(names->fields[i].name == want[i].first && names->fields[i].type == want[i].second, "field %s", want[i].first.c_str());
}

void check_good(nvinfer1::IPluginCreatorV3One& creator, Log& log, Report& report) {
  const auto accepts = [&](const char* what, Fields fields) {
    const Plugin plugin(creator.createPlugin("layer", fields.collection(), kBuild));
    report.check(plugin && log.errors.empty(), "%s is taken", what);
    log.errors.clear();
  };
  accepts("all fields", good());
  accepts("required fields alone", good().without("radius").without("prior"));
  accepts("a grid that ends in zero", good().without("grid").add("grid", "corner", true));
  accepts("a grid without zero", good().without("grid").add("grid", "corner"));
  accepts("TensorRT's own fields", good().add("plugin_version", "1", true).add("plugin_namespace", "", true).add("plugin_id", 7));
  accepts("a prior of infinity", good().without("prior").add("prior", INFINITY));
  accepts("a prior of 0", good().without("prior").add("prior", 0.0f));
  accepts("the largest radius", good().without("radius").add("radius", 16));
}

void check_bad(nvinfer1::IPluginCreatorV3One& creator, Log& log, Report& report) {
  const auto refuses = [&](Fields fields, const std::vector<std::string>& words) {
    const Plugin plugin(creator.createPlugin("layer", fields.collection(), kBuild));
    report.check(!plugin, "refused: %s", words.front().c_str());
    report.check(log.one_error(words), "a line with '%s' and the rest: %s", words.front().c_str(), log.last.c_str());
  };
  for (const char* name : {"sigma", "stride", "grid"}) refuses(good().without(name), {"attribute '" + std::string(name) + "' is missing"});
  refuses(good().add("floor", 0.1f), {"no attribute 'floor'", "sigma, radius, prior, stride and grid"});
  refuses(good().add("Sigma", 2.0f), {"no attribute 'Sigma'"});
  refuses(good().add("", 2.0f), {"no attribute ''"});
  refuses(good().add("sigma", 2.0f), {"attribute 'sigma' is given twice"});
  refuses(good().without("sigma").add("sigma", 2), {"attribute 'sigma' is int32 of length 1", "one float32"});
  refuses(good().without("radius").add("radius", 5.0f), {"attribute 'radius' is float32 of length 1", "one int32 from 1 to 16"});
  refuses(good().without("grid").add("grid", 1), {"attribute 'grid' is int32 of length 1", "'corner' or 'half_pixel'"});
  refuses(good().without("stride").add("stride", "4"), {"attribute 'stride' is string of length 1", "one float32"});
  const float two[] = {2, 2};
  refuses(good().without("sigma").add("sigma", Type::kFLOAT32, two, sizeof two, 2), {"attribute 'sigma' is float32 of length 2"});
  refuses(good().without("sigma").add("sigma", Type::kFLOAT32, two, sizeof two, 0), {"attribute 'sigma' is float32 of length 0"});
  refuses(good().without("sigma").add("sigma", Type::kFLOAT32, nullptr, 0, 1), {"attribute 'sigma'", "without data"});
  refuses(good().without("grid").add("grid", Type::kCHAR, nullptr, 0, 6), {"attribute 'grid'", "without data"});
  refuses(good().without("grid").add("grid", Type::kCHAR, "corner", 6, -6), {"attribute 'grid' is string of length -6"});
  for (float sigma : {0.0f, -2.0f, 1e9f, NAN, INFINITY})
    refuses(good().without("sigma").add("sigma", sigma), {"attribute 'sigma' is ", "float32 from"});
  for (int radius : {0, -1, 17, 1 << 30})
    refuses(good().without("radius").add("radius", radius), {"attribute 'radius' is ", "from 1 to 16"});
  for (float prior : {-0.1f, NAN, -INFINITY}) refuses(good().without("prior").add("prior", prior), {"attribute 'prior' is ", "0 or more"});
  for (float stride : {0.0f, -4.0f, 1e9f, NAN, INFINITY})
    refuses(good().without("stride").add("stride", stride), {"attribute 'stride' is ", "above 0"});
  for (const char* grid : {"halfpixel", "corne", "corners", "Corner", " "})
    refuses(good().without("grid").add("grid", grid), {std::string("attribute 'grid' is '") + grid + "'", "'corner' or 'half_pixel'"});
  refuses(Fields(), {"attribute 'sigma' is missing"});

  const nvinfer1::PluginFieldCollection nothing{5, nullptr};
  for (const nvinfer1::PluginFieldCollection* fields : {static_cast<const nvinfer1::PluginFieldCollection*>(nullptr), &nothing}) {
    const Plugin plugin(creator.createPlugin("layer", fields, kBuild));
    report.check(!plugin && log.one_error({"attribute 'sigma' is missing"}), "no fields: %s", log.last.c_str());
  }
}

} // namespace

void check_creator(nvinfer1::IPluginCreatorV3One& creator, Log& log, Report& report) {
  check_description(creator, report);
  check_good(creator, log, report);
  check_bad(creator, log, report);
}

} // namespace harness
