"""HRNetV2 against timm's HRNet, which was written elsewhere, and its cost at every heatmap size."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")
pytestmark = pytest.mark.filterwarnings("ignore")

from torch import nn  # noqa: E402

from keyposs_trt.errors import DataError, UsageError  # noqa: E402
from keyposs_trt.training.module import LandmarkModule  # noqa: E402
from keyposs_trt.training.networks import build_network, network_cost  # noqa: E402
from keyposs_trt.training.networks.choose import hrnet_landmarks  # noqa: E402
from keyposs_trt.training.recipe_file import recipe_from_dict  # noqa: E402

# Published for 68 points at 256 pixels: GMAC, where batch norms and activations seem to be counted too, and million parameters.
PUBLISHED = {64: (4.72, 9.65), 32: (1.18, 9.65), 16: (0.30, 9.65), 8: (0.066, 2.82), 4: (0.027, 0.65)}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def other():
    """timm's network with some statistics in its batch norms, upsampling as HRNetV2 for landmarks does it."""
    torch.manual_seed(0)
    model = timm.create_model("hrnet_w18", pretrained=False).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data.uniform_(0.6, 1.2)
            layer.running_mean = 0.1 * torch.randn(layer.num_features)
            layer.running_var = 0.6 + 0.8 * torch.rand(layer.num_features)
        if isinstance(layer, nn.Upsample):
            layer.mode, layer.align_corners = "bilinear", False
    return model


def recipe(**network):
    return recipe_from_dict({"name": "t", "network": {"backbone": "hrnetv2_w18", "weights": None, **network}})


@pytest.mark.parametrize("size", PUBLISHED)
def test_cost_is_the_published_one(size):
    network = hrnet_landmarks(256, size, 68)
    cost = network_cost(network, 256)
    gmac, parameters = PUBLISHED[size]
    assert cost.parameters / 1e6 == pytest.approx(parameters, abs=0.005)
    assert cost.macs / 1e9 == pytest.approx(gmac, rel=0.045)
    assert str(cost) == f"{cost.parameters / 1e6:.2f} M parameters, {cost.macs / 1e9:.3f} GMAC"


def test_cost_by_hand():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.ConvTranspose2d(8, 4, 4, 2, 1), nn.Conv2d(4, 4, 1, groups=4))
    network.train()
    cost = network_cost(network, 16)
    assert cost.macs == 8 * 8 * 8 * 27 + 8 * 8 * 8 * 4 * 16 + 16 * 16 * 4
    assert cost.parameters == 8 * 27 + 8 * 4 * 16 + 4 + 4 + 4
    assert network.training
    assert not network[0]._forward_hooks


def test_features_are_those_of_another_implementation(other):
    backbone = hrnet_landmarks(128, 32, 68).backbone.eval()
    own = backbone.state_dict()
    state = {k: v for k, v in other.state_dict().items() if k in own}
    backbone.load_state_dict(state)  # strict: same names, same shapes
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        stem = other.act2(other.bn2(other.conv2(other.act1(other.bn1(other.conv1(image))))))
        expected = other.stages(stem)
        found = backbone(image)
    assert [tuple(f.shape[1:]) for f in found] == [(18, 16, 16), (36, 8, 8), (72, 4, 4), (144, 2, 2)]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", PUBLISHED)
def test_by_name_in_a_recipe(size):
    network = build_network(recipe(input_size=256, heatmap_size=size), 5)
    maps = network.eval()(torch.zeros(1, 3, 256, 256))
    assert maps.shape == (1, 5, size, size)
    assert network.heatmaps(maps) is maps


def test_backbone_weights_from_a_file(other, tmp_path):
    path = tmp_path / "hrnet.pth"
    torch.save({"state_dict": other.state_dict()}, path)
    for size in (32, 4):  # the coarsest has stems and a head of its own
        network = build_network(recipe(input_size=256, heatmap_size=size, weights=str(path)), 5)
        torch.testing.assert_close(
            network.backbone.stage2[0].branches[1][3].bn2.running_var, other.stage2[0].branches[1][3].bn2.running_var
        )
    torch.save({k: v for k, v in other.state_dict().items() if not k.startswith("layer1.0")}, path)
    with pytest.raises(DataError, match=r"lacks 20 weights of 'hrnetv2_w18', first 'layer1\.0\.conv1\.weight'"):
        build_network(recipe(input_size=256, heatmap_size=64, weights=str(path)), 5)
    with pytest.raises(DataError, match="There is no weights file"):
        build_network(recipe(input_size=256, heatmap_size=64, weights="none.pth"), 5)
    path.write_bytes(b"no weights")
    with pytest.raises(DataError, match="not a PyTorch weights file that can be loaded safely"):
        build_network(recipe(input_size=256, heatmap_size=64, weights=str(path)), 5)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [((256, 128), "divided by 4, 8, 16, 32, 64, not 256 to 128"), ((96, 6), "must be a multiple of 128")],
)
def test_sizes_it_cannot_have(sizes, words):
    with pytest.raises(UsageError, match=words):
        build_network(recipe(input_size=sizes[0], heatmap_size=sizes[1]), 5)


def test_a_training_step_teaches_the_linear_maps():
    """One batch again and again: the maps become Gaussians of peak 1, not logits."""
    torch.manual_seed(0)
    sizes = {"input_size": 64, "heatmap_size": 8}
    module = LandmarkModule({"name": "t", "network": {"backbone": "hrnetv2_w18", "weights": None, **sizes}})
    images, points = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), torch.full((2, 68, 2), 20.0)
    module.log_dict = lambda *_args, **_options: None
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(12):
        optimiser.zero_grad()
        module.training_step((images, points, torch.ones(2, 68, dtype=torch.bool)), 0).backward()
        optimiser.step()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)
    assert 0.6 < module.network.heatmaps(module(images)).amax((-2, -1)).mean() < 1.4
