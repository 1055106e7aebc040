"""The records are what docs/json.md says, and the fast way to write numbers gives the same as the slow one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.contract import Frame, FrameResult, Source
from keyposs_trt.video.record import SCHEMA, frame_line, frame_record

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
FRAME = Frame(np.zeros((48, 64, 3), np.uint8), 12, 0.48)


def face(points: np.ndarray) -> Landmarks:
    n = len(points)
    covariance = np.tile(np.float32([1.23456, 0.1, 2]), (n, 1))
    return Landmarks(points.astype(np.float32), np.full(n, 0.8, np.float32), covariance, np.float32([1, 2, 30.126, 40]), 0.91, "300w")


def result(*faces: Landmarks, name: str = "clip.mp4", error: str | None = None) -> FrameResult:
    return FrameResult(Source("video", name), 3, FRAME, faces, "300w", error)


def test_record() -> None:
    found = replace(face(np.array([[1.25, 2.1234567], [3, -4]])), track=7)
    record = frame_record(result(found))
    assert record == {
        "schema": SCHEMA,
        "source": "clip.mp4",
        "stream": 3,
        "frame": 12,
        "time": 0.48,
        "size": [64, 48],
        "scheme": "300w",
        "faces": [
            {
                "track": 7,
                "box": [1.0, 2.0, 30.13, 40.0],
                "score": 0.91,
                "landmarks": [[1.25, 2.123], [3.0, -4.0]],
                "scores": [0.8, 0.8],
                "covariance": [[1.2346, 0.1, 2.0]] * 2,
            }
        ],
    }
    assert frame_record(result())["faces"] == []
    assert frame_record(result(face(np.zeros((1, 2)))))["faces"][0]["track"] is None


def test_a_frame_that_could_not_be_worked_on() -> None:
    record = frame_record(result(error='The "network"\nfailed.'))
    assert record["error"] == 'The "network"\nfailed.'
    assert record["faces"] == []
    assert "error" not in frame_record(result())


def test_one_line_of_ascii() -> None:
    for name in ("Zoë\udc80.mp4", 'a"b\\c\n.mp4'):
        line = frame_line(result(face(np.zeros((2, 2))), name=name))
        assert line.isascii()
        assert line.count("\n") == 1
        assert " " not in line
        assert json.loads(line)["source"] == name


def test_the_document_names_every_field_and_the_version() -> None:
    record = frame_record(result(face(np.zeros((2, 2))), error="It failed."))
    fields = re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE)
    assert fields == [*record, *record["faces"][0]]
    assert f"schema version {SCHEMA}" in DOCUMENT
    example = json.loads(DOCUMENT.partition("```json\n")[2].partition("```")[0])
    assert list(example) == [field for field in record if field != "error"]
    assert list(example["faces"][0]) == list(record["faces"][0])
    assert example["schema"] == SCHEMA


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("landmarks", [1, 2, 68, 98])
def test_numbers_are_those_of_numpy(scale: float, landmarks: int) -> None:
    generator = np.random.default_rng(0)
    faces = [
        Landmarks(
            (generator.standard_normal((landmarks, 2)) * scale).astype(np.float32),
            generator.random(landmarks, np.float32),
            (generator.standard_normal((landmarks, 3)) * scale).astype(np.float32),
            (generator.standard_normal(4) * scale).astype(np.float32),
            float(generator.random()),
            "300w",
            track,
        )
        for track in (0, 41, None)
    ]
    for found, written in zip(faces, frame_record(result(*faces))["faces"], strict=True):
        assert written["track"] == found.track
        for field, values, digits in (
            ("box", found.box, 2),
            ("score", found.score, 4),
            ("landmarks", found.points, 3),
            ("scores", found.scores, 4),
            ("covariance", found.covariance, 4),
        ):
            got = np.array(written[field])
            assert got.shape == np.shape(values)
            # Half a digit: what lies in the middle may go to either side.
            assert got == pytest.approx(np.asarray(values, np.float64), abs=0.5001 * 10.0**-digits, rel=1e-12)


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 0.00004, -0.00004, 0.99996, 9.9996, 9999.9994, 9999.99996, 10000.0, -9999.9996, 123456.789, -1e30]
)
def test_numbers_at_the_edges(value: float) -> None:
    for points in ([[value, 1.0]], [[1.0, value]]):
        written = frame_record(result(face(np.array(points))))["faces"][0]["landmarks"]
        assert written[0] == pytest.approx(np.float32(points[0]).astype(np.float64), abs=0.50001e-3, rel=1e-12)


def test_numbers_that_are_not_finite_become_null() -> None:
    odd, even = face(np.array([[np.nan, 1], [np.inf, -np.inf]])), face(np.ones((2, 2)))
    first, second = frame_record(result(odd, replace(even, score=float("nan"))))["faces"]
    assert first["landmarks"] == [[None, 1.0], [None, None]]
    assert (first["score"], first["box"]) == (0.91, [1.0, 2.0, 30.13, 40.0])
    assert second["score"] is None
    assert second["landmarks"] == [[1.0, 1.0]] * 2
