"""BlazeFace on the sample photograph, on hard sizes, and on real and crowded pictures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from keyposs_trt.detection.blazeface import BlazeFace, anchors, letterbox, merge, tile_corners
from keyposs_trt.errors import ModelError

ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.jpg"
FACE = np.array([176, 87, 273, 180])  # of the astronaut, from brows to chin, read off the picture

# Centre and longer side of every face whose brows, nose and mouth can be told, read off the pictures.
PHOTOS = {
    "300w/indoor_020.png": [(340, 500, 480)],
    "300w/indoor_029.png": [(485, 490, 450)],
    "aflw/image04476.jpg": [(180, 190, 105)],
    "aflw/image22568.jpg": [(450, 350, 285)],
    "cofw/001766.jpg": [(110, 195, 140)],
    "cofw/001805.jpg": [(175, 155, 126)],
    "lapa/10773046825_0.jpg": [(735, 880, 630)],
    "lapa/13609937564_5.jpg": [(246, 285, 164)],
    "wflw/36_Football_americanfootball_ball_36_415.jpg": [(485, 163, 84), (257, 72, 58)],
    "wflw/7_Cheering_Cheering_7_16.jpg": [
        (783, 792, 97), (940, 172, 75), (102, 370, 74), (305, 417, 75), (763, 350, 86), (529, 261, 66), (798, 584, 85),
        (102, 187, 62), (509, 825, 85), (326, 200, 70), (85, 572, 77), (299, 557, 85), (627, 45, 80), (572, 547, 72),
        (507, 389, 68), (262, 776, 76), (432, 58, 70), (1000, 427, 77), (91, 30, 62),
    ],
}  # fmt: skip


def iou(a: np.ndarray, b: np.ndarray) -> float:
    overlap = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    return float(overlap / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - overlap))


@pytest.fixture(scope="module")
def detector() -> BlazeFace:
    return BlazeFace(threads=1)


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return cv2.imread(str(ASTRONAUT))


def test_finds_the_landmark_box(detector: BlazeFace, astronaut: np.ndarray) -> None:
    found = detector(astronaut)
    assert len(found) == 1
    assert found.scores[0] > 0.8
    assert iou(found.boxes[0], FACE) > 0.9


def test_mirroring_the_image_mirrors_the_box(detector: BlazeFace, astronaut: np.ndarray) -> None:
    box = detector(astronaut).boxes[0]
    mirrored = detector(np.ascontiguousarray(astronaut[:, ::-1])).boxes[0]
    back = np.array([511 - mirrored[2], mirrored[1], 511 - mirrored[0], mirrored[3]])
    np.testing.assert_allclose(back, box, atol=2.5)


@pytest.mark.parametrize("angle", [-50, -25, 25, 50])
def test_tilted_faces(detector: BlazeFace, astronaut: np.ndarray, angle: float) -> None:
    middle = (FACE[:2] + FACE[2:]) / 2
    turn = cv2.getRotationMatrix2D(middle.tolist(), angle, 1)
    found = detector(cv2.warpAffine(astronaut, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE))
    assert len(found) == 1
    centre = (found.boxes[0, :2] + found.boxes[0, 2:]) / 2
    assert np.linalg.norm(centre - middle) < 14
    # An oval face of 97 by 93 pixels keeps about its size when it is turned; the upright detector box would not.
    assert 0.9 < np.max(found.boxes[0, 2:] - found.boxes[0, :2]) / 97 < 1.15


@pytest.mark.parametrize("factor", [0.25, 2.5])
def test_size_of_the_image_does_not_matter(detector: BlazeFace, astronaut: np.ndarray, factor: float) -> None:
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    found = detector(cv2.resize(astronaut, None, fx=factor, fy=factor, interpolation=interpolation))
    assert len(found) == 1
    assert iou((found.boxes[0] + 0.5) / factor - 0.5, FACE) > 0.88


def test_place_in_a_long_image(detector: BlazeFace, astronaut: np.ndarray) -> None:
    image = np.full((512, 1200, 3), 90, np.uint8)
    image[:, 650:1162] = astronaut
    found = detector(image)
    assert len(found) == 1
    assert iou(found.boxes[0] - [650, 0, 650, 0], FACE) > 0.88


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (3000, 2), (37, 5), (256, 256)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_nothing_in_empty_images(detector: BlazeFace, shape: tuple[int, int], value: int) -> None:
    found = detector(np.full((*shape, 3), value, np.uint8))
    assert found.boxes.shape == (0, 4)


def test_min_score(astronaut: np.ndarray) -> None:
    assert len(BlazeFace(min_score=0.99, threads=1)(astronaut)) == 0


def test_lone_small_face_in_a_large_image(astronaut: np.ndarray) -> None:
    image = np.full((1500, 2000, 3), 100, np.uint8)
    small = cv2.resize(astronaut, (330, 330), interpolation=cv2.INTER_AREA)  # a face of 63 pixels, 3.1 % of the longer side
    image[1100:1430, 1600:1930] = small
    expected = (FACE + 0.5) * 330 / 512 - 0.5 + [1600, 1100, 1600, 1100]
    found = BlazeFace(tiles=True, threads=1)(image)
    assert len(found) == 1
    assert iou(found.boxes[0], expected) > 0.65


def fake_find(monkeypatch: pytest.MonkeyPatch, whole: list[tuple[float, ...]], tile: list[tuple[float, ...]]) -> None:
    """Makes the network find faces (x, y, size, score) in a whole image of 1000 pixels, and in the tile at its top left."""

    def find(self: BlazeFace, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        faces = np.array(whole if len(image) == 1000 else tile if image[0, 0, 0] else [], np.float32).reshape(-1, 4)
        shapes = faces[:, None, :2] + np.linspace(-0.2, 0.2, 8, dtype=np.float32)[:, None] * [1, -1] * faces[:, None, 2:3]
        shapes[:, 0], shapes[:, 1] = faces[:, :2], faces[:, 2:3]
        return faces[:, 3], shapes.astype(np.float32)

    monkeypatch.setattr(BlazeFace, "_find", find)


@pytest.fixture
def marked() -> np.ndarray:
    image = np.zeros((1000, 1000, 3), np.uint8)
    image[0, 0] = 255
    return image


def test_a_small_face_is_kept_where_the_tiles_show_none(detector: BlazeFace, marked: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_find(monkeypatch, [(100, 100, 50, 0.6), (102, 100, 50, 0.7), (700, 700, 300, 0.9)], [])
    found = detector(marked)
    np.testing.assert_allclose(found.scores, [0.9, 0.7])
    # The tile's face goes before the same one of the whole image, however poor and sure that is.
    fake_find(monkeypatch, [(112, 155, 75, 0.9), (300, 100, 50, 0.6)], [(100, 100, 40, 0.8)])
    found = detector(marked)
    np.testing.assert_allclose(found.scores, [0.8, 0.6])
    fake_find(monkeypatch, [], [])
    assert len(detector(marked)) == 0


def test_calls_from_several_threads(detector: BlazeFace, astronaut: np.ndarray) -> None:
    images = [np.roll(astronaut, 40 * i, 1) for i in range(4)]
    alone = [detector(image).boxes for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: detector(image).boxes, images * 2))
    for a, b in zip(alone * 2, together, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.shared
def test_real_photographs(detector: BlazeFace, shared_data: Path) -> None:
    missed, false = [], []
    for name, faces in PHOTOS.items():
        found = detector(cv2.imread(str(shared_data / "photos" / name))).boxes
        centre, side = (found[:, :2] + found[:, 2:]) / 2, (found[:, 2:] - found[:, :2]).max(1)
        truth = np.array(faces, np.float32)
        near = np.linalg.norm(centre[:, None] - truth[:, :2], axis=-1) < 0.25 * truth[:, 2]
        near &= np.abs(np.log(side[:, None] / truth[:, 2])) < 0.3
        missed += [(name, truth[i].tolist()) for i in np.flatnonzero(near.sum(0) != 1)]
        false += [(name, found[i].tolist()) for i in np.flatnonzero(near.sum(1) != 1)]
    assert missed == []
    assert false == []


@pytest.mark.shared
def test_fifty_faces(detector: BlazeFace, shared_data: Path) -> None:
    files = sorted((shared_data / "headshots").glob("*.jpg"))[:50]
    tiles = [cv2.resize(cv2.imread(str(f)), (192, 192), interpolation=cv2.INTER_AREA) for f in files]
    boxes = detector(np.vstack([np.hstack(tiles[i : i + 10]) for i in range(0, 50, 10)])).boxes
    cells = {tuple(c) for c in ((boxes[:, :2] + boxes[:, 2:]) / 2 // 192).astype(int).tolist()}
    assert len(boxes) == 50
    assert len(cells) == 50


def test_anchors() -> None:
    a = anchors()
    assert a.shape == (896, 2)
    np.testing.assert_array_equal(a[[0, 1, 2, 511, 512, 895]], [[8, 8], [8, 8], [24, 8], [248, 248], [16, 16], [240, 240]])


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (1000, 10), (64, 64)])
def test_letterbox_maps_pixels_back(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    y, x = shape[0] // 3, shape[1] // 2
    block = max(1, max(shape) // 64)
    image[max(0, y - block) : y + block + 1, max(0, x - block) : x + block + 1] = (0, 0, 255)
    picture, scale, shift = letterbox(image)
    assert picture.shape == (256, 256, 3)
    red = (picture[..., 0] + 1).astype(np.float64)
    assert picture[..., 1:].max() == -1  # blue in the image would be red here: channels are RGB
    rows, columns = np.mgrid[:256, :256] + 0.5
    centre = np.array([(red * columns).sum(), (red * rows).sum()]) / red.sum()
    np.testing.assert_allclose((centre - shift) * scale - 0.5, [x, y], atol=0.02 * max(shape) / 2 + 0.6)


def test_merge_averages_one_face_and_keeps_others() -> None:
    def shape(x: float, size: float) -> np.ndarray:
        return np.array([[x, 0], [size, size], *([[x, 1]] * 6)], np.float32)

    scores, shapes = merge(np.array([0.5, 0.9, 0.6, 0.5], np.float32), np.stack([shape(2, 10), shape(0, 10), shape(30, 10), shape(0, 3)]))
    np.testing.assert_allclose(scores, [0.9, 0.6, 0.5])
    np.testing.assert_allclose(shapes[0, 0], [2 * 0.5 / 1.4, 0], rtol=1e-5)
    np.testing.assert_allclose(shapes[1], shape(30, 10))
    np.testing.assert_allclose(shapes[2], shape(0, 3))


def test_merge_of_nothing() -> None:
    scores, shapes = merge(np.zeros(0, np.float32), np.zeros((0, 8, 2), np.float32))
    assert scores.shape == (0,)
    assert shapes.shape == (0, 8, 2)


@pytest.mark.parametrize(("height", "width"), [(600, 800), (800, 600), (512, 512), (100, 2000), (301, 300)])
def test_tiles_cover_the_image_and_every_small_face_lies_in_one(height: int, width: int) -> None:
    corners = tile_corners(height, width)
    side = corners[0][2]
    assert side == (max(height, width) + 1) // 2
    face = side // 4
    for x in range(0, width - face, 7):
        assert any(cx <= x and x + face <= cx + side for cx, _, _ in corners)
    for y in range(0, max(1, height - face), 7):
        assert any(cy <= y and y + face <= cy + side for _, cy, _ in corners)


def test_corrupt_model(tmp_path: Path) -> None:
    path = tmp_path / "blazeface.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(ModelError, match="cannot be loaded"):
        BlazeFace(model=path)
