"""The JSON object of one frame, as text. The fields are described in docs/json.md.

Python's own encoder takes a third of a millisecond for the 413 numbers of a face with 68 landmarks, which on a small board is more
than all the rest around the network. Here NumPy writes the digits of all numbers of a frame at once, out of tables, into cells of
one width; blanks are taken out at the end.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from keyposs_trt.landmarks import Landmarks
    from keyposs_trt.video.contract import FrameResult

SCHEMA = 1

_BOX, _POINTS, _ELSE = 2, 3, 4  # decimals
_BREAK = "|"
_WHOLES = 10_000  # numbers from here on are written one by one
_CELL = np.dtype([("sign", "u1"), ("whole", "u4"), ("point", "S1"), ("decimals", "u4"), ("after", "S3")])


def frame_line(result: FrameResult) -> str:
    """One line of JSON with its line feed: ASCII, and without a blank. A number that is not finite becomes null."""
    frame = result.frame
    height, width = frame.image.shape[:2]
    error = "" if result.error is None else f',"error":{json.dumps(result.error)}'
    return (
        f'{{"schema":{SCHEMA},"source":{json.dumps(result.source.name)},"stream":{result.stream},"frame":{frame.index},'
        f'"time":{_number(frame.time, _ELSE)},"size":[{width},{height}],"scheme":{json.dumps(result.scheme)}{error},'
        f'"faces":[{_faces(result.faces) if result.faces else ""}]}}\n'
    )


def frame_record(result: FrameResult) -> dict[str, Any]:
    """The object of one frame, as somebody who reads its line gets it."""
    return json.loads(frame_line(result))


def _faces(faces: Sequence[Landmarks]) -> str:
    layout = _layout(len(faces[0]))
    values = np.empty((len(faces), len(layout.scale)))
    for row, face in zip(values, faces, strict=True):
        np.concatenate((face.box, (face.score,), face.points.ravel(), face.scores, face.covariance.ravel()), out=row)
    scaled = np.rint(values * layout.scale)
    if not (np.abs(scaled) < layout.most).all():  # not finite, or large
        return ",".join(_face(face.track, layout.slowly(row).split(_BREAK)) for face, row in zip(faces, values, strict=True))
    lines = layout.text(scaled).splitlines()
    return ",".join(_face(face.track, line.split(_BREAK)) for face, line in zip(faces, lines, strict=True))


def _face(track: int | None, parts: Sequence[str]) -> str:
    box, score, points, scores, covariance = parts
    number = "null" if track is None else track
    return f'{{"track":{number},"box":[{box}],"score":{score},"landmarks":[[{points}]],"scores":[{scores}],"covariance":[[{covariance}]]}}'


@dataclass(frozen=True)
class _Layout:
    """Where the numbers of a face stand, one after the other: box, score, landmarks, scores, covariance.

    Attributes:
        decimals: of each number.
        scale: 10 to the power of that.
        most: number times scale, from which on the tables do not reach.
        offset: of each number, where the decimals of its length begin in their table.
        template: the cells of a face, with point and separator in them.
    """

    decimals: NDArray[np.intp]
    scale: NDArray[np.float64]
    most: NDArray[np.float64]
    offset: NDArray[np.intp]
    template: NDArray[np.void]

    def text(self, scaled: NDArray[np.float64]) -> str:
        """The numbers [F, N], whole after being scaled, as a line a face, with ``_BREAK`` between its sections."""
        wholes, decimals = _tables()
        size = np.abs(scaled)
        whole = np.floor(size / self.scale)
        rest = size - whole * self.scale
        cells = self.template[None].repeat(len(scaled), axis=0)
        cells["sign"][scaled < 0] = ord("-")
        cells["whole"] = wholes.take(whole.astype(np.intp))
        cells["decimals"] = decimals.take(rest.astype(np.intp) + self.offset)
        return cells.tobytes().translate(None, b" ").decode("ascii")

    def slowly(self, row: NDArray[np.float64]) -> str:
        """The line of the numbers [N] of a face, whatever they are."""
        numbers = zip(row.tolist(), self.decimals.tolist(), self.template["after"].tolist(), strict=True)
        return "".join(_number(value, decimals) + after.decode("ascii").rstrip(" ") for value, decimals, after in numbers).rstrip()


@lru_cache(maxsize=8)
def _layout(landmarks: int) -> _Layout:
    counts, digits, grouped = (4, 1, 2 * landmarks, landmarks, 3 * landmarks), (_BOX, _ELSE, _POINTS, _ELSE, _ELSE), (1, 1, 2, 1, 3)
    ends = np.cumsum(counts).tolist()
    decimals = np.repeat(digits, counts)
    scale = 10.0**decimals
    template = np.zeros(ends[-1], _CELL)
    template["sign"], template["point"] = ord(" "), b"."
    template["after"] = b",  "
    for end, count, group in zip(ends, counts, grouped, strict=True):
        if group > 1:
            template["after"][end - count + group - 1 : end : group] = b"],["
    starts = {digit: sum(10**d for d in range(digit + 1, _ELSE + 1)) for digit in digits}
    offset = np.array([starts[d] for d in decimals.tolist()], np.intp)
    template["after"][np.array(ends) - 1] = f"{_BREAK}  ".encode()
    template["after"][-1] = b"\n  "
    return _Layout(decimals, scale, _WHOLES * scale, offset, template)


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Four characters each: whole numbers, blanks before them; and decimals, of four digits, then three, then two, blanks behind them."""
    wholes = _digits(_WHOLES, 4)
    wholes[:, :3][np.arange(_WHOLES)[:, None] < 10 ** np.arange(3, 0, -1)] = ord(" ")
    decimals = []
    for count in (_ELSE, _POINTS, _BOX):
        text = np.full((10**count, 4), ord(" "), np.uint8)
        text[:, :count] = _digits(10**count, count)
        decimals.append(text)
    return wholes.view(np.uint32)[:, 0], np.concatenate(decimals).view(np.uint32)[:, 0]


def _digits(numbers: int, count: int) -> NDArray[np.uint8]:
    """[numbers, count] uint8: the last ``count`` digits of 0, 1, 2 ... as characters."""
    return (np.arange(numbers)[:, None] // 10 ** np.arange(count - 1, -1, -1) % 10 + ord("0")).astype(np.uint8)


def _number(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if math.isfinite(value) else "null"
