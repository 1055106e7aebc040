// Face crops on the GPU. Plain C++ with CUDA's two handle types, so that it can be called and tested alone.
#pragma once

#include <driver_types.h>

#include "preprocess.h"

namespace keyposs {

// One launch on `stream`, without workspace, atomics or synchronisation; none for a count of 0, which only loads the kernel.
// cudaErrorInvalidValue, and nothing launched, for a job that does not make sense.
cudaError_t make_crops(const CropJob& job, cudaStream_t stream);

} // namespace keyposs
