from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")

from keyposs_trt.training.datasets import wear
from keyposs_trt.training.datasets.wear import wear_something

SIDE = 200
COVERS = (wear._glasses, wear._mask, wear._fringe, wear._hat, wear._hand)


def face():
    """[68, 2] points of a plain frontal face, about 100 pixels wide, in an image of 200 pixels a side."""
    p = np.zeros((68, 2))
    turn = np.linspace(np.pi, 0, 17)
    p[:17] = np.stack([100 + 50 * np.cos(turn), 90 + 70 * np.sin(turn)], -1)
    for side, brow, eye in ((-1, range(17, 22), range(36, 42)), (1, range(26, 21, -1), (45, 44, 43, 42, 47, 46))):
        p[list(brow)] = np.stack([100 + side * np.linspace(42, 10, 5), [76, 71, 70, 71, 75]], -1)
        p[list(eye)] = np.stack([100 + side * np.array([32, 26, 19, 13, 19, 26]), [88, 85, 85, 88, 91, 91]], -1)
    p[27:31] = np.stack([np.full(4, 100), [86, 96, 106, 114]], -1)
    p[31:36] = np.stack([[89, 94, 100, 106, 111], [119, 121, 122, 121, 119]], -1)
    p[48:60] = np.stack(
        [100 + 20 * np.cos(np.linspace(np.pi, 3 * np.pi, 13)[:12]), 136 - 7 * np.sin(np.linspace(0, 2 * np.pi, 13)[:12])], -1
    )
    p[60:68] = np.stack([100 + 14 * np.cos(np.linspace(np.pi, 3 * np.pi, 9)[:8]), 136 - 2 * np.sin(np.linspace(0, 2 * np.pi, 9)[:8])], -1)
    return p


def picture():
    return np.random.default_rng(0).integers(100, 156, (SIDE, SIDE, 3)).astype(np.uint8)


def share_covered(cover, count=30):
    """[SIDE, SIDE] share of drawings that change each pixel."""
    image = picture()
    return np.mean([(cover(image, face(), np.random.default_rng(seed)) != image).any(-1) for seed in range(count)], 0)


def near(share, points, radius=3):
    """Mean share within a square around points."""
    out = [share[int(y) - radius : int(y) + radius + 1, int(x) - radius : int(x) + radius + 1].mean() for x, y in points]
    return float(np.mean(out))


def test_glasses_lie_around_the_eyes():
    share = share_covered(wear._glasses)
    assert near(share, face()[36:48], 8) > 0.3
    assert share[115:].max() == 0
    assert share[:60].max() == 0


def test_a_mask_hides_the_mouth_and_the_chin_and_leaves_the_eyes():
    share = share_covered(wear._mask)
    points = face()
    assert near(share, points[48:68]) > 0.95
    assert near(share, points[7:10] - [0, 8]) > 0.95
    assert near(share, points[36:48], 2) < 0.05
    assert share[:80].max() == 0


def test_a_fringe_hides_the_forehead_and_leaves_the_lower_face():
    share = share_covered(wear._fringe)
    assert share[40:60, 75:125].mean() > 0.7
    assert near(share, face()[48:68]) < 0.02


def test_a_hat_hides_the_forehead_and_leaves_the_lower_face():
    share = share_covered(wear._hat)
    assert share[25:45, 75:125].mean() > 0.9
    assert near(share, face()[48:68]) == 0


def test_a_hand_covers_a_part_of_the_lower_face_and_reaches_out_of_it():
    share = share_covered(wear._hand)
    assert near(share, face()[:17], 8) > 0.1
    assert near(share, face()[:17], 8) > share[:40].mean()
    assert 0.02 < share.mean() < 0.4


@pytest.mark.parametrize("cover", COVERS)
def test_covers_keep_the_kind_of_image_and_leave_the_given_one(cover):
    image = picture()
    kept = image.copy()
    for seed in range(20):
        out, again = (cover(image, face(), np.random.default_rng(seed)) for _ in range(2))
        assert (out.shape, out.dtype) == (image.shape, np.uint8)
        assert (out == again).all()
        assert (out != image).any()
        assert (image == kept).all()


SOME = face()
ODD = {
    "outside": SOME + 1000,
    "half outside": SOME - [100, 80],
    "far away": SOME * 1e9,
    "all the same": np.full((68, 2), 90.0),
    "on a line": SOME * [1, 0] + [0, 90],
    "seen from the side": SOME * [0.05, 1] + [90, 0],
    "upside down": SIDE - SOME,
    "larger than the image": (SOME - 100) * 20 + 100,
    "tiny": (SOME - 100) * 0.01 + 100,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("points", ODD.values(), ids=ODD)
def test_any_points_will_do(points):
    image = picture()
    for seed in range(40):
        out = wear_something(image, points.astype(np.float32), np.random.default_rng(seed))
        assert (out.shape, out.dtype) == (image.shape, np.uint8)


def test_every_cover_is_drawn():
    """A picture of one colour shows what was put on by where it changes."""
    image = np.full((SIDE, SIDE, 3), 120, np.uint8)
    seen = {
        (wear_something(image, face().astype(np.float32), np.random.default_rng(seed)) != image).any(-1)[::40, ::40].tobytes()
        for seed in range(60)
    }
    assert len(seen) >= 5
