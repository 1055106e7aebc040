"""Makes a short video of the sample photograph, as a hand-held camera might see it: pan, zoom and roll.

python scripts/demo_video.py PHOTO VIDEO
"""

from __future__ import annotations

import sys

import cv2
import numpy as np

from keyposs_trt.files import atomic_path

SIZE = 480
FPS = 25
FRAMES = 100


def frame(photo: np.ndarray, t: float) -> np.ndarray:
    """The view at t in [0, 1) about the face of ``examples/astronaut.jpg``; the path is closed, so that the video can loop."""
    a = 2 * np.pi * t
    zoom = SIZE / photo.shape[0] * (2.5 - 0.4 * np.cos(a))
    look_at = (225 + 30 * np.sin(a), 140 + 10 * np.sin(2 * a))
    view = cv2.getRotationMatrix2D(look_at, 15 * np.sin(a), zoom)
    view[:, 2] += SIZE / 2 - np.array(look_at)
    return cv2.warpAffine(photo, view, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def main(photo_path: str, video_path: str) -> None:
    photo = cv2.imread(photo_path)
    if photo is None:
        sys.exit(f"error: '{photo_path}' is not an image that OpenCV can read.")
    with atomic_path(video_path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (SIZE, SIZE))
        if not writer.isOpened():
            sys.exit("error: this OpenCV cannot write MP4 video; install the opencv-python wheel.")
        for i in range(FRAMES):
            writer.write(frame(photo, i / FRAMES))
        writer.release()


if __name__ == "__main__":
    main(*sys.argv[1:3])
