"""Which layers INT8 costs accuracy in: a network with one layer that INT8 ruins."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from quantise_tools import POINTS, SIDE, dataset_of, folder_of_pictures, model_file, whole_picture

from keyposs_trt.calibration import collect_faces
from keyposs_trt.calibration.inputs import Source, calibration_set
from keyposs_trt.calibration.judge import Judge
from keyposs_trt.calibration.macs import multiply_adds
from keyposs_trt.calibration.run import Method, calibrate
from keyposs_trt.calibration.sensitivity import decide, plot_trade, trade
from keyposs_trt.crop import crop_faces
from keyposs_trt.errors import DataError, UsageError
from keyposs_trt.geometry import square_of_box, transform
from keyposs_trt.graph.calibration_file import quantise_by
from keyposs_trt.graph.metadata import spec_of_model
from keyposs_trt.graph.qdq import network_of


@pytest.fixture(autouse=True)
def five_points(monkeypatch):
    """The norm of the 300W scheme needs 68 points; here two of five serve."""
    from keyposs_trt.calibration import judge as module

    monkeypatch.setattr(module, "normaliser", lambda scheme, truth: np.linalg.norm(truth[:, 0] - truth[:, 1], axis=-1))


def with_a_layer_that_int8_ruins(model: onnx.ModelProto) -> onnx.ModelProto:
    """Between stem and rows a layer that copies, one that makes a channel 3000 times as large as the others, and one that drops it.

    The input of the last has one scale for all its channels, which leaves nothing of the small ones.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    channels = 8
    copy = np.eye(channels, dtype=np.float32)[:, :, None, None]
    spread = copy.copy()
    spread[7, 0] = 3000.0
    gather = copy.copy()
    gather[7] = 0
    weights = {"copy.weight": copy, "spread.weight": spread, "gather.weight": gather}
    graph.initializer.extend([numpy_helper.from_array(v, k) for k, v in weights.items()])
    nodes = []
    for node in graph.node:
        if node.name == "rows":
            for name, x, y in (("copy", "spots", "copied"), ("spread", "copied", "wide"), ("gather", "wide", "small")):
                nodes.append(helper.make_node("Conv", [x, f"{name}.weight"], [y], name, kernel_shape=[1, 1]))
            node.input[0] = "small"
        nodes.append(onnx.NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(nodes)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_of_pictures(tmp_path_factory.mktemp("sensitivity") / "all")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return with_a_layer_that_int8_ruins(onnx.load(model_file(tmp_path_factory.mktemp("model") / "tiny.onnx")))


@pytest.fixture(scope="module")
def calibration(model, folder):
    crops = collect_faces(dataset_of(folder), 20, size=SIDE)
    return calibrate(model, crops, Method("minmax"), name="tiny", source="pictures")


@pytest.fixture
def judge(model, folder):
    return Judge(model, dataset_of(folder).faces[:12], threads=1)


def test_the_guilty_layer_is_found_and_kept_in_float16(model, calibration, judge):
    assert judge.reference.drift == 0
    whole = judge(quantise_by(model, calibration, "tiny", "c"))
    cost = 100 * (whole.nme - judge.reference.nme)
    assert cost > 1
    seen: list[tuple[int, int]] = []
    found = decide(model, calibration, judge, 0.5, name="tiny", progress=lambda *step: seen.append(step))
    assert found.layers[0].name == "gather"
    assert [layer.drift for layer in found.layers] == sorted((layer.drift for layer in found.layers), reverse=True)
    assert found.chosen >= 1
    assert found.steps[0].nme == pytest.approx(cost)
    assert found.steps[found.chosen].nme <= 0.5 < found.steps[found.chosen - 1].nme
    assert found.steps[0].int8_share > found.steps[found.chosen].int8_share
    assert found.steps[-1].kept == len(found.layers)
    assert found.steps[-1].int8_share == 0
    assert seen[-1][0] == len(seen)
    json.dumps(found.to_record())
    chosen = found.applied_to(calibration, "spots")
    assert chosen.excluded == found.excluded
    again = judge(quantise_by(model, chosen, "tiny", "c"))
    assert 100 * (again.nme - judge.reference.nme) == pytest.approx(found.steps[found.chosen].nme)
    assert chosen.accuracy["nme_int8"] == pytest.approx(again.nme)


def test_nothing_is_kept_where_all_is_well(model, calibration, judge):
    found = decide(model, replace(calibration, excluded=("gather",)), judge, 50, name="tiny")
    assert (found.chosen, found.excluded) == (0, ())
    assert found.applied_to(replace(calibration, excluded=("gather",)), "spots").excluded == ("gather",)


def test_a_tolerance_that_cannot_be_met(model, calibration, judge):
    with pytest.raises(UsageError, match="from 0 to 100, not -1"):
        decide(model, calibration, judge, -1, name="tiny")


def test_words_and_picture(model, calibration, judge, tmp_path):
    found = decide(model, calibration, judge, 0.5, name="tiny")
    text = "\n".join(trade(found))
    assert "12 faces" in text
    assert "gather  (kept in float16)" in text
    assert text.count("<-") == 1
    for name in ("trade.png", "trade.svg"):
        plot_trade(tmp_path / name, found)
        assert (tmp_path / name).stat().st_size > 1000


def test_judge_measures_what_the_metrics_say(model, folder, judge):
    points = judge.landmarks(model)
    faces = dataset_of(folder).faces[:12]
    spec = spec_of_model(model, "m")
    _, matrices = crop_faces(faces[0].read_image(), square_of_box(faces[0].landmark_box[None], spec.crop_scale), SIDE)
    truth = transform(matrices, faces[0].points[None])[0]
    norm = np.linalg.norm(truth[0] - truth[1])
    want = (np.linalg.norm(points - truth, axis=-1) / norm).mean()
    assert judge.reference.nme == pytest.approx(want, rel=1e-5)


def test_judge_without_faces(model):
    with pytest.raises(DataError, match="no labelled faces"):
        Judge(model, [])


def test_multiply_adds(model):
    found = multiply_adds(network_of(model).graph)
    assert found["copy"] == 8 * 8 * 16 * 16
    assert found["stem"] == 8 * 3 * 9 * 16 * 16
    assert found["rows"] == POINTS * 8 * (found["rows"] // (POINTS * 8 * 256)) * 256


def test_a_data_set_by_its_boxes_and_a_folder_by_the_detector(folder, monkeypatch):
    spec = spec_of_model(onnx.load(model_file(folder / "m.onnx")), "m")
    (folder / "m.onnx").unlink()
    monkeypatch.setattr("keyposs_trt.detection.load_detector", lambda *a, **k: lambda image: type("D", (), {"boxes": whole_picture(image)}))
    crops = calibration_set(Source(str(folder)), spec, 20)
    assert len(crops) == 20
    for source, words in (
        (Source(str(folder), split="train"), "no split 'train'"),
        (Source(str(folder), boxes="annotated"), "no annotated boxes"),
    ):
        with pytest.raises(UsageError, match=words):
            calibration_set(source, spec, 20)
    with pytest.raises(DataError):
        calibration_set(Source(str(folder), format="wflw"), spec, 20)
    with pytest.raises(DataError, match="There is no data set"):
        calibration_set(Source(str(folder / "nothing"), format="wflw"), spec, 20)


def test_the_same_faces_in_another_place_are_the_same_set(folder, tmp_path):
    other = tmp_path / "elsewhere"
    folder_of_pictures(other)
    a, b = (collect_faces(dataset_of(p), 10, size=SIDE) for p in (folder, other))
    assert (a.digest, a.names) == (b.digest, b.names)
