"""Landmarks of a photograph that PyTorch has put on the GPU; they stay there, as PyTorch's tensors, and nothing is copied in between.

python examples/gpu_pytorch.py face68-32_fp16_tensorrt.plan [PHOTO]
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
    if find_spec("torch") is None:
        sys.exit("This example needs PyTorch: pip install torch")
    if current_gpu() is None:
        sys.exit("This example needs an NVIDIA GPU, and there is none here.")
    import torch

    image = cv2.imread(photo)
    boxes = load_detector("blazeface")(image).boxes  # faces are detected on the CPU
    stream = torch.cuda.Stream()
    with TensorRTRunner(plan) as runner, torch.cuda.stream(stream):
        frame = torch.from_numpy(image).cuda()  # a decoder's or a network's tensor would do as well
        squares = square_of_box(boxes, runner.spec.crop_scale)
        outputs, matrices = runner.frames_on_device([DeviceFrame.of(frame)], [squares], stream)
        landmarks = torch.from_dlpack(outputs.landmarks)  # crop pixels
        to_image = torch.from_numpy(invert(matrices)).to(landmarks)
        points = landmarks @ to_image[:, :, :2].mT + to_image[:, None, :, 2]
        print(points.cpu())  # noqa: T201 - waits for the stream


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except KeypossError as e:
        sys.exit(str(e))
