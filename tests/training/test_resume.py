"""A training that is killed goes on where it was: the same loss curve as one that was not."""

from __future__ import annotations

import os
import signal
import time

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")

from tiny import losses, train, write_faces, write_recipe  # noqa: E402


def finish(process):
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


def test_killed_and_resumed(tmp_path):
    recipe = write_recipe(tmp_path, write_faces(tmp_path / "faces"), epochs=4, likelihood_weight=0.05, ema=0.9)
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
    assert not list(cut.glob(".last*")) or (cut / "last.ckpt").exists()
    done = torch.load(cut / "last.ckpt", weights_only=True)["global_step"]
    assert 3 <= done < 12
    finish(train(recipe, cut))

    want, found = losses(unbroken / "metrics.csv"), losses(cut / "metrics.csv")
    assert (cut / "metrics-1.csv").exists() or done == 3  # the log of the first start, if it came to write one
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
