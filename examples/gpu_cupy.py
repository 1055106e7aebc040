"""Landmarks of a photograph that CuPy has put on the GPU; they stay there, as CuPy's arrays, and nothing is copied in between.

python examples/gpu_cupy.py face68-32_fp16_tensorrt.plan [PHOTO]
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
from keyposs_trt.geometry import invert, square_of_box


def main(plan: str, photo: str = str(Path(__file__).with_name("astronaut.jpg"))) -> None:
    if find_spec("cupy") is None:
        sys.exit("This example needs CuPy: pip install cupy-cuda13x, or cupy-cuda12x for CUDA 12")
    if current_gpu() is None:
        sys.exit("This example needs an NVIDIA GPU, and there is none here.")
    import cupy

    image = cv2.imread(photo)
    boxes = load_detector("blazeface")(image).boxes  # faces are detected on the CPU
    stream = cupy.cuda.Stream(non_blocking=True)
    with TensorRTRunner(plan) as runner, stream:
        frame = cupy.asarray(image)
        squares = square_of_box(boxes, runner.spec.crop_scale)
        outputs, matrices = runner.frames_on_device([DeviceFrame.of(frame)], [squares], stream)
        landmarks = cupy.from_dlpack(outputs.landmarks)  # crop pixels
        to_image = cupy.asarray(invert(matrices), cupy.float32)
        points = landmarks @ to_image[:, :, :2].swapaxes(1, 2) + to_image[:, None, :, 2]
        print(points.get())  # noqa: T201 - waits for the stream


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except KeypossError as e:
        sys.exit(str(e))
