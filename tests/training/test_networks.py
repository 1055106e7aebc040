from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
pytestmark = pytest.mark.filterwarnings("ignore")

from keyposs_trt.errors import DataError, UsageError  # noqa: E402
from keyposs_trt.training.networks import build_network, network_cost  # noqa: E402
from keyposs_trt.training.networks.backbones import load_backbone, modules_down_to  # noqa: E402
from keyposs_trt.training.recipe_file import recipe_from_dict  # noqa: E402


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


def test_several_sizes_come_from_the_same_features():
    net = network(width=16, heatmap_size=64, coarser=[32, 16], input_size=128)
    image = torch.randn(2, 3, 128, 128)
    logits = net.all_logits(image)
    assert net.sizes == (64, 32, 16)
    assert {size: tuple(x.shape) for size, x in logits.items()} == {s: (2, 68, s, s) for s in net.sizes}
    torch.testing.assert_close(net(image), logits[64])
    some = net.all_logits(image, finest_share=0.5)
    assert [len(some[s]) for s in net.sizes] == [1, 2, 2]
    torch.testing.assert_close(some[64], logits[64][:1])
    for size, steps in zip(net.sizes, (3, 2, 1), strict=True):
        one = net.only(size)
        assert one.sizes == (size,)
        torch.testing.assert_close(one(image), logits[size])
        assert (len(one.fuse), len(one.head)) == (steps, 1)  # what only finer maps need is left out
    assert len(net.fuse) == 3
    with pytest.raises(UsageError, match="64, 32, 16, none of 8"):
        net.only(8)


def test_each_size_has_its_sigma():
    recipe = {"network": {"weights": None, "width": 8, "input_size": 64, "heatmap_size": 16, "coarser": [8, 4]}}
    net = build_network(recipe_from_dict({"name": "t", **recipe, "target": {"sigma": {16: 1.5, 8: 1.0, 4: 0.75}}}), 5)
    for size, sigma in ((16, 1.5), (8, 1.0)):
        grid = torch.arange(float(size)) - size // 2
        gaussian = -(grid[:, None] ** 2 + grid[None] ** 2) / (2 * sigma**2)
        assert net.heatmaps(gaussian.expand(1, 5, size, size)).max().item() == pytest.approx(1, abs=0.02)
    assert network(width=8, input_size=128, heatmap_size=16, coarser=[4])(torch.zeros(1, 3, 128, 128)).shape[-1] == 16  # stride 32


def test_windowed_transformers_fit_at_their_size():
    net = network(backbone="swin_tiny_patch4_window7_224", width=8, input_size=224, heatmap_size=56)
    assert net(torch.zeros(1, 3, 224, 224)).shape == (1, 68, 56, 56)


@pytest.mark.parametrize(
    ("backbone", "size", "words"),
    [
        ("swin_tiny_patch4_window7_224", 128, "does not work with crops of 128 pixels here"),
        ("vit_tiny_patch16_224", 224, "features at strides|do not double|not of"),
    ],
)
def test_backbones_that_do_not_fit_are_refused(backbone, size, words):
    with pytest.raises(UsageError, match=words):
        network(backbone=backbone, width=8, input_size=size, heatmap_size=size // 4)


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv3_small_100", "convnext_atto"])
def test_any_feature_extracting_backbone_fits(backbone):
    net = network(backbone=backbone, width=16, heatmap_size=16 if backbone == "mobilenetv3_small_100" else 32)
    assert net(torch.zeros(1, 3, 128, 128)).shape[:2] == (1, 68)
    cost = network_cost(net, 128)
    assert cost.parameters == sum(p.numel() for p in net.parameters())
    assert cost.macs > 1e6


def test_frozen_layers_keep_weights_and_statistics():
    net = network(width=16)
    net.freeze(modules_down_to(net.backbone, "mobilenetv2_100", 4))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.train()
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    net(torch.randn(4, 3, 128, 128)).square().mean().backward()
    optimiser.step()
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    frozen = ("backbone.conv_stem", "backbone.bn1", "backbone.blocks.0", "backbone.blocks.1.")
    assert changed
    assert not [k for k in changed if k.startswith(frozen)]
    assert any(k.startswith("backbone.blocks.2") for k in changed)
    with pytest.raises(UsageError, match="cannot be frozen down to stride 3"):
        modules_down_to(net.backbone, "mobilenetv2_100", 3)


@pytest.mark.parametrize("backbone", ["mobilenetv2_100", "hrnetv2_w18"])
def test_a_head_of_distances_gives_heatmap_values(backbone):
    net = network(backbone=backbone, width=16, input_size=128, head="distance")
    logits = net(torch.randn(1, 3, 128, 128))
    maps = net.heatmaps(logits)
    assert ((maps > 0) & (maps <= 1)).all()
    distance = torch.tensor([0.0, 1.0, 3.0])
    inverse = torch.where(distance > 0, distance.expm1().log(), torch.tensor(-40.0))  # of softplus
    torch.testing.assert_close(net.heatmaps(inverse.view(1, 1, 1, 3)).flatten(), torch.exp(-(distance**2) / 2), rtol=1e-4, atol=1e-6)


def test_a_run_begins_with_the_weights_of_another(tmp_path):
    sizes = {"width": 16, "input_size": 128, "heatmap_size": 32, "coarser": [16]}
    source = network(**sizes)
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {f"network.{k}": v for k, v in source.state_dict().items()}}, path)
    other = network(**{**sizes, "coarser": [16, 8]}, weights=str(path))
    for name, value in source.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    with pytest.raises(DataError, match=r"lacks .* weights of this backbone"):
        network(**sizes, backbone="resnet18", weights=str(path))
    torch.save({"a": 1}, path)
    with pytest.raises(DataError, match="no checkpoint"):
        network(**sizes, weights=str(path))


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="none at"):
        network(heatmap_size=128, input_size=128)
    with pytest.raises(UsageError, match="one size"):
        network(backbone="hrnetv2_w18", input_size=256, heatmap_size=64, coarser=[32])
    with pytest.raises(UsageError, match="not of 12"):
        network(input_size=120, heatmap_size=30, coarser=[12])


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
