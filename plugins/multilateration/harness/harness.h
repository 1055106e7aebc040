// The parts of the harness.
#pragma once

#include <functional>
#include <memory>

#include <NvInferRuntime.h>

#include "stand_ins.h"

namespace harness {

using Plugin = std::unique_ptr<nvinfer1::IPluginV3>;

// The sigma, radius, prior and stride of a plugin on the half-pixel grid.
struct Settings {
  float sigma = 2;
  int radius = 5;
  float prior = 0.015f, stride = 4;
};
using MakePlugin = std::function<Plugin(const Settings&)>;

// creation.cpp: what the creator takes and refuses.
void check_creator(nvinfer1::IPluginCreatorV3One& creator, Log& log, Report& report);

// contract.cpp: what the plugin answers while a network is built and an engine is loaded.
void check_plugin(nvinfer1::IPluginCreatorV3One& creator, Log& log, Report& report);

// gpu.cpp: enqueue against the solver on the CPU. `brief`: few maps, as compute-sanitizer is slow. False where there is no GPU.
bool check_on_gpu(const MakePlugin& make, bool brief, Report& report);

// timing.cpp: prints a table.
void time_on_gpu(const MakePlugin& make);

// empty.cu
void launch_nothing(cudaStream_t stream);

} // namespace harness
