"""A model decoded in several ways."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from model_zoo import spot_image, tiny_model

from keyposs_trt import Landmarker
from keyposs_trt.decode import DECODERS
from keyposs_trt.errors import ModelError, UsageError
from keyposs_trt.evaluation.locator import decoder_names, open_locator
from keyposs_trt.graph import change_decoder, save_model

BOX = np.array([12.8, 12.8, 115.2, 115.2], np.float32)  # the crop of 1.25 x is nearly the image


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def image():
    return spot_image(128, 32, (16, 15))


def points(path, image, *decoders):
    with open_locator(path, decoders, threads=1) as locator:
        assert locator.spec.name == "tiny"
        return locator(image, BOX)


def test_every_decoder_by_name_finds_the_same_face(model, image):
    found = points(model, image, *decoder_names())
    assert found.shape == (1 + len(DECODERS), 68, 2)
    distance = dict(zip(decoder_names(), np.linalg.norm(found - found[0], axis=-1).mean(1), strict=True))  # image pixels, a map cell is 4
    assert max(distance[k] for k in ("wls", "wls_known", "lls", "dark", "dark_border", "soft_argmax")) < 0.2
    assert max(distance.values()) < 4
    assert distance["argmax"] > distance["shift"] > 0.5


def test_wls_on_the_heatmaps_is_the_model_itself(model, image):
    own, wls = points(model, image, "model", "wls")
    assert np.abs(own - wls).max() < 1e-3
    with Landmarker.load(model, detector=None, threads=1) as landmarker:
        np.testing.assert_array_equal(own, landmarker(image, BOX[None])[0].points)


def test_wls_takes_the_parameters_of_the_model(model, image, tmp_path):
    changed = tmp_path / "changed.onnx"
    save_model(change_decoder(onnx.load(model), "wls", {"radius": 2, "prior": 0.5}), changed)
    own, wls = points(changed, image, "model", "wls")
    assert np.abs(own - wls).max() < 1e-3
    assert np.abs(own - points(model, image, "model")[0]).max() > 2e-3


@pytest.mark.parametrize("decoder", ["plugin", "none"])
def test_models_with_the_plugin_or_without_decoder(model, image, tmp_path, decoder):
    other = tmp_path / "other.onnx"
    save_model(change_decoder(onnx.load(model), decoder), other)
    np.testing.assert_allclose(points(other, image, "dark", "wls"), points(model, image, "dark", "wls"), atol=1e-3)


def test_what_is_refused(model, tmp_path):
    with pytest.raises(UsageError, match=r"no decoder 'wsl'; choose from model, wls"):
        open_locator(model, ["wsl"])
    with pytest.raises(UsageError, match="named twice"):
        open_locator(model, ["wls", "wls"])
    with pytest.raises(UsageError, match="No decoder was named"):
        open_locator(model, [])
    for name, kind, message in (("a.plan", UsageError, "gives no heatmaps"), ("a.ckpt", ModelError, "export it first")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(kind, match=message):
            open_locator(tmp_path / name, ["wls"])
    with pytest.raises(ModelError, match="export it first"):
        open_locator(tmp_path / "a.ckpt")
