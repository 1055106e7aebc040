"""From pictures to ranges: measuring, resuming, the file, and reusing it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from quantise_tools import SIDE, folder_of_pictures, model_file, whole_picture

from keyposs_trt.calibration import collect
from keyposs_trt.calibration.compare_ranges import difference, in_words
from keyposs_trt.calibration.corrections import bias_corrections
from keyposs_trt.calibration.measure import measure
from keyposs_trt.calibration.reuse import reuse
from keyposs_trt.calibration.run import FEWEST, Method, calibrate, histogram_of_record
from keyposs_trt.calibration.trt_cache import from_cache, to_cache
from keyposs_trt.engine.onnxruntime_runner import OnnxRuntimeRunner
from keyposs_trt.errors import DataError, ModelError, UsageError
from keyposs_trt.graph import change_decoder, quantise, save_model, store_weights_fp16
from keyposs_trt.graph.calibration_file import (
    Calibration,
    calibration_beside,
    network_sha256,
    quantise_by,
    read_calibration,
    write_calibration,
)
from keyposs_trt.graph.onnxruntime_package import session_in_memory
from keyposs_trt.graph.placement import place
from keyposs_trt.graph.qdq import constant_values, network_of, quantised_weights, weight_scales

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return model_file(tmp_path_factory.mktemp("calibration_run") / "tiny.onnx")


@pytest.fixture(scope="module")
def model(path):
    return onnx.load(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_of_pictures(tmp_path_factory.mktemp("pictures") / "all")


@pytest.fixture(scope="module")
def crops(folder):
    return collect(folder, 20, whole_picture, size=SIDE)


@pytest.fixture(scope="module")
def found(model, crops):
    return calibrate(model, crops, name="tiny.onnx", source="pictures")


def test_histograms_are_those_of_the_tensors(model, crops):
    statistics = measure(model, crops, threads=1)
    network = network_of(model)
    (name,) = place(network.graph).tensors
    del network.graph.output[:]
    network.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    values = session_in_memory(network.SerializeToString(), "float").run(None, {"image": crops.crops})[0]
    histogram = statistics.histograms[name]
    assert statistics.samples == 20
    assert (histogram.total, histogram.zeros) == (values.size, int((values == 0).sum()))
    assert histogram.largest == pytest.approx(float(np.abs(values).max()), rel=1e-6)
    np.testing.assert_allclose(statistics.means[name], values.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)


def test_threads_and_batches_make_no_difference(model, crops, monkeypatch):
    first = measure(model, crops, threads=1)
    monkeypatch.setattr("keyposs_trt.calibration.measure._MEMORY", 1)  # one crop at a time
    second = measure(model, crops, threads=2)
    for name, histogram in first.histograms.items():
        np.testing.assert_array_equal(second.histograms[name].counts, histogram.counts)
        np.testing.assert_allclose(second.means[name], first.means[name], rtol=1e-12)


def test_a_run_that_is_cut_off_goes_on(model, crops, tmp_path, monkeypatch):
    monkeypatch.setattr("keyposs_trt.calibration.measure._MEMORY", 1)
    monkeypatch.setattr("keyposs_trt.calibration.measure._SAVE_EVERY", 4)
    whole, state = measure(model, crops), tmp_path / ".state.npz"

    def stop(done: int) -> None:
        if done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(model, crops, state=state, progress=stop)
    assert state.is_file()
    seen: list[int] = []
    resumed = measure(model, crops, state=state, progress=seen.append)
    assert seen[0] == 9  # eight were kept
    assert not state.exists()
    for name, histogram in whole.histograms.items():
        np.testing.assert_array_equal(resumed.histograms[name].counts, histogram.counts)
        np.testing.assert_allclose(resumed.means[name], whole.means[name], rtol=1e-12)


@pytest.mark.parametrize("damage", ["other set", "cut", "rubbish"])
def test_a_state_that_is_not_of_this_run_is_not_used(model, crops, folder, tmp_path, monkeypatch, damage):
    monkeypatch.setattr("keyposs_trt.calibration.measure._MEMORY", 1)
    monkeypatch.setattr("keyposs_trt.calibration.measure._SAVE_EVERY", 4)
    state = tmp_path / ".state.npz"

    def stop(done: int) -> None:
        if done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(model, crops, state=state, progress=stop)
    others = collect(folder, 20, whole_picture, size=SIDE, seed=1) if damage == "other set" else crops
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:700])
    if damage == "rubbish":
        state.write_bytes(b"rubbish")
    seen: list[int] = []
    measure(model, others, state=state, progress=seen.append)
    assert seen[0] == 1


def test_killed_in_the_middle_and_given_again(path, folder, tmp_path):
    """SIGKILL while it runs: the command given again ends with what an undisturbed run gives, and leaves nothing else behind."""
    script = (
        "import sys, os, signal\n"
        "import keyposs_trt.calibration.measure as m\n"
        "m._MEMORY, m._SAVE_EVERY = 1, 4\n"
        "kill = sys.argv.pop(1) == 'kill'\n"
        "real = m._Keeper.save\n"
        "def save(self, done):\n"
        "    real(self, done)\n"
        "    if kill and done.samples == 12: os.kill(os.getpid(), signal.SIGKILL)\n"
        "m._Keeper.save = save\n"
        "from keyposs_trt.cli.main import main\n"
        "sys.exit(main())\n"
    )
    command = ["calibrate", str(path), "--data", str(folder), "--samples", "20", "--boxes", "detector"]
    boxes = (
        "import keyposs_trt.detection as d, numpy as np\n"
        "from types import SimpleNamespace as N\n"
        "d.load_detector = lambda *a, **k: (lambda image: N(boxes=np.array([[2.7, 2.7, 28.3, 28.3]], np.float32)))\n"
    )

    def run(how: str, out: Path) -> int:
        out.mkdir(exist_ok=True)
        arguments = [*command, "-o", str(out / "q.onnx")]
        done = subprocess.run([sys.executable, "-c", boxes + script, how, *arguments], capture_output=True, timeout=300, check=False)
        return done.returncode

    assert run("kill", tmp_path / "a") == -signal.SIGKILL
    assert [p.name for p in (tmp_path / "a").iterdir()] == [".tiny.calibration.json.unfinished.npz"]
    assert run("on", tmp_path / "a") == 0
    assert run("on", tmp_path / "b") == 0
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["q.onnx", "tiny.calibration.json"]
    a, b = (read_calibration(tmp_path / x / "tiny.calibration.json") for x in "ab")
    assert (a.ranges, a.set_sha256, a.histograms) == (b.ranges, b.set_sha256, b.histograms)
    assert (tmp_path / "a/q.onnx").read_bytes() == (tmp_path / "b/q.onnx").read_bytes()


def test_too_few_and_all_alike(model, folder, tmp_path):
    few = collect(folder, FEWEST - 1, whole_picture, size=SIDE)
    with pytest.raises(DataError, match="15 crops are too few"):
        calibrate(model, few, name="m", source="s")
    same = tmp_path / "same"
    folder_of_pictures(same)
    for p in same.iterdir():
        p.write_bytes((folder / "000.png").read_bytes())
    with pytest.raises(DataError, match="All crops of the calibration set are the same picture"):
        calibrate(model, collect(same, 20, whole_picture, size=SIDE), name="m", source="s")


def test_a_network_with_broken_weights(path, crops):
    broken = onnx.load(path)
    for weight in broken.graph.initializer:
        if weight.name == "stem.weight":
            values = onnx.numpy_helper.to_array(weight).copy()
            values[0] = np.nan
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    with pytest.raises(DataError, match="values that are no numbers"):
        calibrate(broken, crops, name="m", source="s")


def test_the_file_holds_everything_and_is_read_back(found, crops, tmp_path):
    file = tmp_path / "tiny.calibration.json"
    write_calibration(found, file)
    assert read_calibration(file) == found
    values = json.loads(file.read_text())
    assert (values["method"], values["samples"], values["set_sha256"], values["source"]) == ("mse", 20, crops.digest, "pictures")
    assert list(values["ranges"]) == list(values["histograms"])
    # A line a tensor, so that two files can be compared by eye.
    assert len(file.read_text().splitlines()) < 60
    assert calibration_beside(tmp_path / "tiny.onnx") == file


def test_ranges_again_from_the_file(found, model, tmp_path):
    file = tmp_path / "c.json"
    write_calibration(found, file)
    assert reuse(file, model, None, "m") == found
    for method in ("minmax", "entropy", "percentile"):
        other = reuse(file, model, Method(method), "m")
        assert other.method == method
        (name,) = other.ranges
        histogram = histogram_of_record(found.histograms[name])
        assert 0 < other.ranges[name] <= histogram.largest
    write_calibration(found, file, histograms=False)
    with pytest.raises(DataError, match="holds no histograms"):
        reuse(file, model, Method("minmax"), "m")


def test_the_same_network_whatever_its_decoder_and_storage(model):
    first = network_sha256(model)
    assert network_sha256(change_decoder(model, "none")) == first
    assert network_sha256(change_decoder(model, "plugin", {"radius": 2})) == first


def test_another_network_is_refused(found, model, tmp_path):
    other = onnx.ModelProto.FromString(model.SerializeToString())
    for weight in other.graph.initializer:
        if weight.name == "rows.weight":
            weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    with pytest.raises(ModelError, match=r"calibration 'c\.json' is of another network .*keyposs-trt calibrate other --data IMAGES"):
        quantise_by(other, found, "other", "c.json")


def test_weights_stored_as_fp16_are_the_network_they_become(model):
    stored = store_weights_fp16(model)
    assert network_sha256(stored) == network_sha256(store_weights_fp16(stored))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda v: v.pop("ranges"), "lacks 'ranges'"),
        (lambda v: v.update(version=9), "has version 9"),
        (lambda v: v.update(format="x"), "no calibration"),
        (lambda v: v["ranges"].update(a=-1), "ranges are not positive numbers"),
        (lambda v: v["ranges"].update(a="1"), "ranges are not positive numbers"),
        (lambda v: v.update(excluded=[1]), "excluded is no list of names"),
        (lambda v: v.update(corrections={"a": [None]}), "corrections are not lists of numbers"),
        (lambda v: v.update(samples=True), "samples is no number"),
        (lambda v: v.update(method=1), "method is no text"),
    ],
)
def test_a_damaged_file(found, edit, words):
    values = json.loads(found.to_json())
    edit(values)
    with pytest.raises(ModelError, match=words):
        Calibration.from_json(json.dumps(values), "c.json")


def test_a_file_that_is_no_json():
    with pytest.raises(ModelError, match=r"'c\.json' is not JSON; calibrate again"):
        Calibration.from_json(b"{", "c.json")


def test_bias_corrections_take_back_the_mean_of_what_rounding_adds(model, crops):
    statistics = measure(model, crops)
    (name, added), *_ = bias_corrections(model, statistics.means).items()
    network = network_of(model)
    weights = constant_values(network.graph)["rows.weight"].astype(np.float16)
    scales = weight_scales(weights, 0, np.float16)
    difference = quantised_weights(weights, scales, 0) * scales.astype(float)[:, None, None, None] - weights.astype(float)
    (tensor,) = place(network.graph).tensors
    assert name == "rows"
    np.testing.assert_allclose(added, -(difference.sum((2, 3)) @ statistics.means[tensor]), atol=1e-12)


def test_tensorrts_cache_there_and_back(found):
    text = to_cache(found.ranges, "10.3.0")
    assert text.startswith("TRT-100300-EntropyCalibration2\n")
    assert from_cache(text) == {k: pytest.approx(v, rel=1e-6) for k, v in found.ranges.items()}
    assert to_cache({"a": 127.0}, "8.6.1") == "TRT-8601-EntropyCalibration2\na: 3f800000\n"
    for version in ("11.0.0", "7.1.3", "10.3", "x"):
        with pytest.raises(UsageError, match="reads calibration caches"):
            to_cache({}, version)
    with pytest.raises(ModelError, match="no TensorRT calibration cache"):
        from_cache("rubbish")
    with pytest.raises(ModelError, match="no scale: 'a: 1'"):
        from_cache("TRT-100300-EntropyCalibration2\na: 1\n")


def test_differences(found, model, tmp_path):
    assert difference(found, found).same
    write_calibration(found, tmp_path / "c.json")
    other = reuse(tmp_path / "c.json", model, Method("minmax"), "m")
    changed = difference(found, other)
    (name,) = found.ranges
    assert not changed.same
    assert changed.ratios[name] == other.ranges[name] / found.ranges[name]
    assert changed.facts == {"method": ("mse", "minmax")}
    words = "\n".join(in_words(changed))
    assert "mse  ->  minmax" in words
    assert name in words
    gone = difference(found, Calibration(**{**found.__dict__, "ranges": {}, "excluded": ("rows",)}))
    assert gone.only_first == (name,)
    assert not gone.same


def test_the_int8_model_finds_what_the_float_model_finds(model, found, crops):
    int8 = quantise_by(model, found, "m", "c")
    points = [
        session_in_memory(m.SerializeToString(), "m", exact=True).run(["landmarks"], {"image": crops.crops})[0] for m in (model, int8)
    ]
    assert np.abs(points[0] - points[1]).mean() < 0.1
    coarse = quantise(model, {k: 40 * v for k, v in found.ranges.items()})
    wrong = session_in_memory(coarse.SerializeToString(), "m", exact=True).run(["landmarks"], {"image": crops.crops})[0]
    assert np.abs(points[0] - wrong).mean() > 2 * np.abs(points[0] - points[1]).mean()


def test_saved_and_read_by_the_runtime(model, found, crops, tmp_path):
    save_model(quantise_by(model, found, "m", "c"), tmp_path / "q.onnx")
    with OnnxRuntimeRunner(tmp_path / "q.onnx", threads=1) as runner:
        assert runner.spec.precision == "int8"
        assert runner(crops.crops).landmarks.shape == (20, 5, 2)
