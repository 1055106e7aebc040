"""A model under test: the stages, what they add up to, and what is said where one cannot be measured."""

from __future__ import annotations

import numpy as np
import pytest
from bench_tools import ASTRONAUT, FakeClock, StepsRunner, finder
from model_zoo import tiny_model, tiny_spec
from numpy.testing import assert_allclose

from keyposs_trt.bench import halves
from keyposs_trt.bench import subject as module
from keyposs_trt.bench.stopwatch import Stopwatch
from keyposs_trt.bench.subject import STAGES, open_subject, subject_of
from keyposs_trt.engine.onnxruntime_runner import OnnxRuntimeRunner
from keyposs_trt.engine.runner import StepRunner
from keyposs_trt.errors import ModelError, UsageError
from keyposs_trt.images import read_image
from keyposs_trt.landmarker import Landmarker

PICTURE = np.full((64, 64, 3), 90, np.uint8)
ON_CPU = [s for s in STAGES if s not in ("read", "copy in")]


@pytest.fixture
def model(tmp_path):
    return str(tiny_model(tmp_path / "tiny.onnx"))


def test_stage_by_stage_gives_what_the_landmarker_gives():
    """So that the stages are those of the product, and nothing is left out."""
    image = read_image(ASTRONAUT)
    with open_subject("face68-16") as subject:
        watch = Stopwatch()
        (staged,), (whole,) = subject.staged(image, watch), subject.landmarker(image)
    assert list(watch.seconds) == ON_CPU
    assert_allclose(staged.points, whole.points, atol=0.01)
    assert_allclose(staged.scores, whole.scores, atol=1e-5)
    assert_allclose(staged.covariance, whole.covariance, rtol=1e-2)
    assert (staged.score, staged.scheme, staged.box.tolist()) == (whole.score, whole.scheme, whole.box.tolist())


def test_facts(model):
    with open_subject(model) as subject:
        facts = subject.facts()
    assert (facts["model"], facts["backend"], facts["decoder"]) == (model, "onnxruntime", "wls")
    assert (facts["input_size"], facts["heatmap_size"], facts["points"]) == (128, 32, 68)
    assert (facts["runtime"]["name"], facts["runtime"]["device"]) == ("ONNX Runtime", "CPU")
    assert subject.notes == {
        "copy in": "none: the network runs on the CPU",
        "network": "",
        "landmarks out": "decoder, mapping to image pixels",
    }


@pytest.mark.parametrize("faces", [2, 20])
def test_several_faces_and_more_than_one_call_takes(model, faces):
    with open_subject(model, detector=finder(faces)) as subject:
        watch = Stopwatch()
        assert len(subject.staged(PICTURE, watch)) == faces
    assert list(watch.seconds) == ON_CPU


def test_no_face_ends_after_the_detector(model):
    with open_subject(model, detector=finder(0)) as subject:
        watch = Stopwatch()
        assert subject.staged(PICTURE, watch) == []
    assert list(watch.seconds) == ["detect"]


def test_without_onnx_network_and_decoder_are_one(model, monkeypatch):
    for place in (halves, module):
        monkeypatch.setattr(place, "find_spec", lambda name: None)
    with open_subject(model, detector=finder()) as subject:
        watch = Stopwatch()
        subject.staged(PICTURE, watch)
    assert subject.halves is None
    assert list(watch.seconds) == ON_CPU
    assert subject.notes["network"] == "with the decoder; with the onnx package installed they are told apart"
    assert subject.notes["landmarks out"] == "mapping to image pixels"


@pytest.mark.parametrize("decoder", ["wls", "none"])
def test_an_engine_tells_its_steps(decoder):
    clock = FakeClock()
    runner = StepsRunner(decoder, clock)
    assert isinstance(runner, StepRunner)
    subject = subject_of("tiny.plan", Landmarker(runner, finder(3)))
    watch = Stopwatch(clock)
    subject.staged(PICTURE, watch)
    assert list(watch.seconds) == [s for s in STAGES if s != "read"]
    # Three faces are two pieces; a look at the clock takes a second of its own.
    assert watch.seconds["copy in"] == 2 * 11
    assert watch.seconds["network"] == 2 * 101
    assert 2 * 1001 <= watch.seconds["landmarks out"] < 2 * 1001 + 10
    assert subject.notes["copy in"] == ""
    assert subject.notes["network"] == {"wls": "with the decoder", "none": ""}[decoder]
    mapped = "mapping to image pixels"
    assert subject.notes["landmarks out"] == {"wls": f"copy out, {mapped}", "none": f"copy out, decoder, {mapped}"}[decoder]


def test_what_cannot_be_measured_is_said():
    class Bare:
        """A runner that tells nothing."""

        backend, spec = "tensorrt-rtx", tiny_spec()

        def __call__(self, crops):
            return StepsRunner()(crops)

        def close(self): ...

    subject = subject_of("tiny.plan", Landmarker(Bare(), finder()))
    watch = Stopwatch()
    subject.staged(PICTURE, watch)
    assert list(watch.seconds) == ON_CPU
    assert subject.notes["copy in"].startswith("not measured: ")
    assert subject.runtime["name"] == "TensorRT-RTX"


def test_on_a_gpu_onnx_runtime_is_not_cut(model, monkeypatch):
    real = OnnxRuntimeRunner.__init__

    def opened(self, *args, **kwargs):
        real(self, *args, **kwargs)
        self.provider = "CUDAExecutionProvider"

    monkeypatch.setattr(OnnxRuntimeRunner, "__init__", opened)
    with open_subject(model, detector=finder()) as subject:
        assert subject.halves is None
        assert subject.runtime["device"] == "CUDA"
        assert subject.notes["copy in"].startswith("not measured: ")
        assert subject.notes["network"] == "with the decoder"


def test_crops_for_the_sweep(model):
    with open_subject(model, detector=finder(2)) as subject:
        crops = subject.crops(PICTURE, 3)
    assert crops.shape == (3, 128, 128, 3)
    assert (crops == crops[0]).all()


def test_a_landmarker_without_a_detector(model):
    with Landmarker.load(model, detector=None, threads=1) as landmarker, pytest.raises(UsageError, match="needs a face detector"):
        subject_of("tiny", landmarker).staged(PICTURE, Stopwatch())


def test_a_failure_closes_the_model(model, monkeypatch):
    closed = []
    monkeypatch.setattr(OnnxRuntimeRunner, "close", lambda self: closed.append(True))

    def fail(*_):
        raise ModelError("Broken; mend it.")

    monkeypatch.setattr(module, "split", fail)
    with pytest.raises(ModelError):
        open_subject(model, detector=finder())
    assert closed == [True]
