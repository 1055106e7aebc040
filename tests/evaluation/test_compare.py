"""Comparisons: which rows there are, what judges them, and what is told of what does not run here."""

from __future__ import annotations

import math
import re
import shutil

import numpy as np
import pytest
from compare_tools import calibration, engine
from faces_with_spots import spots
from model_zoo import tiny_model

import keyposs_trt.engine.tensorrt_runner as engine_module
from keyposs_trt.datasets import open_dataset
from keyposs_trt.engine.onnxruntime_runner import OnnxRuntimeRunner
from keyposs_trt.engine.runner import Outputs
from keyposs_trt.errors import DataError, ModelError, UsageError
from keyposs_trt.evaluation.candidates import subjects_of
from keyposs_trt.evaluation.compare import compare_models
from keyposs_trt.evaluation.comparison import Options
from keyposs_trt.evaluation.verdict import Gates
from keyposs_trt.graph import save_model
from keyposs_trt.graph.calibration_file import quantise_by, read_calibration


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = spots(tmp_path_factory.mktemp("data"), 5)
    return lambda: open_dataset(path)


def compared(models, data, **options):
    return compare_models(subjects_of([str(m) for m in models]), data, Options(threads=1, **options))


def words(found):
    return [(row.precision, row.runs_on, row.decoder, row.verdict.kind) for row in found.rows]


def test_precisions_and_decoders(model, data, tmp_path):
    ranges = calibration(model, tmp_path / "good.calibration.json")
    wanted = {"precisions": ("fp16", "int8"), "decoders": ("model", "argmax"), "calibrations": (ranges,)}
    found = compared([model], data, **wanted)
    assert words(found) == [
        (p, "onnxruntime", d, "reference" if p == "fp32" else "pass") for p in ("fp32", "fp16", "int8") for d in ("model", "argmax")
    ]
    assert found.met
    by_precision = {row.precision: row for row in found.rows if row.decoder == "model"}
    first = by_precision["fp32"]
    assert (first.size, first.faces, first.missed, first.heatmap) == (model.stat().st_size, 5, 0, 32)
    assert first.drift is None
    assert math.isnan(first.increase)
    for row in (by_precision["fp16"], by_precision["int8"]):
        assert row.drift is not None
        assert 0 < row.drift.mean < row.drift.p99 <= row.drift.largest
        assert row.increase == pytest.approx(row.nme - first.nme)
        assert row.drift.faces == 5
    assert by_precision["int8"].drift.mean > 2 * by_precision["fp16"].drift.mean
    assert by_precision["fp16"].size != by_precision["fp32"].size
    assert {row.norm for row in first.evaluation.figures.rows} == {found.norm} == {"inter_ocular"}


def test_drift_is_what_the_points_say(model, data):
    """By hand: image pixels over the side of the crop, times the input size."""
    found = compared([model], data)
    first, second = found.rows
    a, b = first.evaluation.located, second.evaluation.located
    sides = 1.25 * (a.boxes[:, 2:] - a.boxes[:, :2]).max(1)
    moved = np.hypot(*np.moveaxis(b.points[0].astype(float) - a.points[0], -1, 0)) * 128 / sides[:, None]
    assert second.drift.mean == pytest.approx(moved.mean(), rel=1e-4)
    assert second.drift.p99 == pytest.approx(np.percentile(moved, 99), rel=1e-4)
    assert second.drift.largest == pytest.approx(moved.max(), rel=1e-4)
    assert second.drift.worst == moved.mean(0).argmax()
    assert second.drift.worst_mean == pytest.approx(moved.mean(0).max(), rel=1e-4)


def test_a_bad_calibration_fails(model, data, tmp_path):
    ranges = calibration(model, tmp_path / "bad.calibration.json", largest=1000)  # all that a face gives is rounded to nothing
    found = compared([model], data, precisions=("int8",), calibrations=(ranges,), gates=Gates({"int8": 0.1}, {"int8": 1}))
    assert not found.met
    _, int8 = found.rows
    assert int8.verdict.kind == "fail"
    assert re.fullmatch(r"fail: NME \+\d+\.\d\d > 0.1, drift p99 \d+\.\d\d px > 1", int8.verdict.text)
    assert int8.increase > 0.1
    assert compared([model], data, precisions=("int8",), calibrations=(ranges,), gates=Gates({"fp16": 0.1}, {})).met


def test_a_missing_calibration_is_an_error_of_its_row(model, data):
    found = compared([model], data, precisions=("int8", "fp16"))
    assert [row.verdict.kind for row in found.rows] == ["reference", "error", "pass"]
    assert "measure them: keyposs-trt calibrate" in found.rows[1].verdict.text
    assert not found.met


def test_a_calibration_of_another_network(model, data, tmp_path):
    other = tiny_model(tmp_path / "other.onnx", heatmap_size=16)
    ranges = calibration(other, tmp_path / "other.calibration.json")
    found = compared([model], data, precisions=("int8",), calibrations=(ranges,))
    assert found.rows[1].verdict.kind == "error"
    assert "is of another network" in found.rows[1].verdict.text
    mine = calibration(model, tmp_path / "mine.calibration.json")
    assert compared([model], data, precisions=("int8",), calibrations=(ranges, mine)).met


def test_a_folder_of_calibrations(model, data, tmp_path):
    found = compared([model], data, precisions=("int8",), calibrations=(tmp_path,))
    assert f"'tiny.calibration.json' is not in {tmp_path}" in found.rows[1].verdict.text
    calibration(model, tmp_path / "tiny.calibration.json")
    assert compared([model], data, precisions=("int8",), calibrations=(tmp_path,)).met


def test_a_file_that_is_quantised_already(model, data, tmp_path):
    import onnx

    ranges = calibration(model, tmp_path / "r.calibration.json")
    quantised = tmp_path / "tiny_int8.onnx"
    save_model(quantise_by(onnx.load(model), read_calibration(ranges), "tiny", ranges), quantised)
    made = compared([model], data, precisions=("int8",), calibrations=(ranges,)).rows[1]
    found = compared([quantised, model], data)
    assert words(found) == [
        ("int8", "onnxruntime", "model", "pass"),
        ("fp32", "onnxruntime", "model", "reference"),
        ("fp16", "onnxruntime", "model", "pass"),
    ]
    assert found.rows[0].drift == made.drift
    assert found.rows[0].size == quantised.stat().st_size
    alone = compared([quantised], data)
    assert not alone.met
    assert "its FP32 model is not among those compared; name it too" in alone.rows[0].verdict.text
    assert alone.rows[0].nme == made.nme


def test_an_engine_without_a_gpu_is_shown_by_its_twin(model, data, tmp_path):
    ranges = calibration(model, tmp_path / "r.calibration.json")
    plans = [engine(model, tmp_path / "a.plan"), engine(model, tmp_path / "b.plan", "int8", ranges)]
    found = compared(plans, data)
    twin = "tensorrt-rtx (twin: onnxruntime)"
    assert words(found) == [
        ("fp32", "onnxruntime", "model", "reference"),
        ("fp16", twin, "model", "pass"),
        ("int8", twin, "model", "pass"),
    ]
    same = compared([model], data, precisions=("fp16", "int8"), calibrations=(ranges,))
    assert [row.drift for row in found.rows] == [row.drift for row in same.rows]
    assert [row.size for row in found.rows[1:]] == [len(b"no plan")] * 2
    assert found.rows[1].note
    both = compared([model, plans[0]], data)
    assert words(both) == [*words(same)[:2], words(found)[1]]


def test_the_model_of_an_engine_has_changed(model, data, tmp_path):
    here = tmp_path / "here.onnx"
    shutil.copy(model, here)
    plan = engine(here, tmp_path / "a.plan")
    tiny_model(here, heatmap_size=16)
    found = compared([model, plan], data)
    assert found.rows[-1].verdict.kind == "error"
    assert f"was built from another version of '{here}'" in found.rows[-1].verdict.text
    assert "build it again: keyposs-trt build" in found.rows[-1].verdict.text
    here.unlink()
    found = compared([model, plan], data)
    assert "which is not here; copy the model beside the engine" in found.rows[-1].verdict.text
    plan.write_bytes(b"nn plan")
    found = compared([model, plan], data)
    assert "is not the one its manifest describes" in found.rows[-1].verdict.text


def test_the_calibration_of_an_engine_has_changed(model, data, tmp_path):
    ranges = calibration(model, tmp_path / "r.calibration.json")
    plan = engine(model, tmp_path / "b.plan", "int8", ranges)
    calibration(model, ranges, largest=2.0)
    text = compared([model, plan], data).rows[-1].verdict.text
    assert f"The calibration '{ranges}' has changed since the engine '{plan}' was built" in text


class StandIn:
    """An engine that moves every landmark by half a crop pixel."""

    def __init__(self, path, backend="auto"):
        self._runner = OnnxRuntimeRunner(StandIn.model, threads=1)
        self.spec, self.backend = self._runner.spec, "tensorrt-rtx"

    def __call__(self, crops):
        found = self._runner(crops)
        return Outputs(found.landmarks + np.float32([0.3, 0.4]), found.scores, found.covariance)

    def close(self):
        self._runner.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def test_an_engine_that_runs_here(model, data, tmp_path, monkeypatch):
    StandIn.model = model
    monkeypatch.setattr(engine_module, "TensorRTRunner", StandIn)
    plan = engine(model, tmp_path / "a.plan")
    found = compared([plan], data, decoders=("model", "argmax"), latency=True)
    assert words(found) == [
        ("fp32", "onnxruntime", "model", "reference"),
        ("fp32", "onnxruntime", "argmax", "reference"),
        ("fp16", "tensorrt-rtx", "model", found.rows[2].verdict.kind),
        ("fp16", "tensorrt-rtx (twin: onnxruntime)", "argmax", "pass"),
    ]
    assert found.rows[2].drift.mean == pytest.approx(0.5, abs=1e-4)
    assert found.rows[2].drift.p99 == pytest.approx(0.5, abs=1e-4)
    assert "gives no heatmaps" in found.rows[3].note
    assert [row.timing is not None for row in found.rows] == [True, False, True, False]
    for row in found.rows[::2]:
        t = row.timing
        assert 0 < t.p50 <= t.p90 <= t.p99
        assert t.throughput > 0
        assert t.joules is not None or t.power


class BrokenStandIn(StandIn):
    """An engine whose float16 overflows on some faces."""

    def __call__(self, crops):
        found = super().__call__(crops)
        found.landmarks[:, 3] = np.nan
        return found


@pytest.mark.filterwarnings("ignore:invalid value")
def test_landmarks_that_are_no_numbers_do_not_pass(model, data, tmp_path, monkeypatch):
    StandIn.model = model
    monkeypatch.setattr(engine_module, "TensorRTRunner", BrokenStandIn)
    found = compared([engine(model, tmp_path / "a.plan")], data)
    assert found.rows[1].verdict.text == "fail: some landmarks are no numbers"


def test_layers(model, data, tmp_path):
    pytest.importorskip("polygraphy")
    ranges = calibration(model, tmp_path / "r.calibration.json")
    found = compared([model], data, precisions=("fp16", "int8"), calibrations=(ranges,), layers=True)
    reference, fp16, int8 = found.rows
    assert reference.layers is None
    assert [layer.operator for layer in fp16.layers] == ["AveragePool", "Conv", "Relu", "Conv", "Conv"]
    assert [layer.tensor for layer in int8.layers][-1] == "heatmaps"
    assert 0 < fp16.layers[-1].relative < 2e-3 < int8.layers[-1].relative < 0.1
    assert all(0 < layer.mean <= layer.largest for layer in int8.layers)


def test_faces_and_sizes(model, data, tmp_path):
    small = tiny_model(tmp_path / "tiny-16.onnx", heatmap_size=16)
    tiny_model(tmp_path / "tiny-32.onnx")
    seen = []
    found = compare_models(
        subjects_of([str(tmp_path / "tiny.onnx")], [32, 16]),
        data,
        Options(threads=1, faces=3),
        lambda title, things: seen.append(title) or things,
    )
    assert [(row.heatmap, row.faces) for row in found.rows] == [(32, 3), (32, 3), (16, 3), (16, 3)]
    assert found.rows[2].model == str(small)
    assert seen == ["graphs and engines", *(f"{row.model} {row.precision}" for row in found.rows)]
    assert [face.image_name for face in found.dataset.faces] == ["0.png", "2.png", "4.png"]


def test_what_makes_no_sense(model, data, tmp_path):
    for options, message in (
        ({"precisions": ("fp8",)}, "'fp8' is no precision"),
        ({"precisions": ("fp16", "fp16")}, "'fp16' is named twice"),
        ({"runtimes": ("cuda",)}, "'cuda' is no backend"),
        ({"decoders": ("wsl",)}, "no decoder 'wsl'"),
        ({"norm": "iod"}, "no norm 'iod'"),
        ({"calibrations": (tmp_path / "gone",)}, "no calibration"),
    ):
        with pytest.raises(UsageError, match=message):
            compared([model], data, **options)
    with pytest.raises(UsageError, match="is compared twice"):
        subjects_of([str(model), str(model)])
    with pytest.raises(UsageError, match="leave out --heatmap"):
        subjects_of([str(engine(model, tmp_path / "a.plan"))], [32])
    with pytest.raises(ModelError, match="There is no model 'gone'"):
        subjects_of(["gone"])
    (tmp_path / "broken.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match="no ONNX model"):
        compared([tmp_path / "broken.onnx"], data)
    with pytest.raises(DataError):
        compared([model], lambda: open_dataset(tmp_path / "nowhere"))


@pytest.mark.rtx
def test_an_engine_is_built_where_it_can_be(data, tmp_path):
    pytest.importorskip("tensorrt_rtx_bindings", reason="needs TensorRT-RTX: pip install -e '.[rtx]'")
    model = tiny_model(tmp_path / "tiny.onnx", decoder="none")
    found = compared([model], data, runtimes=("tensorrt-rtx", "tensorrt"), engines=tmp_path / "engines")
    plans = {path.name: path.stat().st_size for path in (tmp_path / "engines").glob("*.plan")}
    assert len(plans) == 2
    rows = {(row.precision, row.runtime): row for row in found.rows}
    assert rows["fp16", "tensorrt-rtx"].size == plans["tiny_fp16_tensorrt-rtx.plan"]
    assert found.met
