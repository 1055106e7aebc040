"""The models in the package: size, metadata, card, and the accuracy that the card states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from keyposs_trt.evaluation import LabelledFace, evaluate, read_mmpose_json
from keyposs_trt.graph import read_spec
from keyposs_trt.landmarker import Landmarker
from keyposs_trt.models import DEFAULT, model_names, resolve

if TYPE_CHECKING:
    from pathlib import Path


def test_the_default_model_is_shipped() -> None:
    assert DEFAULT in model_names()


@pytest.mark.parametrize("name", model_names())
def test_a_model_is_small_says_what_it_is_and_has_a_card(name: str) -> None:
    path = resolve(name)
    spec = read_spec(path)
    assert path.stat().st_size <= 2_500_000
    assert spec.name == name
    assert spec.licence == "Apache-2.0"
    assert "not stated" not in spec.training_data
    card = path.with_suffix(".md").read_text()
    for word in ("Trained on", "Figures", "Limits"):
        assert f"## {word}" in card


def test_the_family_is_whole_and_small() -> None:
    sizes = {name: read_spec(resolve(name)).heatmap_size for name in model_names()}
    assert sizes == {f"face68-{size}": size for size in (64, 32, 16, 8, 4)}
    assert sum(resolve(name).stat().st_size for name in sizes) <= 12_000_000


@pytest.fixture(scope="module")
def unseen(shared_data: Path) -> dict[str, tuple[float, float]]:
    """Model -> NME against the teacher's points on the portraits whose number ends in 7, which were never trained on, and the share of
    errors inside the 68 % ellipses."""
    generate = pytest.importorskip("keyposs_trt.training.synthesis.generate")
    folders = (shared_data / "headshots", shared_data / "portraits")
    faces = [LabelledFace.from_points(p.path, p.points) for f in folders for p in generate.find_portraits(f, ("7",), held=True)]
    assert len(faces) == 73
    images = [face.read_image() for face in faces]
    found = {}
    for name in model_names():
        errors, inside = [], []
        with Landmarker.load(name, detector=None) as landmarker:
            for face, image in zip(faces, images, strict=True):
                result = landmarker(image, face.box[None])[0]
                e = result.points - face.points
                errors.append(np.linalg.norm(e, axis=1).mean() / np.linalg.norm(face.points[36] - face.points[45]))
                xx, xy, yy = result.covariance.astype(float).T
                squares = (yy * e[:, 0] ** 2 - 2 * xy * e[:, 0] * e[:, 1] + xx * e[:, 1] ** 2) / (xx * yy - xy**2)
                inside.append(squares <= -2 * np.log(0.32))
        found[name] = (float(np.mean(errors)), float(np.mean(inside)))
    return found


def test_accuracy_on_held_out_portraits(unseen: dict[str, tuple[float, float]]) -> None:
    nme = {name: error for name, (error, _) in unseen.items()}
    assert nme["face68-32"] <= 0.026
    assert nme["face68-64"] <= 1.10 * nme["face68-32"]
    assert nme["face68-16"] <= 1.10 * nme["face68-32"]
    assert nme["face68-8"] <= 1.40 * nme["face68-32"]
    assert nme["face68-4"] <= 0.12


def test_ellipses_hold_the_errors_they_promise(unseen: dict[str, tuple[float, float]]) -> None:
    for name, (_, inside) in unseen.items():
        assert 0.60 <= inside <= 0.76, name


def test_accuracy_on_photographs_annotated_by_hand(shared_data: Path) -> None:
    """The goal is 4.8 %; until it is reached, no model may be worse than the first that was trained for it."""
    faces = read_mmpose_json(shared_data / "photos/300w/test_300w.json", "300w")
    faces += read_mmpose_json(shared_data / "photos/wflw/test_wflw.json", "wflw", as_scheme="300w")
    with Landmarker.load(detector=None) as landmarker:
        assert evaluate(landmarker, faces).nme <= 0.049
