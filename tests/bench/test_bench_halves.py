"""The graph in two halves gives what the whole gives."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from model_zoo import spot_image, tiny_model
from numpy.testing import assert_allclose

from keyposs_trt.bench import halves as module
from keyposs_trt.bench.halves import split
from keyposs_trt.engine.runner import open_runner
from keyposs_trt.graph import save_model
from keyposs_trt.graph.calibration_file import calibration_beside, quantise_by, read_calibration
from keyposs_trt.models import resolve

CROPS = np.stack([spot_image(128, 32, cell) for cell in ((16, 16), (12, 20))])


@pytest.mark.parametrize("model", ["wls", "none", "face68-16"])
def test_both_halves_give_what_the_whole_model_gives(tmp_path, model):
    path = resolve(model) if model.startswith("face") else tiny_model(tmp_path / "tiny.onnx", decoder=model)
    with open_runner(path, threads=1) as runner:
        whole, spec = runner(CROPS), runner.spec
    halves = split(path, spec, threads=1)
    maps = halves.network(CROPS)
    assert maps.shape == (2, spec.points, spec.heatmap_size, spec.heatmap_size)
    found = halves.decode(maps)
    assert_allclose(found.landmarks, whole.landmarks, atol=1e-3)
    assert_allclose(found.scores, whole.scores, atol=1e-5)
    assert_allclose(found.covariance, whole.covariance, rtol=1e-3, atol=1e-4)


def test_nothing_is_cut_without_onnx(tmp_path, monkeypatch):
    path = tiny_model(tmp_path / "tiny.onnx")
    with open_runner(path, threads=1) as runner:
        spec = runner.spec
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert split(path, spec) is None


def test_nothing_is_cut_where_the_heatmaps_have_no_name(tmp_path):
    path = tiny_model(tmp_path / "tiny.onnx")
    with open_runner(path, threads=1) as runner:
        spec = runner.spec
    model = onnx.load(path)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["maps" if name == "heatmaps" else name for name in names]
    onnx.save(model, path)
    assert split(path, spec, threads=1) is None


def test_a_quantised_model_is_cut_and_gives_what_its_runner_gives(tmp_path):
    """Q/DQ nodes are computed as they are written, in the halves too."""
    float_model = resolve("face68-16")
    path = tmp_path / "int8.onnx"
    save_model(quantise_by(onnx.load(float_model), read_calibration(calibration_beside(float_model)), "face68-16", "shipped"), path)
    with open_runner(path, "onnxruntime", 1) as runner:
        halves = split(path, runner.spec, 1)
        assert halves is not None
        np.testing.assert_allclose(halves.decode(halves.network(CROPS)).landmarks, runner(CROPS).landmarks, atol=1e-4)
