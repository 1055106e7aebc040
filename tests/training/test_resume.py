"""A training that is killed goes on where it was: the same loss curve as one that was not."""

from __future__ import annotations

import os
import signal
import time

import pytest

from keyposs_trt.errors import DataError, OutputError, UsageError

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")

from lightning.pytorch.plugins.io import TorchCheckpointIO  # noqa: E402
from tiny import losses, train, write_faces, write_recipe  # noqa: E402

from keyposs_trt.training.checkpoint import load_checkpoint  # noqa: E402
from keyposs_trt.training.recipe_file import load_recipe  # noqa: E402
from keyposs_trt.training.train import _AtomicCheckpoints, _average, run_training  # noqa: E402


def finish(process):
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


def test_killed_and_resumed(tmp_path):
    recipe = write_recipe(tmp_path, write_faces(tmp_path / "faces", 40), epochs=4, workers=1, likelihood_weight=0.05, ema=0.9)
    unbroken, cut = tmp_path / "unbroken", tmp_path / "cut"
    said = finish(train(recipe, unbroken))
    assert "M parameters" in said
    assert "GMAC" in said

    process = train(recipe, cut)
    deadline = time.monotonic() + 240
    while not (cut / "last.ckpt").exists():  # written after the first epoch
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    load_checkpoint(cut / "last.ckpt")  # whole, also where another was being written
    done = torch.load(cut / "last.ckpt", weights_only=True)["global_step"]
    assert 10 <= done < 40
    finish(train(recipe, cut))

    want, found = losses(unbroken / "metrics.csv"), losses(cut / "metrics.csv")
    assert (cut / "metrics-1.csv").exists() or done == 10  # the log of the first start, if it came to write one
    assert max(want) == max(found)
    assert min(found) >= done
    for step, loss in found.items():
        assert loss == pytest.approx(want[step], rel=1e-4)
    one, other = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (unbroken, cut))
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(other["state_dict"][name], value, rtol=1e-3, atol=1e-5)
    for size, scale in one["covariance_scales"].items():
        assert other["covariance_scales"][size] == pytest.approx(scale, rel=0.05)
    assert list((cut / "tensorboard").glob("events*"))
    assert {p.name for p in unbroken.iterdir()} >= {"last.ckpt", "best.ckpt", "metrics.csv"}
    assert load_checkpoint(unbroken / "best.ckpt").measured_scales.keys() == {16, 8}


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    writer = _AtomicCheckpoints()
    writer.save_checkpoint({"epoch": 1}, path)

    def half(self, checkpoint, path, storage_options=None):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", half)
    with pytest.raises((OSError, OutputError)):
        writer.save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_early_stop_ends_and_goes_on_with_more_patience(tmp_path):
    """A learning rate that changes nothing: no epoch is better than the first."""
    options = {"epochs": 9, "patience": 2, "ema": 0.0, "learning_rate": 1e-12}
    file = write_recipe(tmp_path, write_faces(tmp_path / "faces", 4), **options)

    def epoch(recipe):
        return torch.load(run_training(recipe, tmp_path / "run"), weights_only=True)["epoch"]

    first = epoch(load_recipe(file))
    assert 2 <= first < 8
    assert epoch(load_recipe(file)) == first  # it had stopped, and stays so
    assert epoch(load_recipe(file, ["training.patience=4"])) > first
    with pytest.raises(DataError, match="another recipe"):
        run_training(load_recipe(file, ["data.boxes=annotated"]), tmp_path / "run")


def test_what_fails_before_the_first_batch_is_said(tmp_path):
    file = write_recipe(tmp_path, write_faces(tmp_path / "faces", 4))
    for change, words in (("learning_rate=-1", "must be positive"), ("precision=bf16-true", "must be one of 32-true")):
        with pytest.raises(UsageError, match=words):
            load_recipe(file, [f"training.{change}"])


OTHERS = [{"precision": "bf16-mixed"}, {"anchor_weight": 0.1, "map_loss": "adaptive_wing"}, {"schedule": "step", "milestones": [1]}]


@pytest.mark.parametrize("options", OTHERS, ids=lambda o: next(iter(o)))
def test_other_ways_to_train(tmp_path, options):
    file = write_recipe(tmp_path, write_faces(tmp_path / "faces", 4), **options)
    checkpoint = run_training(load_recipe(file), tmp_path / "run")
    weights = torch.load(checkpoint, weights_only=True)["state_dict"].values()
    assert all(torch.isfinite(w).all() for w in weights)
    assert all(w.dtype == torch.float32 for w in weights if w.is_floating_point())
    found = losses(tmp_path / "run" / "metrics.csv")
    assert all(0 < loss < 100 for loss in found.values())


def test_a_short_run_is_not_averaged_with_what_it_began_from():
    average, values = torch.zeros(1), torch.linspace(1, 2, 60)
    for n, value in enumerate(values):
        average = value.clone() if n == 0 else _average(average, value, n, 0.999)
    assert values[40] < average < values[-1]
    assert _average(torch.zeros(1), torch.ones(1), 10**6, 0.999).item() == pytest.approx(0.001)
