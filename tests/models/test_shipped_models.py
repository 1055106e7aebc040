"""The models in the package: size, metadata, card, and the accuracy that the card states."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def test_accuracy_on_held_out_portraits(shared_data: Path) -> None:
    """Against the teacher's points; portraits whose number ends in 7 were never trained on."""
    generate = pytest.importorskip("keyposs_trt.training.synthesis.generate")
    folders = (shared_data / "headshots", shared_data / "portraits")
    found = [p for f in folders for p in generate.find_portraits(f, ("7",), held=True)]
    faces = [LabelledFace.from_points(p.path, p.points) for p in found]
    assert len(faces) == 73
    with Landmarker.load(detector=None) as landmarker:
        assert evaluate(landmarker, faces).nme <= 0.032


def test_accuracy_on_photographs_annotated_by_hand(shared_data: Path) -> None:
    faces = read_mmpose_json(shared_data / "photos/300w/test_300w.json", "300w")
    faces += read_mmpose_json(shared_data / "photos/wflw/test_wflw.json", "wflw", as_scheme="300w")
    with Landmarker.load(detector=None) as landmarker:
        assert evaluate(landmarker, faces).nme <= 0.058
