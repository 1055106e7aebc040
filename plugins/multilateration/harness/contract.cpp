// The plugin: types, shapes, formats, shape changes, serialisation, clones.
#include "harness.h"

namespace harness {
namespace {

using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

using Shape = std::vector<std::int64_t>;
constexpr std::int64_t kPoints = 98;

struct Capabilities {
  nvinfer1::IPluginV3OneCore* core;
  nvinfer1::IPluginV3OneBuild* build;
  nvinfer1::IPluginV3OneRuntime* runtime;

  explicit Capabilities(nvinfer1::IPluginV3& plugin)
      : core(static_cast<nvinfer1::IPluginV3OneCore*>(plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kCORE))),
        build(static_cast<nvinfer1::IPluginV3OneBuild*>(plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kBUILD))),
        runtime(static_cast<nvinfer1::IPluginV3OneRuntime*>(plugin.getCapabilityInterface(nvinfer1::PluginCapabilityType::kRUNTIME))) {}
};

std::vector<PluginTensorDesc> results(std::int64_t n, std::int64_t l) { return {tensor({n, l, 2}), tensor({n, l}), tensor({n, l, 3})}; }

DynamicPluginTensorDesc dynamic(const PluginTensorDesc& description) {
  return {description, description.dims, description.dims, description.dims};
}

void check_core(const Capabilities& plugin, Report& report) {
  report.check(std::strcmp(plugin.core->getInterfaceInfo().kind, "PLUGIN_V3ONE_CORE") == 0, "the core interface");
  report.check(std::strcmp(plugin.build->getInterfaceInfo().kind, "PLUGIN_V3ONE_BUILD") == 0, "the build interface");
  report.check(std::strcmp(plugin.runtime->getInterfaceInfo().kind, "PLUGIN_V3ONE_RUNTIME") == 0, "the runtime interface");
  report.check(std::strcmp(plugin.core->getPluginName(), "KeyPosSMultilateration") == 0, "the plugin's name");
  report.check(std::strcmp(plugin.core->getPluginVersion(), "1") == 0, "the plugin's version");
  report.check(std::strcmp(plugin.core->getPluginNamespace(), "") == 0, "the plugin's namespace");
  report.check(plugin.build->getNbOutputs() == 3, "three outputs");
  report.check(plugin.build->getWorkspaceSize(nullptr, 1, nullptr, 3) == 0, "no workspace");
  report.check(plugin.build->getNbTactics() == 0 && plugin.runtime->setTactic(0) == 0, "no tactics");
}

void check_types(const Capabilities& plugin, Log& log, Report& report) {
  for (DataType type : {DataType::kFLOAT, DataType::kHALF}) {
    DataType types[3] = {DataType::kINT8, DataType::kINT8, DataType::kINT8};
    report.check(plugin.build->getOutputDataTypes(types, 3, &type, 1) == 0, "types for input type %d", static_cast<int>(type));
    for (DataType output : types) report.check(output == DataType::kFLOAT, "outputs are float32");
  }
  DataType types[3];
  for (DataType type : {DataType::kINT8, DataType::kINT32, DataType::kBF16, DataType::kFP8}) {
    report.check(plugin.build->getOutputDataTypes(types, 3, &type, 1) != 0, "input type %d is refused", static_cast<int>(type));
    report.check(log.one_error({"float32 or float16"}), "says why: %s", log.last.c_str());
  }
  const DataType two[] = {DataType::kFLOAT, DataType::kFLOAT};
  report.check(plugin.build->getOutputDataTypes(types, 3, two, 2) != 0 && log.one_error({"2 inputs"}), "two inputs: %s", log.last.c_str());
}

void check_shapes(const Capabilities& plugin, Log& log, Report& report) {
  for (std::int64_t n : {std::int64_t{-1}, std::int64_t{0}, std::int64_t{8}})
    for (std::int64_t l : {std::int64_t{-1}, kPoints}) {
      ExpressionBuilder builder;
      const nvinfer1::DimsExprs maps{4, {builder.input(n), builder.input(l), builder.input(64), builder.input(48)}};
      nvinfer1::DimsExprs outputs[3] = {};
      report.check(plugin.build->getOutputShapes(&maps, 1, nullptr, 0, outputs, 3, builder) == 0, "shapes");
      const int ranks[] = {3, 2, 3};
      for (int i = 0; i < 3; ++i) {
        report.check(outputs[i].nbDims == ranks[i], "rank of output %d", i);
        report.check(outputs[i].d[0] == maps.d[0] && outputs[i].d[1] == maps.d[1], "output %d has the input's N and L", i);
        if (ranks[i] == 3)
          report.check(outputs[i].d[2]->isConstant() && outputs[i].d[2]->getConstantValue() == (i == 0 ? 2 : 3), "last size of output %d",
                       i);
      }
    }
  ExpressionBuilder builder;
  const nvinfer1::DimsExprs flat{3, {builder.input(98), builder.input(64), builder.input(64)}};
  nvinfer1::DimsExprs outputs[3] = {};
  report.check(plugin.build->getOutputShapes(&flat, 1, nullptr, 0, outputs, 3, builder) != 0, "three dimensions are refused");
  report.check(log.one_error({"3 dimensions", "[N, L, H, W]"}), "says why: %s", log.last.c_str());
  report.check(plugin.build->getOutputShapes(&flat, 1, nullptr, 0, outputs, 2, builder) != 0, "two outputs are refused");
  report.check(log.one_error({"2 outputs"}), "says why: %s", log.last.c_str());
}

void check_formats(const Capabilities& plugin, Report& report) {
  const auto supported = [&](int position, DataType type, TensorFormat format) {
    std::vector<DynamicPluginTensorDesc> tensors = {dynamic(tensor({8, kPoints, 64, 64}, DataType::kHALF))};
    for (const PluginTensorDesc& result : results(8, kPoints)) tensors.push_back(dynamic(result));
    tensors[static_cast<std::size_t>(position)].desc.type = type;
    tensors[static_cast<std::size_t>(position)].desc.format = format;
    return plugin.build->supportsFormatCombination(position, tensors.data(), 1, 3);
  };
  for (int type = 0; type <= static_cast<int>(DataType::kINT4); ++type)
    for (int format = 0; format <= static_cast<int>(TensorFormat::kHWC16); ++format)
      for (int position = 0; position < 4; ++position) {
        const bool linear = format == static_cast<int>(TensorFormat::kLINEAR), single = type == static_cast<int>(DataType::kFLOAT);
        const bool want = linear && (single || (position == 0 && type == static_cast<int>(DataType::kHALF)));
        report.check(supported(position, static_cast<DataType>(type), static_cast<TensorFormat>(format)) == want,
                     "type %d in format %d at position %d", type, format, position);
      }
  const DynamicPluginTensorDesc one = dynamic(tensor({8, kPoints, 64, 64}));
  report.check(!plugin.build->supportsFormatCombination(4, &one, 1, 3), "position 4 is refused");
  report.check(!plugin.build->supportsFormatCombination(-1, &one, 1, 3), "position -1 is refused");
  report.check(!plugin.build->supportsFormatCombination(0, &one, 2, 3), "two inputs are refused");
}

void check_configuration(const Capabilities& plugin, Log& log, Report& report) {
  const auto configure = [&](const Shape& shape) {
    const DynamicPluginTensorDesc maps = dynamic(tensor(shape));
    std::vector<DynamicPluginTensorDesc> outputs;
    for (const PluginTensorDesc& result : results(shape[0], shape[1])) outputs.push_back(dynamic(result));
    return plugin.build->configurePlugin(&maps, 1, outputs.data(), 3);
  };
  report.check(configure({-1, kPoints, 64, 64}) == 0 && configure({-1, -1, -1, -1}) == 0, "unknown sizes");
  report.check(configure({8, kPoints, 64, 64}) == 0 && log.errors.empty(), "known sizes");
  for (const Shape& shape : {Shape{98, 64, 64}, Shape{8, 98, 0, 64}, Shape{8, 98, 1 << 16, 1 << 16}, Shape{1, 8, 98, 64, 64}})
    report.check(configure(shape) != 0 && log.one_error({"[N, L, H, W]"}), "a wrong shape is refused: %s", log.last.c_str());
}

void check_shape_changes(const Capabilities& plugin, Log& log, Report& report) {
  const auto change = [&](const PluginTensorDesc& maps, const std::vector<PluginTensorDesc>& outputs) {
    return plugin.runtime->onShapeChange(&maps, 1, outputs.data(), static_cast<int>(outputs.size()));
  };
  for (std::int64_t n : {0, 1, 64})
    for (DataType type : {DataType::kFLOAT, DataType::kHALF})
      report.check(change(tensor({n, kPoints, 7, 9}, type), results(n, kPoints)) == 0 && log.errors.empty(), "a batch of %d",
                   static_cast<int>(n));
  const auto refuses = [&](const PluginTensorDesc& maps, const std::vector<PluginTensorDesc>& outputs, const char* word) {
    report.check(change(maps, outputs) != 0 && log.one_error({word}), "'%s' is refused: %s", word, log.last.c_str());
  };
  const PluginTensorDesc maps = tensor({8, kPoints, 64, 64});
  refuses(tensor({8, kPoints, 64}), results(8, kPoints), "3 dimensions");
  refuses(tensor({-1, kPoints, 64, 64}), results(-1, kPoints), "[N, L, H, W]");
  refuses(tensor({8, kPoints, 64, 0}), results(8, kPoints), "[N, L, H, W]");
  refuses(tensor({1, 1, std::int64_t{1} << 40, std::int64_t{1} << 40}), results(1, 1), "2^30");
  refuses(tensor({8, kPoints, 64, 64}, DataType::kINT8), results(8, kPoints), "float32 or float16");
  refuses(tensor({8, kPoints, 64, 64}, DataType::kHALF, TensorFormat::kCHW2), results(8, kPoints), "linear format");
  refuses(maps, {results(8, kPoints)[0], results(8, kPoints)[1]}, "2 outputs");
  const char* names[] = {"landmarks", "scores", "covariance"};
  for (std::size_t i = 0; i < 3; ++i) {
    const std::string word = "output '" + std::string(names[i]) + "'";
    for (int what = 0; what < 4; ++what) {
      std::vector<PluginTensorDesc> outputs = results(8, kPoints);
      if (what == 0) outputs[i].type = DataType::kHALF;
      if (what == 1) outputs[i].dims.d[0] = 7;
      if (what == 2) outputs[i].dims.d[outputs[i].dims.nbDims - 1] += 1;
      if (what == 3) outputs[i].dims.nbDims = 1;
      refuses(maps, outputs, word.c_str());
    }
  }
}

// What enqueue() does without a GPU: nothing for no face, and a line in the log for what cannot be run.
void check_enqueue(const Capabilities& plugin, Log& log, Report& report) {
  const void* input = nullptr;
  void* outputs[3] = {};
  const auto enqueue = [&](const PluginTensorDesc& maps) {
    return plugin.runtime->enqueue(&maps, results(maps.dims.d[0], maps.dims.d[1]).data(), &input, outputs, nullptr, nullptr);
  };
  report.check(enqueue(tensor({0, kPoints, 64, 64})) == 0 && log.errors.empty(), "no face");
  report.check(enqueue(tensor({1, kPoints, 64, 64})) != 0 && log.one_error({"not launched", "invalid"}), "no memory: %s", log.last.c_str());
  report.check(enqueue(tensor({1, kPoints, 64, 64}, DataType::kINT8)) != 0 && log.one_error({"float16"}), "int8: %s", log.last.c_str());
}

using Texts = std::vector<std::string>;

// Name, type and bytes of each field, as TensorRT writes them into a plan.
Texts serialised(nvinfer1::IPluginV3& plugin) {
  Texts texts;
  const nvinfer1::PluginFieldCollection* fields = Capabilities(plugin).runtime->getFieldsToSerialize();
  for (int i = 0; i < fields->nbFields; ++i) {
    const nvinfer1::PluginField& field = fields->fields[i];
    const std::size_t bytes = static_cast<std::size_t>(field.length) * (field.type == nvinfer1::PluginFieldType::kCHAR ? 1 : 4);
    texts.push_back(std::string(field.name) + ":" + std::to_string(static_cast<int>(field.type)) + ":" +
                    std::string(static_cast<const char*>(field.data), bytes));
  }
  return texts;
}

Plugin restored(nvinfer1::IPluginCreatorV3One& creator, nvinfer1::IPluginV3& plugin) {
  const nvinfer1::PluginFieldCollection* fields = Capabilities(plugin).runtime->getFieldsToSerialize();
  Fields copies;
  for (int i = 0; i < fields->nbFields; ++i) {
    const nvinfer1::PluginField& field = fields->fields[i];
    const std::size_t bytes = static_cast<std::size_t>(field.length) * (field.type == nvinfer1::PluginFieldType::kCHAR ? 1 : 4);
    copies.add(field.name, field.type, field.data, bytes, field.length);
  }
  return Plugin(creator.createPlugin("layer", copies.collection(), nvinfer1::TensorRTPhase::kRUNTIME));
}

void check_copies(nvinfer1::IPluginCreatorV3One& creator, Report& report) {
  for (const char* grid : {"corner", "half_pixel"}) {
    Fields fields;
    fields.add("sigma", 1.1f).add("radius", 7).add("prior", 0.1f).add("stride", 3.3f).add("grid", grid);
    Plugin plugin(creator.createPlugin("layer", fields.collection(), nvinfer1::TensorRTPhase::kBUILD));
    const Texts want = serialised(*plugin);
    report.check(want.size() == 5, "five fields are serialised");
    const std::string metadata = Capabilities(*plugin).build->getMetadataString();
    report.check(metadata.find("sigma=1.1") == 0 && metadata.find(std::string("grid=") + grid) != std::string::npos, "metadata: %s",
                 metadata.c_str());
    Plugin back = restored(creator, *plugin);
    report.check(back && serialised(*back) == want, "the same plugin comes back from a plan");
    Plugin clone(plugin->clone());
    Plugin attached(Capabilities(*plugin).runtime->attachToContext(nullptr));
    plugin.reset(); // the copies stand alone
    report.check(clone && serialised(*clone) == want, "the clone is the same");
    report.check(attached && serialised(*attached) == want, "what is attached to a context is the same");
    Plugin third = restored(creator, *clone);
    report.check(third && serialised(*third) == want, "a clone can be serialised");
  }
  Fields fields;
  fields.add("sigma", 2.0f).add("stride", 4.0f).add("grid", "corner", true);
  Plugin plugin(creator.createPlugin("layer", fields.collection(), nvinfer1::TensorRTPhase::kBUILD));
  const std::string metadata = Capabilities(*plugin).build->getMetadataString();
  report.check(metadata.find("radius=5 prior=0.015") != std::string::npos, "the defaults: %s", metadata.c_str());
}

} // namespace

void check_plugin(nvinfer1::IPluginCreatorV3One& creator, Log& log, Report& report) {
  Fields fields;
  fields.add("sigma", 2.0f).add("stride", 4.0f).add("grid", "half_pixel");
  Plugin made(creator.createPlugin("layer", fields.collection(), nvinfer1::TensorRTPhase::kBUILD));
  if (!report.check(made != nullptr, "a plugin is made")) return;
  const Capabilities plugin(*made);
  check_core(plugin, report);
  check_types(plugin, log, report);
  check_shapes(plugin, log, report);
  check_formats(plugin, report);
  check_configuration(plugin, log, report);
  check_shape_changes(plugin, log, report);
  check_enqueue(plugin, log, report);
  check_copies(creator, report);
}

} // namespace harness
