from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")

from tiny import write_faces, write_recipe  # noqa: E402

from keyposs_trt.datasets import open_dataset  # noqa: E402
from keyposs_trt.errors import DataError, UsageError  # noqa: E402
from keyposs_trt.schemes import load_scheme  # noqa: E402
from keyposs_trt.training.datasets.faces import AnnotatedFaces, PlainFaces, box_of  # noqa: E402
from keyposs_trt.training.datasets.loaders import make_loaders  # noqa: E402
from keyposs_trt.training.processes import Processes  # noqa: E402
from keyposs_trt.training.recipe_file import load_recipe, recipe_from_dict  # noqa: E402

CHANGES = ("shift", "angle", "flip", "wear", "occlude", "shade", "dark", "colour", "grey", "blur", "noise", "coarse", "jpeg")
QUIET = dict.fromkeys(CHANGES, 0.0)


@pytest.fixture
def faces(tmp_path):
    return open_dataset(write_faces(tmp_path / "faces", 5)).faces


def recipe(**augment):
    network = {"weights": None, "input_size": 64, "heatmap_size": 16}
    return recipe_from_dict({"name": "t", "network": network, "augment": {"scale": [1.0, 1.0], **QUIET, **augment}})


def test_without_augmentation_training_sees_what_the_runtime_sees(faces):
    r = recipe()
    order = AnnotatedFaces(faces, r)
    plain = PlainFaces(faces, r)
    found = sorted(((order[i][1]).tolist() for i in range(5)), key=str)
    want = sorted(((plain[i][1]).tolist() for i in range(5)), key=str)
    np.testing.assert_allclose(found, want, atol=1e-3)
    image, points, labelled = plain[0]
    assert image.shape == (3, 64, 64)
    assert labelled.all()
    side = points.max(0).values - points.min(0).values
    assert side.max().item() == pytest.approx(64 / 1.25, abs=0.6)


def test_every_face_comes_once_a_turn_in_another_order(faces):
    data = AnnotatedFaces(faces, recipe())
    turns = [[data[5 * turn + i][1].sum().item() for i in range(5)] for turn in range(3)]
    assert all(sorted(turn) == pytest.approx(sorted(turns[0])) for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
    assert torch.equal(AnnotatedFaces(faces, recipe())[7][0], data[7][0])


def test_points_without_a_label_stay_so_when_mirrored(tmp_path):
    path = write_faces(tmp_path / "faces", 1)
    content = json.loads(path.read_text())
    content["annotations"][0]["keypoints"][3 * 36 : 3 * 36 + 3] = [0, 0, 0]
    path.write_text(json.dumps(content))
    faces = open_dataset(path).faces
    assert faces[0].labelled is not None
    flip = load_scheme("300w").flip
    _, points, labelled = AnnotatedFaces(faces, recipe(flip=1.0))[0]
    assert labelled.sum() == 67
    assert not labelled[flip[36]]
    assert (points[flip[36]] == 0).all()
    assert not PlainFaces(faces, recipe())[0][2][36]


def test_boxes_by_name(faces):
    np.testing.assert_allclose(box_of(faces[0], "annotated"), [20, 20, 76, 76], atol=1)
    np.testing.assert_allclose(box_of(faces[0], "landmarks"), faces[0].landmark_box)


def test_problems_are_counted_and_skipped_or_refused(tmp_path, capsys):
    path = write_faces(tmp_path / "faces", 4)
    content = json.loads(path.read_text())
    content["annotations"][1]["keypoints"] = content["annotations"][1]["keypoints"][:30]
    path.write_text(json.dumps(content))
    file = write_recipe(tmp_path, path)
    train, _ = make_loaders(load_recipe(file), Processes())
    assert len(train.dataset.faces) == 3
    assert "left out 1 wrong point count, first" in capsys.readouterr().err
    with pytest.raises(DataError, match="1 problem"):
        make_loaders(load_recipe(file, ["data.on_problem=refuse"]), Processes())


def test_a_data_set_must_hold_the_points_of_the_scheme(tmp_path):
    file = write_recipe(tmp_path, write_faces(tmp_path / "faces", 2, points=29))
    with pytest.raises(UsageError, match="300w"):
        make_loaders(load_recipe(file), Processes())
    with pytest.raises(DataError, match="no data set"):
        make_loaders(load_recipe(file, ["data.dataset=elsewhere"]), Processes())


def test_few_faces_for_many_processes(tmp_path):
    file = write_recipe(tmp_path, write_faces(tmp_path / "faces", 4))
    with pytest.raises(DataError, match="do not fill one batch of 4 in each of 2 processes; start fewer"):
        make_loaders(load_recipe(file), Processes(0, 2, 2))
    with pytest.raises(DataError, match="fewer validation faces than processes"):
        make_loaders(load_recipe(file, ["training.samples=100"]), Processes(0, 5, 5))


def test_validation_faces_without_the_points_of_the_norm(tmp_path):
    path = write_faces(tmp_path / "faces", 2)
    content = json.loads(path.read_text())
    for annotation in content["annotations"]:
        annotation["keypoints"][3 * 36 : 3 * 36 + 3] = [0, 0, 0]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"has the points 36, 45 of the norm inter_ocular; annotate them"):
        make_loaders(load_recipe(write_recipe(tmp_path, path)), Processes())


def test_outside_the_picture_it_may_always_be_black(faces):
    far = recipe(borders=False, scale=[4.0, 4.0])
    image, _, _ = AnnotatedFaces(faces, far)[0]
    assert (image[:, 0] == 0).all()
