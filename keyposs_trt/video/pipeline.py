"""One source through the landmarker into the sinks, frame by frame: nothing is kept in memory."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from keyposs_trt.images import write_image
from keyposs_trt.video.jsonl import frame_record
from keyposs_trt.video.sinks import VideoSink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from keyposs_trt.landmarks import Landmarks
    from keyposs_trt.video.contract import Frames, Source
    from keyposs_trt.video.jsonl import JsonLines


class Draw(Protocol):
    """Draws faces on a copy of the picture."""

    def __call__(self, image: NDArray[np.uint8], faces: Sequence[Landmarks], /) -> NDArray[np.uint8]: ...


@dataclass
class Summary:
    """What was found in a source, so far.

    Attributes:
        source: the source.
        output: the annotated file, or None.
        frames: frames read.
        with_faces: frames with at least one face.
        most: the largest number of faces in a frame.
        seconds: time stamp of the last frame.
    """

    source: Source
    output: Path | None = None
    frames: int = 0
    with_faces: int = 0
    most: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        faces = "no face" if self.most == 0 else "1 face" if self.most == 1 else f"{self.most} faces"
        if self.source.kind == "image":
            found = faces
        else:
            frames = "1 frame" if self.frames == 1 else f"{self.frames} frames"
            found = f"{frames}, {self.seconds:.1f} s, {faces}"
            if self.most:
                found += f"{' at once' if self.most > 1 else ''} in {self.with_faces}"
        return f"{self.source.name}: {found}" + (f" -> {self.output}" if self.output and self.frames else "")


def process(
    frames: Frames,
    find: Callable[[NDArray[np.uint8]], list[Landmarks]],
    summary: Summary,
    *,
    scheme: str,
    draw: Draw,
    records: JsonLines | None = None,
    tick: Callable[[], object] = lambda: None,
) -> None:
    """Finds faces in every frame, draws them to ``summary.output``, writes their records, and fills the summary in.

    Args:
        frames: the open source.
        find: BGR picture -> faces.
        summary: names source and output; counts up while frames come, so it is right also when this raises.
        scheme: name of the landmark scheme, for the records.
        draw: draws faces on a copy of a picture.
        records: the JSON lines, if wanted.
        tick: called after each frame.

    Raises:
        InputError: the source broke off; what was read before is written.
        OutputError: a result cannot be written.
    """
    is_image = summary.source.kind == "image"
    with ExitStack() as stack:
        video = stack.enter_context(VideoSink(summary.output, frames.fps)) if summary.output and not is_image else None
        for frame in frames:
            faces = find(frame.image)
            if summary.output:
                annotated = draw(frame.image, faces)
                if video is None:
                    write_image(summary.output, annotated)
                elif frames.live:
                    # The camera is faster or slower than we are: frames are left out or repeated so that time runs true.
                    for _ in range(round(frame.time * frames.fps) + 1 - video.frames):
                        video.write(annotated)
                else:
                    video.write(annotated)
            if records:
                records.write(frame_record(summary.source.name, frame, faces, scheme))
            summary.frames += 1
            summary.with_faces += bool(faces)
            summary.most = max(summary.most, len(faces))
            summary.seconds = frame.time
            tick()


def whole_image(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[1, 4] float32: the box of a picture that is a face from edge to edge (pixel centres lie at whole numbers)."""
    height, width = image.shape[:2]
    return np.array([[-0.5, -0.5, width - 0.5, height - 0.5]], np.float32)
