from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
pytestmark = pytest.mark.filterwarnings("ignore")

from keyposs_trt.errors import DataError, UsageError  # noqa: E402
from keyposs_trt.training.networks import build_network  # noqa: E402
from keyposs_trt.training.networks.backbones import load_backbone  # noqa: E402
from keyposs_trt.training.recipe import recipe_from_dict  # noqa: E402


def network(**changes):
    return build_network(recipe_from_dict({"name": "t", "network": {"weights": None, **changes}}), 68).eval()


def test_maps_have_the_recipes_size_and_peak_one_for_the_training_sigma():
    net = network(width=16)
    logits = net(torch.zeros(2, 3, 128, 128))
    assert logits.shape == (2, 68, 32, 32)
    grid = torch.arange(32.0)
    gaussian = -((grid[:, None] - 16) ** 2 + (grid[None] - 16) ** 2) / (2 * 1.5**2)
    assert net.heatmaps(gaussian.expand(1, 68, 32, 32)).max().item() == pytest.approx(1, abs=1e-3)


def test_the_default_network_is_small():
    assert sum(p.numel() for p in network(width=96).parameters()) < 0.62e6


def test_coarser_heatmaps_come_from_deeper_features():
    assert network(width=16, heatmap_size=16)(torch.zeros(1, 3, 128, 128)).shape == (1, 68, 16, 16)


def test_unused_stages_are_dropped():
    model, channels, strides = load_backbone("mobilenetv2_100", None, 4)
    assert (channels, strides) == ([24, 32, 96], [4, 8, 16])
    assert len(model.blocks) == 5


def test_weights_load_by_name_and_by_order(tmp_path):
    own = timm.create_model("mobilenetv2_100", pretrained=False).state_dict()
    by_name, by_order = tmp_path / "timm.pth", tmp_path / "torchvision.pth"
    torch.save(own, by_name)
    torch.save({f"features.{i}": v for i, v in enumerate(own.values())}, by_order)
    for path in (by_name, by_order):
        model, _, _ = load_backbone("mobilenetv2_100", str(path), 4)
        assert torch.equal(model.state_dict()["blocks.3.1.conv_pw.weight"], own["blocks.3.1.conv_pw.weight"])


def test_weights_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(DataError, match="no weights file"):
        load_backbone("mobilenetv2_100", str(tmp_path / "none.pth"), 4)
    garbage = tmp_path / "garbage.pth"
    garbage.write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match="not a PyTorch weights file"):
        load_backbone("mobilenetv2_100", str(garbage), 4)
    other = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(3)}, other)
    with pytest.raises(DataError, match="do not fit"):
        load_backbone("mobilenetv2_100", str(other), 4)


def test_code_in_a_weights_file_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    path = tmp_path / "evil.pth"
    torch.save({"a": Evil()}, path)
    with pytest.raises(DataError, match="safely"):
        load_backbone("mobilenetv2_100", str(path), 4)


def test_unknown_backbones_and_strides_are_refused():
    with pytest.raises(UsageError, match="no feature extractor"):
        load_backbone("mobilenet_of_dreams", None, 4)
    with pytest.raises(UsageError, match="none at 3"):
        load_backbone("mobilenetv2_100", None, 3)
