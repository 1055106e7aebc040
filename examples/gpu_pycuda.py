"""Landmarks of a photograph that PyCUDA has put on the GPU; they stay there, as PyCUDA's arrays, and nothing is copied in between.

python examples/gpu_pycuda.py face68-32_fp16_tensorrt.plan [PHOTO]
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import cv2

from keyposs_trt import KeypossError
from keyposs_trt.detection import load_detector
from keyposs_trt.engine.frames import DeviceFrame
from keyposs_trt.engine.gpu import current_gpu
from keyposs_trt.engine.tensorrt_runner import TensorRTRunner
from keyposs_trt.geometry import invert, square_of_box, transform


def main(plan: str, photo: str = str(Path(__file__).with_name("astronaut.jpg"))) -> None:
    if find_spec("pycuda") is None:
        sys.exit("This example needs PyCUDA: pip install 'keyposs-trt[pycuda]'")
    if current_gpu() is None:
        sys.exit("This example needs an NVIDIA GPU, and there is none here.")
    import pycuda.autoprimaryctx  # noqa: F401 - not autoinit: its context is another than the one engines run in
    from pycuda import driver, gpuarray

    image = cv2.imread(photo)
    boxes = load_detector("blazeface")(image).boxes  # faces are detected on the CPU
    stream = driver.Stream()
    with TensorRTRunner(plan) as runner:
        frame = gpuarray.to_gpu_async(image, stream=stream)
        squares = square_of_box(boxes, runner.spec.crop_scale)
        outputs, matrices = runner.frames_on_device([DeviceFrame.of(frame)], [squares], stream)
        found = outputs.landmarks
        landmarks = gpuarray.GPUArray(found.shape, found.dtype, base=found, gpudata=found.address)  # crop pixels
        stream.synchronize()
        print(transform(invert(matrices), landmarks.get()))  # noqa: T201


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except KeypossError as e:
        sys.exit(str(e))
