"""From an image to landmarks."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from model_zoo import spot_image, template, tiny_model, tiny_spec

from keyposs_trt import Landmarker
from keyposs_trt.detection import Detections, sorted_detections
from keyposs_trt.engine.runner import Outputs, open_runner
from keyposs_trt.errors import ModelError, UsageError
from keyposs_trt.landmarker import as_bgr, check_boxes
from keyposs_trt.models import DEFAULT

ROOT = Path(__file__).resolve().parent.parent
BOX = [[100.0, 40.0, 292.0, 210.0]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def landmarker(model: Path) -> Landmarker:
    return Landmarker.load(model, threads=1)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return cv2.imread(str(ROOT / "examples" / "astronaut.jpg"))


def spot_scene(box: list[float], shape: tuple[int, int] = (400, 500)) -> tuple[np.ndarray, np.ndarray]:
    """An image whose crop of ``box`` is a white spot in the middle of black, and where its landmarks are."""
    side = 1.25 * max(box[2] - box[0], box[3] - box[1])
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    scale = side / 128
    matrix = np.array([[scale, 0, centre[0] - 63.5 * scale], [0, scale, centre[1] - 63.5 * scale]])
    image = cv2.warpAffine(spot_image(128, 32, (16, 16)), matrix, shape[::-1], flags=cv2.INTER_LINEAR)
    in_crop = (template(68, 32) + 16) * 4 + 1.5
    return image, (in_crop - 63.5) * scale + centre


class Recorder:
    """A runner that keeps the sizes of its batches, and gives every crop its mean colour as scores."""

    backend = "recorder"

    def __init__(self) -> None:
        self.spec = tiny_spec()
        self.batches: list[int] = []
        self.closed = False

    def __call__(self, crops: np.ndarray) -> Outputs:
        self.batches.append(len(crops))
        n = len(crops)
        scores = np.tile(crops.reshape(n, -1).mean(-1)[:, None] / 255, (1, 68)) if n else np.zeros((0, 68))
        points = np.tile(np.float32([63.5, 63.5]), (n, 68, 1))
        return Outputs(points, scores.astype(np.float32), np.tile(np.float32([4, 1, 2]), (n, 68, 1)))

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_points_in_image_pixels(landmarker: Landmarker) -> None:
    image, expected = spot_scene(BOX[0])
    faces = landmarker(image, BOX)
    assert len(faces) == 1
    face = faces[0]
    inner = (np.abs(template(68, 32)) < 11).all(-1)
    np.testing.assert_allclose(face.points[inner], expected[inner], atol=0.7)  # 1.9 image pixels a crop pixel
    np.testing.assert_array_equal(face.box, np.float32(BOX[0]))
    assert face.scheme == "300w"
    assert face.score == pytest.approx(face.scores.mean())
    assert (face.points.shape, face.scores.shape, face.covariance.shape) == ((68, 2), (68,), (68, 3))
    assert face.points.dtype == face.scores.dtype == face.covariance.dtype == face.box.dtype == np.float32


def test_points_move_with_the_image_and_the_box(landmarker: Landmarker) -> None:
    image, _ = spot_scene(BOX[0])
    first = landmarker(image, BOX)[0].points
    moved = landmarker(np.pad(image, ((7, 0), (20, 0), (0, 0))), np.add(BOX, [20, 7, 20, 7]))[0].points
    np.testing.assert_allclose(moved, np.add(first, [20, 7]), atol=0.02)


def test_covariance_in_image_pixels() -> None:
    recorder = Recorder()
    image = np.zeros((400, 400, 3), np.uint8)
    face = Landmarker(recorder)(image, [[0, 0, 204.8, 100]])[0]  # a side of 256 image pixels on 128 crop pixels
    np.testing.assert_allclose(face.covariance, np.tile([16, 4, 8], (68, 1)), rtol=1e-5)
    np.testing.assert_allclose(face.points[0], [102.4, 50], atol=1e-3)


def test_the_detector_finds_the_face(landmarker: Landmarker, astronaut: np.ndarray) -> None:
    face = landmarker(astronaut)[0]
    assert landmarker.detector is not None
    found = landmarker.detector(astronaut)
    np.testing.assert_array_equal(face.box, found.boxes[0])
    assert face.score == pytest.approx(float(found.scores[0]))
    np.testing.assert_array_equal(landmarker(astronaut, found.boxes)[0].points, face.points)


def test_no_face(landmarker: Landmarker) -> None:
    blank = np.zeros((300, 300, 3), np.uint8)
    assert landmarker(blank) == []
    assert landmarker(blank, []) == []
    assert landmarker(blank, np.zeros((0, 4))) == []
    assert landmarker(np.zeros((1, 1, 3), np.uint8)) == []


def test_one_pixel_as_a_face(landmarker: Landmarker) -> None:
    face = landmarker(np.full((1, 1, 3), 200, np.uint8), [[-0.5, -0.5, 0.5, 0.5]])[0]
    assert np.isfinite(face.points).all()


def test_batch_of_different_images(landmarker: Landmarker, astronaut: np.ndarray) -> None:
    images = [astronaut, np.zeros((50, 80, 3), np.uint8), np.ascontiguousarray(astronaut[:300, 100:400])]
    together = landmarker.batch(images)
    assert [len(faces) for faces in together] == [1, 0, 1]
    for image, faces in zip(images, together, strict=True):
        for face, alone in zip(faces, landmarker(image), strict=True):
            np.testing.assert_allclose(face.points, alone.points, atol=1e-3)
    given = landmarker.batch(images, [None, BOX, [[10, 10, 90, 90], [50, 60, 200, 220]]])
    assert [len(faces) for faces in given] == [1, 1, 2]
    assert given[2][1].box.tolist() == [50, 60, 200, 220]
    assert landmarker.batch([]) == []


def test_fifty_faces_go_through_in_chunks() -> None:
    recorder = Recorder()
    image = np.random.default_rng(0).integers(0, 255, (500, 600, 3)).astype(np.uint8)
    boxes = np.array([[5 * i, 4 * i, 5 * i + 80, 4 * i + 90] for i in range(50)])
    faces = Landmarker(recorder)(image, boxes)
    assert [face.box.tolist() for face in faces] == boxes.tolist()
    assert sum(recorder.batches) == 50
    assert max(recorder.batches) <= 16


def test_max_faces_and_min_score_with_a_detector() -> None:
    def detector(image: np.ndarray) -> Detections:
        return sorted_detections([[i, i, i + 50, i + 60] for i in range(4)], [0.9, 0.5, 0.8, 0.6])

    recorder = Recorder()
    landmarker = Landmarker(recorder, detector)
    image = np.zeros((100, 100, 3), np.uint8)
    assert [face.score for face in landmarker(image)] == pytest.approx([0.9, 0.8, 0.6, 0.5])
    assert [face.score for face in landmarker(image, max_faces=2)] == pytest.approx([0.9, 0.8])
    recorder.batches.clear()
    assert [face.score for face in landmarker(image, min_score=0.7)] == pytest.approx([0.9, 0.8])
    assert recorder.batches == [2]  # the others never reach the network
    assert landmarker(image, min_score=0.95) == []


def test_max_faces_and_min_score_with_boxes() -> None:
    landmarker = Landmarker(Recorder())
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, 100:] = 255
    boxes = [[20, 20, 60, 60], [200, 20, 240, 60], [220, 30, 260, 70]]
    assert [face.box[0] for face in landmarker(image, boxes, min_score=0.5)] == [200, 220]
    assert [face.box[0] for face in landmarker(image, boxes, max_faces=2)] == [20, 200]
    with pytest.raises(UsageError, match="at least 1, not 0"):
        landmarker(image, boxes, max_faces=0)


def test_no_detector() -> None:
    with pytest.raises(UsageError, match="no face detector"):
        Landmarker(Recorder())(np.zeros((9, 9, 3), np.uint8))


def test_boxes_for_another_number_of_images(landmarker: Landmarker) -> None:
    with pytest.raises(UsageError, match="1 images but boxes for 2"):
        landmarker.batch([np.zeros((9, 9, 3), np.uint8)], [None, None])


def test_boxes_may_reach_over_the_border_or_miss_the_image(landmarker: Landmarker, astronaut: np.ndarray) -> None:
    faces = landmarker(astronaut, [[-60, -50, 120, 130], [500, 400, 900, 800], [9000, 9000, 9100, 9100]])
    assert len(faces) == 3
    assert all(np.isfinite(face.points).all() for face in faces)
    assert faces[2].score < 0.1


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([1, 2, 30, 40], r"must be \[F, 4\]"),
        ([[1, 2, 30]], r"must be \[F, 4\]"),
        ([[1, 2, np.nan, 40]], "Box 0 is not finite"),
        ([[1, 2, 30, 40], [1, 2, np.inf, 40]], "Box 1 is not finite"),
        ([[100, 100, 50, 60]], "not x y w h"),
        ([[0.1, 0.2, 0.6, 0.7]], "smaller than a pixel"),
        ([[1, 2, 3], [1, 2]], "must be numbers"),
        ([["a", "b", "c", "d"]], "must be numbers"),
    ],
)
def test_boxes_that_make_no_sense(boxes: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_boxes(boxes)


def test_kinds_of_images(landmarker: Landmarker, astronaut: np.ndarray) -> None:
    grey = cv2.cvtColor(astronaut, cv2.COLOR_BGR2GRAY)
    repeated = np.repeat(grey[..., None], 3, -1)
    expected = landmarker(repeated, BOX)[0].points
    for image in (grey, grey[..., None], np.dstack([repeated, np.full(grey.shape, 7, np.uint8)])):
        np.testing.assert_array_equal(as_bgr(image), repeated)
        np.testing.assert_array_equal(landmarker(image, BOX)[0].points, expected)
    mirrored = landmarker(repeated[:, ::-1], BOX)[0].points  # not contiguous
    np.testing.assert_array_equal(mirrored, landmarker(np.ascontiguousarray(repeated[:, ::-1]), BOX)[0].points)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "cv2.imread gives"),
        ("photo.jpg", "not str"),
        (np.zeros((5, 5, 3), np.uint16), "not uint16"),
        (np.zeros((5, 5, 3), np.float32), "not float32"),
        (np.zeros((5, 5, 2), np.uint8), r"not \[5, 5, 2\]"),
        (np.zeros((2, 5, 5, 3), np.uint8), "give one image"),
        (np.zeros(7, np.uint8), r"not \[7\]"),
        (np.zeros((0, 5, 3), np.uint8), "has no pixels"),
    ],
)
def test_what_is_no_image(landmarker: Landmarker, image: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        landmarker(image)


def test_calls_from_several_threads(landmarker: Landmarker, astronaut: np.ndarray) -> None:
    images = [np.roll(astronaut, 30 * i, 1) for i in range(4)]
    alone = [landmarker(image)[0].points for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: landmarker(image)[0].points, images * 2))
    for a, b in zip(alone * 2, together, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_closes_its_runner() -> None:
    recorder = Recorder()
    with Landmarker(recorder) as landmarker:
        assert landmarker.runner is recorder
    assert recorder.closed


def test_unknown_scheme_and_wrong_number_of_points(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.spec = dataclasses.replace(tiny_spec(), scheme="halo")
    with pytest.raises(ModelError, match="'halo', which this keyposs-trt does not know"):
        Landmarker(recorder)
    recorder.spec = dataclasses.replace(tiny_spec(), points=98)
    with pytest.raises(ModelError, match="has 98 points"):
        Landmarker(recorder)


def test_alias_of_a_scheme(tmp_path: Path) -> None:
    path = tiny_model(tmp_path / "tiny.onnx", scheme="coco_wholebody_face")
    with Landmarker.load(path, detector=None) as landmarker:
        assert landmarker.scheme.name == "300w"


def test_missing_model() -> None:
    with pytest.raises(ModelError, match="There is no model 'nothing'"):
        Landmarker.load("nothing")


def test_default_model_on_the_sample_photograph(astronaut: np.ndarray) -> None:
    with Landmarker.load() as landmarker:
        assert landmarker.spec.name == DEFAULT
        faces = landmarker(astronaut)
    assert len(faces) == 1
    parts = {k: faces[0].points[list(v)] for k, v in landmarker.scheme.parts.items()}
    right, left = parts["eyes"][:6].mean(0), parts["eyes"][6:].mean(0)
    np.testing.assert_allclose(right, [203, 101], atol=4)  # read off the picture
    np.testing.assert_allclose(left, [246, 102], atol=4)
    np.testing.assert_allclose(parts["mouth"][:12].mean(0), [224, 143], atol=5)
    np.testing.assert_allclose(parts["jaw"][8], [222, 180], atol=8)


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_backend_is_passed_on(model: Path, backend: str) -> None:
    with Landmarker.load(model, backend, detector=None, threads=1) as a, open_runner(model, backend) as b:
        assert a.runner.backend == b.backend == "onnxruntime"
