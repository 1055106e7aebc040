"""What was found in a source, in one line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyposs_trt.landmarks import Landmarks
    from keyposs_trt.video.contract import Frame, Source


@dataclass
class Summary:
    """What was found in a source, so far.

    Attributes:
        source: the source.
        outputs: the annotated files that were written, as far as whoever opened the sinks fills them in.
        frames: frames worked on.
        with_faces: frames with at least one face.
        most: the largest number of faces in a frame.
        seconds: time stamp of the last frame.
        failed: frames that could not be worked on.
        dropped: frames of a live source that were left out because a newer one was there.
        error: what ended the source early, or kept it from being opened.
        sink_errors: what kept results from being written, each once.
        stopped: whether it was ended before its end.
        frame_error: the sentence of the last frame that could not be worked on.
    """

    source: Source
    outputs: list[str] = field(default_factory=list)
    frames: int = 0
    with_faces: int = 0
    most: int = 0
    seconds: float = 0.0
    failed: int = 0
    dropped: int = 0
    error: Exception | None = None
    sink_errors: list[Exception] = field(default_factory=list)
    frame_error: str | None = None
    stopped: bool = False

    def count(self, frame: Frame, faces: Sequence[Landmarks], error: str | None) -> None:
        """Adds a frame."""
        self.frames += 1
        self.with_faces += bool(faces)
        self.most = max(self.most, len(faces))
        self.seconds = frame.time
        if error is not None:
            self.failed += 1
            self.frame_error = error

    @property
    def complete(self) -> bool:
        """Whether the source was read to its end and every result was written."""
        return not self.stopped and self.error is None and not self.failed and not self.sink_errors

    def __str__(self) -> str:
        faces = "no face" if self.most == 0 else "1 face" if self.most == 1 else f"{self.most} faces"
        if self.source.kind == "image":
            found = faces
        else:
            frames = "1 frame" if self.frames == 1 else f"{self.frames} frames"
            found = f"{frames}, {self.seconds:.1f} s, {faces}"
            if self.most:
                found += f"{' at once' if self.most > 1 else ''} in {self.with_faces}"
            if self.dropped:
                found += f", {self.dropped} left out to keep up"
        return f"{self.source.name}: {found}" + (f" -> {', '.join(self.outputs)}" if self.outputs and self.frames else "")
