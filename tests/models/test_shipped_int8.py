"""The shipped calibrations fit the shipped models, and INT8 and FP16 cost next to nothing on faces nobody trained or calibrated on."""

from __future__ import annotations

import numpy as np
import pytest

from keyposs_trt.calibration.judge import Judge
from keyposs_trt.datasets import open_dataset
from keyposs_trt.graph import expand_weights, quantise, to_fp16
from keyposs_trt.graph.calibration_file import calibration_beside, network_sha256, quantise_by, read_calibration
from keyposs_trt.models import model_names, resolve

onnx = pytest.importorskip("onnx")
MODELS = model_names()


@pytest.mark.parametrize("name", MODELS)
def test_each_model_has_a_calibration_of_its_own(name):
    path = resolve(name)
    file = calibration_beside(path)
    assert file is not None
    found = read_calibration(file)
    assert (found.model, found.network_sha256) == (name, network_sha256(onnx.load(path)))
    assert found.samples >= 256
    assert "/" not in found.source  # no folder of the machine it was made on
    assert found.accuracy["nme_int8"] - found.accuracy["nme_fp32"] <= 0.0005


@pytest.mark.parametrize("name", MODELS)
def test_int8_weights_take_a_third(name):
    model = onnx.load(resolve(name))
    quantised = quantise_by(model, read_calibration(calibration_beside(resolve(name))), name, name)
    assert weights(quantised) <= 0.35 * weights(expand_weights(model))


def weights(model) -> int:
    """Bytes of the network's constants."""
    return sum(len(i.raw_data) or 4 * len(i.float_data) for i in model.graph.initializer if not i.name.startswith("decode/"))


@pytest.fixture(scope="module")
def unseen(shared_data):
    return open_dataset(shared_data, "teacher", "300w", "unseen").faces


@pytest.mark.shared
@pytest.mark.parametrize("name", MODELS)
def test_what_fp16_and_int8_cost_on_the_unseen_set(name, unseen):
    model = onnx.load(resolve(name))
    judge = Judge(model, unseen, threads=2)
    fp16 = judge(to_fp16(model))
    assert abs(100 * (fp16.nme - judge.reference.nme)) <= 0.02
    assert fp16.drift_p99 <= 1
    calibration = read_calibration(calibration_beside(resolve(name)))
    int8 = judge(quantise_by(model, calibration, name, name))
    assert 100 * (int8.nme - judge.reference.nme) <= 0.05
    assert int8.drift_p99 <= 1
    # The measure tells: four times the ranges, a quarter of the levels, costs more.
    coarse = judge(quantise(model, {k: 4 * v for k, v in calibration.ranges.items()}, exclude=calibration.excluded))
    assert coarse.drift > 2 * int8.drift
    assert np.isfinite(coarse.nme)
