"""MediaPipe FaceMesh on a video, in an environment of its own: frames a second from the first result to the last, as JSON.

    .mediapipe/bin/python benchmarks/facemesh.py CLIP OUT.jsonl

One face, tracking mode, without the refined irises; frames by OpenCV, landmarks to JSON lines: what ``benchmarks/video.py`` has
keyposs-trt do on the same clip, and it runs this program beside it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import cv2
import mediapipe  # pyright: ignore


def main() -> None:
    clip, out = sys.argv[1:3]
    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=False, max_num_faces=1, refine_landmarks=False)
    capture = cv2.VideoCapture(clip)
    frames = faces = 0
    first = last = 0.0
    with Path(out).open("w", encoding="utf-8") as lines:
        while True:
            ok, image = capture.read()
            if not ok:
                break
            height, width = image.shape[:2]
            found = mesh.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).multi_face_landmarks or []
            points = [[[round(p.x * width, 3), round(p.y * height, 3)] for p in face.landmark] for face in found]
            lines.write(json.dumps({"frame": frames, "faces": points}) + "\n")
            last = time.perf_counter()
            first = first or last
            frames += 1
            faces += bool(found)
    print(json.dumps({"frames": frames, "with_faces": faces, "fps": (frames - 1) / (last - first)}))


if __name__ == "__main__":
    main()
