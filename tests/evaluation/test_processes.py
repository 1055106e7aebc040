"""Several processes find what one finds, each face once and in its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faces_with_spots import spots
from model_zoo import tiny_model

from keyposs_trt.datasets import open_dataset
from keyposs_trt.errors import BackendError, DataError, ModelError
from keyposs_trt.evaluation.located import locate_faces
from keyposs_trt.evaluation.models import Setup
from keyposs_trt.evaluation.processes import locate_in_processes


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.mark.parametrize("number", [1, 7])
def test_the_same_as_one_process(model, tmp_path, number):
    dataset = open_dataset(spots(tmp_path / "spots", number))
    if number > 1:
        Path(dataset.faces[4].image).write_bytes(b"x")
    setup = Setup("tiny", model, ("model", "argmax"), threads=1, box_scale=1.1, flip_test=True)
    seen = []

    def progress(faces):
        for face in faces:
            seen.append(face)
            yield face

    shared = locate_in_processes(setup, dataset, 2, progress)
    with setup.open_locator() as locator:
        alone = locate_faces(locator, dataset, setup.open_boxes(), setup.flip_test)
    assert seen == list(dataset.faces)
    assert shared.dataset.faces == alone.dataset.faces
    assert len(shared.dataset) == max(1, number - 1)
    assert shared.left_out == alone.left_out
    assert shared.decoders == alone.decoders
    np.testing.assert_array_equal(shared.points, alone.points)
    np.testing.assert_array_equal(shared.boxes, alone.boxes)


def test_an_error_of_a_process_is_said_as_it_is(model, tmp_path):
    dataset = open_dataset(spots(tmp_path / "spots", 2))
    with pytest.raises(ModelError, match="There is no model 'gone'"):
        locate_in_processes(Setup("gone", "gone"), dataset, 2)
    none = replace(dataset, faces=tuple(replace(face, box=None) for face in dataset.faces))
    with pytest.raises(DataError, match="None of the 2 faces"):
        locate_in_processes(Setup("tiny", model, threads=1, boxes="annotated"), none, 2)


class Deadly(str):
    """A name that ends the process it is sent to."""

    def __reduce__(self):
        import os

        return os._exit, (3,)


def test_a_process_that_dies(model, tmp_path):
    dataset = open_dataset(spots(tmp_path / "spots", 2))
    with pytest.raises(BackendError, match="has died"):
        locate_in_processes(Setup("tiny", Deadly(model)), dataset, 2)
