"""Training in two processes: the gradients of one with twice the batch, and every validation face counted once."""

from __future__ import annotations

import csv
import os

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")

from tiny import losses, train, write_faces, write_recipe  # noqa: E402

from keyposs_trt.errors import UsageError  # noqa: E402
from keyposs_trt.training.datasets.loaders import EpochSampler, ShareSampler, make_loaders  # noqa: E402
from keyposs_trt.training.module import LandmarkModule  # noqa: E402
from keyposs_trt.training.processes import Processes  # noqa: E402
from keyposs_trt.training.recipe_file import load_recipe  # noqa: E402


def gradients_of(rank, world, recipe_file, out):
    """One step's gradients as the trainer makes them: DDP over gloo where there are several processes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    recipe = load_recipe(recipe_file, [f"training.batch={8 // world}"])
    module = LandmarkModule(recipe.to_dict(), pretrained=False).train()
    for layer in module.modules():  # statistics over a batch are those of each process on the CPU
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()

    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, batch):
            per_size = [sum(module._losses(size, *v).values()) for size, v in module._outputs(*batch)]
            return torch.stack(per_size).mean()

    step = Step()
    if world > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(29500 + os.getppid() % 1000), GLOO_SOCKET_IFNAME="lo")
        torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
        step = torch.nn.parallel.DistributedDataParallel(step, find_unused_parameters=True)
    loader, _ = make_loaders(recipe, Processes(rank, world, world))
    loader.sampler.set_epoch(1)
    step(next(iter(loader))).backward()
    if rank == 0:
        torch.save({n: p.grad for n, p in module.named_parameters() if p.grad is not None}, out)
    if world > 1:
        torch.distributed.destroy_process_group()


def test_gradients_are_those_of_the_doubled_batch(tmp_path):
    recipe = write_recipe(tmp_path, write_faces(tmp_path / "faces", 16, gaps=True))
    gradients_of(0, 1, recipe, tmp_path / "one.pt")
    torch.multiprocessing.start_processes(gradients_of, (2, recipe, tmp_path / "two.pt"), 2, start_method="spawn")
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one.pt", "two.pt"))
    assert one.keys() == two.keys()
    largest = max(float(g.abs().max()) for g in one.values())
    assert largest > 0
    for name, gradient in one.items():
        torch.testing.assert_close(two[name], gradient, rtol=2e-3, atol=2e-5 * largest, msg=lambda m, n=name: f"{n}: {m}")


def test_each_process_has_its_share_of_the_samples():
    shares = [list(EpochSampler(10, rank, 2)) for rank in range(2)]
    assert shares == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    odd = [EpochSampler(7, rank, 2) for rank in range(2)]
    for sampler in odd:
        sampler.set_epoch(3)
    assert [list(s) for s in odd] == [[21, 23, 25], [22, 24, 26]]  # equally many, as every step needs all processes
    assert sorted(i for rank in range(3) for i in ShareSampler(10, rank, 3)) == list(range(10))  # each once, none twice


def test_torchrun_trains_and_counts_every_face_once(tmp_path):
    """11 validation faces in 2 processes: the NME is that of one process on the same weights."""
    options = {"batch": 2, "ema": 0.5, "likelihood_weight": 0.05, "patience": 5}
    for epochs in (1, 2):  # the second start goes on from the first
        recipe = write_recipe(tmp_path, write_faces(tmp_path / "faces", 11), epochs=epochs, **options)
        process = train(recipe, tmp_path / "run", processes=2)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert said.count("Next: keyposs-trt export") == 1
    assert losses(tmp_path / "run" / "metrics-1.csv").keys().isdisjoint(losses(tmp_path / "run" / "metrics.csv"))
    with (tmp_path / "run" / "metrics.csv").open() as file:
        (logged,) = [float(row["val_nme"]) for row in csv.DictReader(file) if row.get("val_nme")]

    from keyposs_trt.training.checkpoint import load_checkpoint

    module = load_checkpoint(tmp_path / "run" / "last.ckpt")
    _, validation = make_loaders(module.recipe, Processes())
    with torch.inference_mode():
        for batch in validation:
            module.validation_step(batch, 0)
    assert [count for _, count in module._sums.values()] == [11, 11]
    alone = np.mean([100 * s / n for s, n in module._sums.values()])
    assert logged == pytest.approx(alone, rel=1e-4)


def test_processes_come_from_torchruns_variables(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Processes.from_environment() == Processes(0, 1, 1)
    for values, machines in ((("1", "4", "2"), 2), (("0", "2", "2"), 1)):
        for name, value in zip(("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"), values, strict=True):
            monkeypatch.setenv(name, value)
        assert Processes.from_environment().machines == machines
    monkeypatch.setenv("RANK", "7")
    with pytest.raises(UsageError, match="torchrun"):
        Processes.from_environment()
    monkeypatch.delenv("RANK")
    with pytest.raises(UsageError, match="RANK=None"):
        Processes.from_environment()
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(UsageError, match="RANK=first"):
        Processes.from_environment()
