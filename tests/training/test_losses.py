from __future__ import annotations

import itertools
import math

import pytest

torch = pytest.importorskip("torch")

from keyposs_trt.decode.torch_wls import wls  # noqa: E402
from keyposs_trt.errors import UsageError  # noqa: E402
from keyposs_trt.training.losses import (  # noqa: E402
    adaptive_wing_loss,
    anchor_loss,
    coordinate_loss,
    distance_loss,
    divergence_loss,
    gaussian_targets,
    huber_map_loss,
    inside,
    likelihood_loss,
    map_loss,
    squared_map_loss,
)
from keyposs_trt.training.networks.heatmap_net import encoded_distances  # noqa: E402

SIZE, SIGMA = 32, 2.0
POINTS = torch.tensor([[[15.3, 14.6], [12.0, 17.0], [0.2, 31.4], [8.7, 25.5]]])
NAMES = ("divergence", "mse", "huber", "adaptive_wing", "anchor")


def loss_on_maps(name, maps, points):
    """Any of the losses on maps; the divergence takes the logarithm of a map for logits."""
    if name == "anchor":
        return anchor_loss(maps, points, SIGMA)
    logits = maps.clamp_min(1e-30).log() if name == "divergence" else maps
    return map_loss(name, logits, maps, gaussian_targets(points, SIZE, SIGMA), points, SIGMA)


def test_targets_are_unbiased_gaussians():
    maps = gaussian_targets(torch.tensor([[[3.25, 5.5]]]), 8, 1.5)
    assert maps.shape == (1, 1, 8, 8)
    assert maps[0, 0, 5, 3].item() == pytest.approx(math.exp(-(0.25**2 + 0.5**2) / 4.5))


def test_biased_targets_have_their_peak_on_the_nearest_pixel_and_end_at_3_sigma():
    points = torch.tensor([[[10.4, 12.6], [0.0, 20.5]]])
    maps = gaussian_targets(points, SIZE, SIGMA, "biased")[0]
    assert maps.amax((-2, -1)).tolist() == [1, 1]
    assert maps[0, 13, 10] == maps[1, 21, 0] == 1
    assert maps[0, 13, 4:17].min() == pytest.approx(math.exp(-4.5))
    assert maps[0, 13, 3] == maps[0, 13, 17] == maps[0, 6, 10] == 0
    torch.testing.assert_close(maps[0, :, 4:17], maps[0, :, 4:17].flip(1))
    torch.testing.assert_close(gaussian_targets(points - 0.09, SIZE, SIGMA, "biased")[0, 0], maps[0])


@pytest.mark.parametrize("name", NAMES)
def test_loss_on_maps_is_least_at_the_target_and_grows_with_distance(name):
    exact = gaussian_targets(POINTS, SIZE, SIGMA)
    assert loss_on_maps(name, exact, POINTS).abs().max() < 1e-4
    losses = [loss_on_maps(name, gaussian_targets(POINTS + shift, SIZE, SIGMA), POINTS) for shift in (0.1, 0.5, 1.5, 4.0)]
    assert (losses[0] > 1e-4).all()
    for near, far in itertools.pairwise(losses):
        assert (far > near).all()


@pytest.mark.parametrize("name", NAMES)
def test_points_off_the_map_cost_nothing(name):
    points = torch.tensor([[[-0.6, 3.0], [SIZE - 0.4, 3.0], [1e6, -1e6], [SIZE - 0.6, 3.0]]])
    assert inside(points, SIZE).tolist() == [[False, False, False, True]]
    maps = torch.rand(1, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = loss_on_maps(name, maps, points)
    loss.sum().backward()
    assert loss[0, :3].tolist() == [0, 0, 0]
    assert loss[0, 3] > 0
    assert (maps.grad[0, :3] == 0).all()
    assert maps.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e4, -1e4, 1e25, -1e25])
def test_gradient_is_finite_on_any_map(name, value):
    if name == "mse":  # its square is a float32
        value = min(max(value, -1e15), 1e15)
    flat = torch.full((1, 4, SIZE, SIZE), value)
    spiked = flat.clone()
    spiked[..., 3, 4] = 1 - value
    for maps in (flat, spiked):
        maps.requires_grad_()
        if name == "divergence":
            loss = divergence_loss(maps, gaussian_targets(POINTS, SIZE, SIGMA), POINTS)
        else:
            loss = loss_on_maps(name, maps, POINTS)
        loss.sum().backward()
        assert loss.isfinite().all()
        assert (loss > 0).all()
        assert maps.grad.isfinite().all()


def test_scaled_losses_cost_1_on_a_blank_map():
    points = torch.tensor([[[15.3, 14.6], [12.0, 17.0], [40.0, 3.0]]])
    target, blank = gaussian_targets(points, SIZE, SIGMA), torch.zeros(1, 3, SIZE, SIZE)
    assert squared_map_loss(blank, target, points, SIGMA)[0].tolist() == pytest.approx([1, 1, 0], abs=1e-3)
    assert huber_map_loss(blank, target, points, SIGMA, delta=1.0)[0].tolist() == pytest.approx([1, 1, 0], abs=1e-3)


def test_huber_is_the_squared_loss_up_to_its_knee_and_linear_from_there():
    target = gaussian_targets(POINTS, SIZE, SIGMA)
    squared, huber = (loss(target + 0.5, target, POINTS, SIGMA) for loss in (squared_map_loss, huber_map_loss))
    torch.testing.assert_close(squared, huber)
    steps = [huber_map_loss(target + e, target, POINTS, SIGMA)[0, 0].item() for e in (1, 2, 3)]
    assert steps[2] - steps[1] == pytest.approx(steps[1] - steps[0], rel=1e-5)
    assert map_loss("huber", target, target + 3, target, POINTS, SIGMA, 1e3) == pytest.approx(
        squared_map_loss(target + 3, target, POINTS, SIGMA)
    )


def wing(error, target):
    """The adaptive wing loss of one pixel: value and slope at the error."""
    maps = torch.zeros(1, 1, 1, 1)
    truth = torch.full_like(maps, target)
    maps = (truth + error).double().requires_grad_()
    loss = adaptive_wing_loss(maps, truth, torch.zeros(1, 1, 2), 1 / math.sqrt(math.pi))
    loss.sum().backward()
    return loss.item(), maps.grad.item()


@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_adaptive_wing_is_the_formula_of_its_paper_and_smooth_at_its_knee(target):
    power = 2.1 - target
    assert wing(0.2, target)[0] == pytest.approx(14 * math.log(1 + 0.2**power), rel=1e-4)
    slope = 14 * (1 / (1 + 0.5**power)) * power * 0.5 ** (power - 1)
    joint = 0.5 * slope - 14 * math.log(1 + 0.5**power)
    assert wing(0.8, target)[0] == pytest.approx(slope * 0.8 - joint, rel=1e-4)
    assert wing(-0.8, target)[0] == pytest.approx(slope * 0.8 - joint, rel=1e-4)
    below, above = wing(0.4999, target), wing(0.5001, target)
    assert below[0] == pytest.approx(above[0], rel=1e-3)
    assert below[1] == pytest.approx(above[1], rel=1e-3)


def test_unknown_loss_is_refused():
    with pytest.raises(UsageError, match=r"no loss 'hinge' on maps; choose one of divergence, mse, huber, adaptive_wing, distance\."):
        map_loss("hinge", POINTS, POINTS, POINTS, POINTS, SIGMA)


def test_coordinate_loss_is_quadratic_then_linear():
    points = torch.full((1, 5, 2), 9.0)
    points[0, 4] = -1
    decoded = points + torch.tensor([[0, 0], [0.25, 0], [2, 0], [2, -3], [5, 5]])
    assert coordinate_loss(decoded, points, SIZE, knee=0.5)[0].tolist() == pytest.approx([0, 0.0625, 1.75, 4.5, 0])


def test_anchor_loss_measures_distances():
    """A map whose ranges are all k times the true ones, as that of another sigma is."""
    points = torch.tensor([[[15.0, 15.0]]])
    wide = gaussian_targets(points, SIZE, SIGMA * 1.1)
    grid = torch.arange(SIZE) - 15.0
    nearest = torch.hypot(grid[:, None], grid).flatten().sort().values[:30]
    expected = torch.nn.functional.smooth_l1_loss(nearest / 1.1, nearest, beta=0.5)
    assert anchor_loss(wide, points, SIGMA).item() == pytest.approx(expected.item(), rel=0.1)
    assert anchor_loss(wide, points, SIGMA, anchors=5).item() < expected.item() / 2


@pytest.mark.parametrize("size", [4, 8, 64])
def test_anchor_loss_knows_every_size_of_maps(size):
    points = torch.tensor([[[size / 2, size / 3]]])
    sigma = 1.0 if size < 16 else 2.0
    assert anchor_loss(gaussian_targets(points, size, sigma), points, sigma).item() == 0
    assert anchor_loss(torch.zeros(1, 1, size, size), points, sigma).item() > 0.5


def test_anchor_loss_moves_the_decoded_points_to_the_truth():
    """From a shifted peak with noise, and from a false peak far away."""
    noise = 0.02 * torch.randn(1, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    start = gaussian_targets(POINTS, SIZE, SIGMA)
    start[0, :2] = gaussian_targets(POINTS + 1.2, SIZE, SIGMA)[0, :2]
    start[0, 3] = gaussian_targets(torch.tensor([[[25.0, 4.0]]]), SIZE, SIGMA)[0, 0]
    maps = (start + noise).requires_grad_()
    optimiser = torch.optim.Adam([maps], 0.02)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = anchor_loss(maps, POINTS, SIGMA).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 20
    assert (wls(start + noise, sigma=SIGMA).points - POINTS).norm(dim=-1).max() > 20
    assert (wls(maps, sigma=SIGMA).points - POINTS).norm(dim=-1).max() < 0.3


def covariances(root):
    full = root @ root.mT
    return full, torch.stack([full[..., 0, 0], full[..., 0, 1], full[..., 1, 1]], -1)


def test_gaussian_likelihood_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    decoded, points = (5 + torch.randn(4, 6, 2, generator=generator) for _ in range(2))
    full, three = covariances(torch.randn(4, 6, 2, 2, generator=generator))
    loss = likelihood_loss(decoded, three, points, SIZE, least=0.1, freedom=math.inf)
    normal = torch.distributions.MultivariateNormal(decoded, full + 0.01 * torch.eye(2))
    torch.testing.assert_close(loss, -normal.log_prob(points) - math.log(2 * math.pi), rtol=1e-3, atol=1e-3)


def test_likelihood_is_that_of_scipy():
    multivariate_t = pytest.importorskip("scipy.stats").multivariate_t
    generator = torch.Generator().manual_seed(1)
    decoded, points = (5 + torch.randn(1, 6, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    full, three = covariances(torch.randn(1, 6, 2, 2, generator=generator, dtype=torch.float64))
    loss = likelihood_loss(decoded, three, points, SIZE, least=0.1, freedom=3.0)[0]
    for i in range(6):
        scale = (full[0, i] + 0.01 * torch.eye(2)).numpy()
        constant = math.log(2 * math.pi)  # of any bivariate t: ln Gamma(v/2 + 1) - ln Gamma(v/2) = ln(v/2)
        assert loss[i].item() == pytest.approx(-multivariate_t(decoded[0, i].numpy(), scale, df=3).logpdf(points[0, i].numpy()) - constant)


def test_likelihood_is_least_at_the_truth_and_nothing_off_the_map():
    points = torch.tensor([[[6.0, 7.0], [6.0, 7.0], [-2.0, 7.0]]])
    covariance = torch.tensor([0.3, 0.1, 0.2]).expand(1, 3, 3)
    loss = likelihood_loss(points + torch.tensor([[0, 0], [0.5, 0], [9, 9]]), covariance, points, 16)[0]
    assert loss[1] > loss[0]
    assert loss[2] == 0


def test_likelihood_trains_through_the_decoder():
    """Maps that are sure and wrong become less sure or less wrong."""
    points = torch.tensor([[[6.0, 7.0], [9.0, 8.0]]])
    maps = gaussian_targets(points + 0.8, 16, 2.0) + 0.02 * torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    maps.requires_grad_()
    optimiser = torch.optim.Adam([maps], 0.01)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        decoded = wls(maps)
        loss = likelihood_loss(decoded.points, decoded.covariance, points, 16).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 2


def test_likelihood_of_a_degenerate_map_has_a_finite_gradient():
    maps = torch.zeros(1, 3, 8, 8)
    maps[0, 1] = -1
    maps[0, 2, 3, 3] = 1
    maps.requires_grad_()
    decoded = wls(maps)
    likelihood_loss(decoded.points, decoded.covariance, torch.full((1, 3, 2), 3.0), 8).sum().backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


def test_distances_are_learnt_near_the_point():
    grid = torch.arange(float(SIZE))
    squares = (grid - POINTS[..., None]) ** 2
    true = (squares[..., 1, :, None] + squares[..., 0, None, :]).sqrt() / SIGMA
    exact = true.clamp_min(1e-6).expm1().log()  # softplus undone
    loss = distance_loss(exact, POINTS, SIGMA)
    assert (loss < 1e-6).all()
    assert (distance_loss(exact + 10 * (true > 4), POINTS, SIGMA) < 1e-6).all()  # beyond the farthest, only too near is wrong
    assert (distance_loss(exact - 20 * (true > 4), POINTS, SIGMA) > 0.1).all()
    wrong = exact.clone().requires_grad_()
    near, far = (distance_loss(exact + 0.5 * ((true > a) & (true < b)), POINTS, SIGMA)[0, 0] for a, b in ((0, 1), (3, 3.2)))
    assert near > far
    optimiser = torch.optim.Adam([wrong], 0.3)
    with torch.no_grad():
        wrong.zero_()
    for _ in range(150):
        optimiser.zero_grad()
        distance_loss(wrong, POINTS, SIGMA).sum().backward()
        optimiser.step()
    decoded = wls(encoded_distances(wrong.detach()), sigma=SIGMA).points
    inner = inside(POINTS, SIZE)
    assert (decoded - POINTS).abs()[inner].max() < 0.1
