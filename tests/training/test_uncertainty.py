from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")

from tiny import write_faces, write_recipe  # noqa: E402

from keyposs_trt.errors import DataError  # noqa: E402
from keyposs_trt.training.checkpoint import load_checkpoint  # noqa: E402
from keyposs_trt.training.datasets.loaders import make_loaders  # noqa: E402
from keyposs_trt.training.export import spec_of  # noqa: E402
from keyposs_trt.training.module import LandmarkModule  # noqa: E402
from keyposs_trt.training.processes import Processes  # noqa: E402
from keyposs_trt.training.recipe import load_recipe  # noqa: E402
from keyposs_trt.training.uncertainty import (  # noqa: E402
    calibrate_covariance,
    covariance_scale,
    errors_of,
    mahalanobis_squared,
    radius_squared,
)


def test_ellipses_hold_the_share_they_are_named_after():
    rng = np.random.default_rng(0)
    true = np.array([[2.0, 0.7], [0.7, 1.0]])
    errors = rng.multivariate_normal([0, 0], true, 40000)
    covariance = np.tile([2.0, 0.7, 1.0], (40000, 1))
    assert (mahalanobis_squared(errors, covariance) < radius_squared(0.68)).mean() == pytest.approx(0.68, abs=0.01)
    assert covariance_scale(errors, covariance) == pytest.approx(1, rel=0.03)
    assert covariance_scale(errors, covariance / 9) == pytest.approx(9, rel=0.03)
    assert covariance_scale(3 * errors, covariance) == pytest.approx(9, rel=0.03)


def test_mahalanobis_agrees_with_the_inverse():
    rng = np.random.default_rng(1)
    e, (xx, xy, yy) = rng.normal(size=2), (2.0, -0.5, 0.75)
    assert mahalanobis_squared(e, [xx, xy, yy]) == pytest.approx(e @ np.linalg.inv([[xx, xy], [xy, yy]]) @ e)


def test_nothing_to_measure_by():
    with pytest.raises(DataError, match="without labelled points"):
        covariance_scale(np.empty((0, 2)), np.empty((0, 3)))


def test_the_scale_is_written_into_the_checkpoint_and_leaves_by_the_export(tmp_path):
    recipe = load_recipe(write_recipe(tmp_path, write_faces(tmp_path / "faces", 6)))
    torch.manual_seed(0)
    path = tmp_path / "last.ckpt"
    plain = recipe.to_dict()
    torch.save({"hyper_parameters": {"recipe": plain}, "state_dict": LandmarkModule(plain, False).state_dict(), "global_step": 7}, path)
    _, validation = make_loaders(recipe, Processes())
    scales = calibrate_covariance(path, validation.dataset)
    assert set(scales) == {16, 8}
    module = load_checkpoint(path)
    assert module.measured_scales == pytest.approx(scales)
    assert torch.load(path, weights_only=True)["global_step"] == 7  # the rest of the checkpoint is kept
    assert spec_of(module, "wls", heatmap=8).covariance_scale == pytest.approx(scales[8])
    errors, covariance = errors_of(module, validation)[16]
    inside = mahalanobis_squared(errors, covariance * scales[16]) <= radius_squared() * (1 + 1e-6)
    assert inside.mean() == pytest.approx(0.68, abs=0.01)
    assert len(errors) == 6 * 68
