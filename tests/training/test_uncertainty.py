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
from keyposs_trt.training.module import COVARIANCE_SCALE, LandmarkModule  # noqa: E402
from keyposs_trt.training.processes import Processes  # noqa: E402
from keyposs_trt.training.recipe_file import load_recipe  # noqa: E402
from keyposs_trt.training.uncertainty import (  # noqa: E402
    covariance_scale,
    decoded_on,
    lost_score,
    mahalanobis_squared,
    measure_on_validation,
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


def test_a_lost_face_scores_less_than_most_faces():
    assert lost_score([0.8, 0.9, 1.0]) == pytest.approx(0.675)
    assert lost_score([0.3]) == pytest.approx(0.225)


@pytest.mark.parametrize("likelihood", [0.0, 0.05])
def test_what_was_measured_is_written_into_the_checkpoint_and_leaves_by_the_export(tmp_path, likelihood):
    recipe = load_recipe(write_recipe(tmp_path, write_faces(tmp_path / "faces", 6), likelihood_weight=likelihood))
    torch.manual_seed(0)
    path = tmp_path / "last.ckpt"
    plain = recipe.to_dict()
    torch.save({"hyper_parameters": {"recipe": plain}, "state_dict": LandmarkModule(plain, False).state_dict(), "global_step": 7}, path)
    learnt = spec_of(load_checkpoint(path), "wls", heatmap=8).covariance_scale
    assert learnt == pytest.approx(COVARIANCE_SCALE if likelihood else 1)
    _, validation = make_loaders(recipe, Processes())
    measure_on_validation(path, validation.dataset)
    module = load_checkpoint(path)
    assert torch.load(path, weights_only=True)["global_step"] == 7  # the rest of the checkpoint is kept
    found = decoded_on(module, validation)[16]
    assert module.lost_scores[16] == pytest.approx(0.75 * np.median(found.scores))
    assert spec_of(module, "wls", heatmap=16).lost_score == module.lost_scores[16]
    assert found.errors.shape == (6 * 68, 2)
    if not likelihood:
        assert spec_of(module, "wls", heatmap=8).covariance_scale == 1
        return
    assert set(module.measured_scales) == {16, 8}
    assert spec_of(module, "wls", heatmap=8).covariance_scale == module.measured_scales[8]
    inside = mahalanobis_squared(found.errors, found.covariance * module.measured_scales[16]) <= radius_squared() * (1 + 1e-6)
    assert inside.mean() == pytest.approx(0.68, abs=0.01)
