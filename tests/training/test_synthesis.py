"""The renderer, on the real mesh and portraits."""

from __future__ import annotations

import itertools
import shutil

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")
pytest.importorskip("numba")

from keyposs_trt.errors import DataError  # noqa: E402
from keyposs_trt.training.synthesis.fitting import FaceFit, fit_mesh  # noqa: E402
from keyposs_trt.training.synthesis.generate import (  # noqa: E402
    SynthesisOptions,
    _turn_limits,
    find_portraits,
    make_views,
    render_dataset,
)
from keyposs_trt.training.synthesis.labels import EVEN, FIT_WEIGHTS, evenly_spaced, landmarks_68, teacher_offset  # noqa: E402
from keyposs_trt.training.synthesis.mesh import load_mesh  # noqa: E402
from keyposs_trt.training.synthesis.raster import rasterise  # noqa: E402
from keyposs_trt.training.synthesis.render import PortraitRenderer, rotation_of  # noqa: E402

FRONTAL = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def mesh(shared_data):
    return load_mesh(shared_data / "mesh" / "ict_face.npz")


@pytest.fixture(scope="module")
def portrait(shared_data):
    return find_portraits(shared_data / "headshots", ("7",))[0]


@pytest.fixture
def portraits(shared_data, tmp_path):
    """A folder of three portraits with their labels."""
    folder = tmp_path / "faces"
    folder.mkdir()
    with np.load(shared_data / "headshots" / "mediapipe478.npz") as z:
        np.savez(folder / "mediapipe478.npz", names=z["names"][:3], points=z["points"][:3], spread=z["spread"][:3])
        for name in z["names"][:3]:
            shutil.copy(shared_data / "headshots" / str(name), folder)
    return folder


def options(folder, shared_data, **changes):
    return SynthesisOptions((str(folder),), str(shared_data / "mesh" / "ict_face.npz"), **{"views": 3, "size": 96, **changes})


def test_fit_finds_the_pose_it_was_made_with(mesh):
    rng = np.random.default_rng(0)
    identity, expression = np.zeros(len(mesh.identity)), np.zeros(len(mesh.expression))
    identity[:5] = rng.uniform(-1, 1, 5)
    rotation = rotation_of(np.deg2rad(25), np.deg2rad(-8)) @ FRONTAL
    true = FaceFit(identity, expression, 12.0, rotation, np.array([200.0, 180.0]))
    points = true.project(mesh.shape(identity, expression))[mesh.landmarks, :2]
    fit = fit_mesh(mesh, points, FIT_WEIGHTS)
    assert np.rad2deg(fit.yaw) == pytest.approx(25, abs=3)
    seen = fit.project(mesh.shape(fit.identity, fit.expression))[mesh.landmarks, :2]
    assert np.abs(seen - points).max() < 0.02 * np.ptp(points[:, 0])


def test_far_jaw_lies_on_the_silhouette_of_a_turned_head(mesh):
    zero = np.zeros(len(mesh.identity)), np.zeros(len(mesh.expression))
    shape = mesh.shape(*zero)
    for yaw, far in ((40, slice(9, 17)), (-40, slice(0, 8))):
        fit = FaceFit(*zero, 10.0, rotation_of(np.deg2rad(yaw), 0) @ FRONTAL, np.zeros(2))
        assert np.rad2deg(fit.yaw) == pytest.approx(yaw)
        points = landmarks_68(mesh, fit, shape, np.zeros((68, 3)))
        contour = cv2.convexHull(fit.project(shape)[:, :2].astype(np.float32))
        scale = np.linalg.norm(points[27] - points[8])
        away = [abs(cv2.pointPolygonTest(contour, (float(x), float(y)), True)) for x, y in points[far]]
        assert max(away) < 0.06 * scale  # the contour of the whole skin, whose hull bridges hollows
        vertex = fit.project(shape)[mesh.landmarks, :2]
        assert ((points[far] - vertex[far])[:, 0] * np.sign(yaw)).max() > 0.5  # they moved outwards
    frontal = landmarks_68(mesh, FaceFit(*zero, 10.0, FRONTAL, np.zeros(2)), shape, np.zeros((68, 3)))
    assert frontal[0, 0] < frontal[16, 0]
    assert frontal[8, 1] > frontal[27, 1]


def test_points_of_a_line_are_evenly_spaced_along_it():
    rng = np.random.default_rng(0)
    points = np.cumsum(rng.uniform(1, 9, (68, 2)), 0)
    even = evenly_spaced(points)
    for line in EVEN:
        index = list(line)
        np.testing.assert_allclose(even[index[0]], points[index[0]])
        np.testing.assert_allclose(even[index[-1]], points[index[-1]])
        track = np.concatenate([np.linspace(a, b, 200) for a, b in itertools.pairwise(points[index])])
        assert np.linalg.norm(even[index][:, None] - track, axis=-1).min(1).max() < 0.05  # on the line
    steps = np.linalg.norm(np.diff(evenly_spaced(np.c_[points[:, 0], points[:, 0]]), axis=0), axis=1)  # a straight one
    np.testing.assert_allclose(steps[17:21], steps[17])
    np.testing.assert_allclose(even[31:], points[31:])  # the rest stays


def test_labels_leave_the_teacher_further_the_more_a_head_is_turned(mesh, portrait):
    fit = fit_mesh(mesh, portrait.points, FIT_WEIGHTS)
    shape = mesh.shape(fit.identity, fit.expression)
    offset = teacher_offset(mesh, fit, shape, portrait.points)
    label = landmarks_68(mesh, fit, shape, offset)
    np.testing.assert_allclose(label[36:], portrait.points[36:], atol=1e-6)  # eyes and mouth are the teacher's own
    scheme = evenly_spaced(portrait.points)
    eyes = np.linalg.norm(portrait.points[36] - portrait.points[45])
    to_scheme, to_teacher = (np.linalg.norm(label - other, axis=1)[:31].mean() / eyes for other in (scheme, portrait.points))
    assert 0.01 < to_teacher < 0.06
    assert to_scheme < np.linalg.norm(scheme - portrait.points, axis=1)[:31].mean() / eyes


def test_rasteriser_keeps_the_nearer_triangle():
    points = np.array([[0, 0, 5], [8, 0, 5], [0, 8, 5], [0, 0, 1], [8, 0, 1], [0, 8, 9]], np.float64)
    attributes = np.array([[0], [0], [0], [1], [1], [1]], np.float32)
    buffer, depth = np.full((8, 8, 1), -1, np.float32), np.full((8, 8), np.inf)
    rasterise(points, np.array([[0, 1, 2], [3, 4, 5]]), attributes, buffer, depth)
    assert buffer[1, 1, 0] == 1
    assert buffer[6, 1, 0] == 0
    assert buffer[7, 7, 0] == -1


def test_first_view_is_the_portrait_and_labels_stay_near_the_teacher(mesh, portrait):
    image = np.asarray(cv2.imread(str(portrait.path)), np.uint8)
    view, points = PortraitRenderer(mesh, image, portrait.points).original(192)
    eyes = np.linalg.norm(points[36] - points[45])
    k = eyes / np.linalg.norm(portrait.points[36] - portrait.points[45])
    teacher = (portrait.points - portrait.points[36]) * k + points[36]
    assert np.abs(points[36:] - teacher[36:]).max() < 1e-6 * 192  # eyes and mouth are the teacher's own
    assert np.linalg.norm(points - teacher, axis=1).mean() / eyes < 0.04
    assert view.shape == (192, 192, 3)
    assert view.std() > 10


def test_views_hold_their_points_and_repeat(mesh, portrait, shared_data):
    image = np.asarray(cv2.imread(str(portrait.path)), np.uint8)
    o = options("unused", shared_data, views=6)
    images, points = make_views(image, portrait.points, mesh, o, np.random.default_rng(3))
    again, points_again = make_views(image, portrait.points, mesh, o, np.random.default_rng(3))
    assert points.shape == (6, 68, 2)
    assert (points > 0).all()
    assert (points < 96).all()
    assert all((a == b).all() for a, b in zip(images, again, strict=True))
    assert (points == points_again).all()


def test_a_turned_head_is_not_turned_to_its_unseen_side():
    low, high = np.rad2deg(_turn_limits(np.deg2rad(40)))
    assert (low, high) == (pytest.approx(-25), pytest.approx(30))
    assert np.rad2deg(_turn_limits(0.0)) == pytest.approx((-70, 70))


def test_rendering_resumes_and_guards_its_options(portraits, shared_data, tmp_path):
    out = tmp_path / "views"
    files = render_dataset(options(portraits, shared_data), out, workers=1)
    assert [f.name for f in files] == ["0_000.npz", "0_001.npz", "0_002.npz"]
    kept = files[0].stat().st_mtime_ns
    files[1].unlink()
    render_dataset(options(portraits, shared_data), out, workers=1)
    assert files[1].exists()
    assert files[0].stat().st_mtime_ns == kept
    with pytest.raises(DataError, match="other options"):
        render_dataset(options(portraits, shared_data, views=4), out)


def test_what_is_missing_is_named(portraits, shared_data, tmp_path):
    with pytest.raises(DataError, match=r"mediapipe478\.npz"):
        find_portraits(tmp_path, ())
    (portraits / "001.jpg").unlink()
    with pytest.raises(DataError, match=r"001\.jpg"):
        find_portraits(portraits, ("7",))
    broken = tmp_path / "mesh.npz"
    broken.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match="face mesh"):
        load_mesh(broken)


def test_held_out_portraits_are_never_found(shared_data):
    names = [p.path.stem for p in find_portraits(shared_data / "headshots", ("7",))]
    held = [p.path.stem for p in find_portraits(shared_data / "headshots", ("7",), held=True)]
    assert len(names) == 479
    assert not any(n.endswith("7") for n in names)
    assert len(held) == 53
    assert all(n.endswith("7") for n in held)
