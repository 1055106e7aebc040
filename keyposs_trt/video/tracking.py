"""Faces followed through a video: the landmarks of the last frame give the next crop, the detector finds the others.

The detector runs on the first frame, on every ``detect_every``-th frame while more faces may turn up, and on a frame where a face was
lost or became doubtful or none is followed; so it is seldom needed, and a face that turns up is seen within ``detect_every`` frames.

``FaceTracker`` decides and computes nothing else: it asks for what it needs of a frame, so that many streams can share one call of a
network. ``Tracker`` is the same with a landmarker that answers at once. docs/tracking.md has the rules and the figures.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from keyposs_trt.detection.detector import Detections
from keyposs_trt.graph.contract import LOST_SCORE
from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.identity import Sighting, Track, assign, iou, is_new, recognise, remembered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from keyposs_trt.detection import Detector
    from keyposs_trt.video.smoothing import Smoother

SAME_FACE = 0.3  # IoU from which a detection is a face that is followed already
VISIBLE = 0.5  # share of a face's box that must lie in the frame
MIN_SIDE = 8.0  # pixels, the shorter side of the smallest box worth following
MAX_GROWTH = 2.0  # a box that doubles or halves between two frames is no face any more
MISSES = 2  # times in a row that the detector does not confirm a face that is dropped for it
CHECK_EVERY = 4  # times ``detect_every``: so often the detector confirms the faces where it has no others to look for
FRAME_RATE = 25.0  # frames a second where nobody tells the time


@dataclass(frozen=True, eq=False)
class Locate:
    """Request: the landmarks in ``boxes`` [F, 4] float32, x1 y1 x2 y2, of the current frame; one ``Landmarks`` each, at least one box."""

    boxes: NDArray[np.float32]


@dataclass(frozen=True)
class Detect:
    """Request: what the face detector finds in the current frame, ``Detections``."""


Request = Locate | Detect
Answer = list[Landmarks] | Detections
Step = Generator[Request, Answer, list[Landmarks]]


class FaceTracker:
    """Decides, frame after frame of one video, where to look for landmarks and when to run the detector, and numbers the faces.

    Args:
        max_faces: at most so many faces; those followed already come first, then the detector's best. None for any number.
        detect_every: the detector runs at least on every n-th frame; where there are ``max_faces`` already, on every 4 n-th.
        lost_score: a face whose landmark scores have a lower mean is lost, which by mistake costs a run of the detector; the model's own is
            ``landmarker.spec.lost_score``.
        smoother: smooths the landmarks that are returned, and those alone: crops follow the landmarks as they were found.
        has_detector: whether ``Detect`` may be asked for.
    """

    def __init__(
        self,
        *,
        max_faces: int | None = None,
        detect_every: int = 15,
        lost_score: float = LOST_SCORE,
        smoother: Smoother | None = None,
        has_detector: bool = True,
    ) -> None:
        self._max_faces = max_faces
        self._detect_every = detect_every
        self._lost_score = lost_score
        self._smoother = smoother
        self._has_detector = has_detector
        self._tracks: list[Track] = []  # to follow into the next frame
        self._lost: list[Track] = []  # to be found again
        self._since = 0  # frames since the detector ran
        self._count = 0  # faces numbered so far

    def step(self, size: tuple[int, int], time: float) -> Step:
        """The faces of the next frame: a generator that yields requests, is sent the answers, and returns the faces.

        Followed faces come first, in the same order as before. Each face has its number in ``track``. A followed face has the mean of its
        landmark scores as its score, a new one the detector's. A generator that is closed before its end leaves the tracker as if there had
        been no such frame.

        Args:
            size: width and height of the frame in pixels.
            time: of the frame, seconds; the frames may come at any rate.
        """
        tracks, lost = yield from self._follow(size, time)
        shown, since, count = tracks, self._since + 1, self._count
        if self._must_detect(tracks, since):
            found = cast("Detections", (yield Detect()))
            since = 0
            tracks, dropped = self._check(tracks, found)
            new = yield from self._find(tracks, lost + dropped, found, time)
            numbers = {track.number for track in new}
            lost = [track for track in lost + dropped if track.number not in numbers]
            count = max(count, *numbers, 0)
            shown = tracks + new
            # A detection with poor landmarks is reported, but not followed: the next frame asks the detector again.
            poor = [track for track in new if not self._holds(track.last, size)]
            if poor:
                lost, since = lost + poor, self._detect_every
            tracks = [track for track in shown if track not in poor]
        self._tracks, self._lost, self._since, self._count = tracks, remembered(lost, time), since, count
        faces = [_numbered(track.last.face, track.number) for track in shown]
        if self._smoother is None:
            return faces
        return [self._smoother(track.number, face, time) for track, face in zip(shown, faces, strict=True)]

    def _follow(self, size: tuple[int, int], time: float) -> Generator[Request, Answer, tuple[list[Track], list[Track]]]:
        """The faces followed, as they are in this frame, and the lost ones."""
        if not self._tracks:
            return [], list(self._lost)
        boxes = np.array([track.crop(time) for track in self._tracks], np.float32)
        found = [Sighting.of(face) for face in cast("list[Landmarks]", (yield Locate(boxes)))]
        good = [i for i, sighting in enumerate(found) if self._holds(sighting, size)]
        given = assign(self._tracks, [found[i] for i in good], good, time)
        tracks = [track.moved(s, time) for track, s in zip(self._tracks, given, strict=True) if s]
        return tracks, self._lost + [track for track, s in zip(self._tracks, given, strict=True) if not s]

    def _must_detect(self, tracks: Sequence[Track], since: int) -> bool:
        if not self._has_detector:
            return False
        # With room for more faces there is something to look for; without, there are only those followed to be confirmed.
        search = self._max_faces is None or len(tracks) < self._max_faces or any(track.missed for track in tracks)
        due = since >= self._detect_every * (1 if search else CHECK_EVERY)
        return due or not tracks or len(tracks) < len(self._tracks) or any(track.doubtful for track in tracks)

    def _check(self, tracks: Sequence[Track], found: Detections) -> tuple[list[Track], list[Track]]:
        """The faces after the detector's word on them, and those dropped for it.

        One that is as certain as usual is given more time, as the detector misses faces too: in the dark, or blurred.
        """
        kept: list[Track] = []
        dropped: list[Track] = []
        seen = iou([track.last.box for track in tracks], found.boxes).max(1, initial=0) >= SAME_FACE if tracks else ()
        for track, confirmed in zip(tracks, seen, strict=True):
            checked = track.confirmed() if confirmed else track.unconfirmed()
            late = checked.missed >= MISSES and (checked.doubtful or checked.waited >= self._detect_every)
            (dropped if late else kept).append(checked)
        return kept, dropped

    def _find(
        self, tracks: Sequence[Track], lost: Sequence[Track], found: Detections, time: float
    ) -> Generator[Request, Answer, list[Track]]:
        """Faces of the detector that are not among those followed: lost ones found again, or new ones."""
        room = None if self._max_faces is None else self._max_faces - len(tracks)
        unknown = np.ones(len(found.boxes), bool)
        if tracks:
            unknown = iou(found.boxes, [track.last.box for track in tracks]).max(1) < SAME_FACE
        boxes, scores = found.boxes[unknown][:room], found.scores[unknown][:room]
        if not len(boxes):
            return []
        known, seen = [track.last for track in tracks], list[Sighting]()
        for face, score in zip(cast("list[Landmarks]", (yield Locate(boxes))), scores, strict=True):
            sighting = Sighting.of(replace(face, score=float(score)))
            if is_new(sighting, known + seen):
                seen.append(sighting)
        again: list[Track] = []
        count = self._count
        for sighting, before in zip(seen, recognise(remembered(lost, time), seen, time), strict=True):
            count += before is None
            again.append(before.found_again(sighting, time) if before else Track.start(count, sighting, time))
        return again

    def _holds(self, sighting: Sighting, size: tuple[int, int]) -> bool:
        """Whether the landmarks are good enough to cut the next crop from."""
        scores = sighting.face.scores
        if not scores.sum() >= self._lost_score * len(scores):
            return False
        x1, y1, x2, y2 = sighting.box
        width, height = x2 - x1, y2 - y1
        left, top, right, bottom = sighting.face.box.tolist()
        before = max(right - left, bottom - top, 1e-6)
        # Written so that numbers that are not finite fail.
        if not min(width, height) >= MIN_SIDE or not 1 / MAX_GROWTH <= max(width, height) / before <= MAX_GROWTH:
            return False
        inside = max(min(x2, size[0]) - max(x1, 0), 0) * max(min(y2, size[1]) - max(y1, 0), 0)
        return inside >= VISIBLE * width * height


def _numbered(face: Landmarks, number: int) -> Landmarks:
    # Written out, as dataclasses.replace takes several times as long.
    return Landmarks(face.points, face.scores, face.covariance, face.box, face.score, face.scheme, number)


class FaceFinder(Protocol):
    """What a ``Tracker`` needs of a ``Landmarker``."""

    @property
    def detector(self) -> Detector | None: ...
    def __call__(self, image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> list[Landmarks]: ...


class Tracker:
    """Landmarks of the faces of one video, frame after frame; make a new one for each video.

    Args:
        landmarker: finds landmarks in boxes, and has a detector.
        max_faces: as for ``FaceTracker``, and so are the others.
    """

    def __init__(
        self,
        landmarker: FaceFinder,
        *,
        max_faces: int | None = None,
        detect_every: int = 15,
        lost_score: float = LOST_SCORE,
        smoother: Smoother | None = None,
    ) -> None:
        self._landmarker = landmarker
        self._time = 0.0
        self._faces = FaceTracker(
            max_faces=max_faces,
            detect_every=detect_every,
            lost_score=lost_score,
            smoother=smoother,
            has_detector=landmarker.detector is not None,
        )

    def __call__(self, image: NDArray[np.uint8], time: float | None = None) -> list[Landmarks]:
        """The faces of the next frame, as ``FaceTracker.step`` returns them.

        Args:
            image: [H, W, 3] uint8 BGR.
            time: of the frame, seconds; None for one frame's time at 25 frames a second after the last.
        """
        self._time = self._time + 1 / FRAME_RATE if time is None else time
        step = self._faces.step((image.shape[1], image.shape[0]), self._time)
        try:
            request = next(step)
            while True:
                request = step.send(self._answer(image, request))
        except StopIteration as end:
            return cast("list[Landmarks]", end.value)
        finally:
            step.close()

    def _answer(self, image: NDArray[np.uint8], request: Request) -> Answer:
        if isinstance(request, Locate):
            return self._landmarker(image, request.boxes)
        if self._landmarker.detector is None:
            return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))
        return self._landmarker.detector(image)
