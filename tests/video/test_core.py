from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from streaming_tools import BOX, Finds

from keyposs_trt.errors import BackendError
from keyposs_trt.video.contract import Frame
from keyposs_trt.video.core import Core
from keyposs_trt.video.finders import StillFinder, WholeFrameFinder, whole_frame
from keyposs_trt.video.statistics import StreamStatistics
from keyposs_trt.video.tracking import FaceTracker


def job(finder=None):
    return SimpleNamespace(finder=finder or FaceTracker(), statistics=StreamStatistics("x", lambda: 0.0))


def frame(number: int, index: int = 0) -> Frame:
    return Frame(np.full((60, 80, 3), number, np.uint8), index, index / 25)


def raises_on(number: int, error: Exception):
    def trouble(image):
        if image[0, 0, 0] == number:
            raise error

    return trouble


def test_the_faces_of_several_streams_go_through_the_network_together():
    finds = Finds()
    jobs = [job(), job(), job()]
    core = Core(finds)
    for index in range(3):
        found = core([(j, frame(n, index)) for n, j in enumerate(jobs)])
        assert [(len(faces), error) for faces, error in found] == [(1, None)] * 3
    assert finds.batches == [3, 3, 3]
    assert finds.detections == 3  # each stream's first frame


def test_a_stream_that_must_detect_does_not_keep_the_others_waiting_for_a_batch_of_their_own():
    finds = Finds()
    old, new = job(), job()
    core = Core(finds)
    core([(old, frame(0))])
    found = core([(old, frame(0, 1)), (new, frame(1))])
    assert [len(faces) for faces, _ in found] == [1, 1]
    assert finds.batches == [1, 2]  # the detector ran first, then both went together


def test_stages_are_counted_for_their_stream():
    one, two = job(), job()
    Core(Finds())([(one, frame(0)), (two, frame(1))])
    for j in (one, two):
        figures = j.statistics.snapshot()
        assert set(figures["stages"]) == {"detect", "crop", "infer", "track"}
        assert figures["counters"]["detections"] == 1
        assert figures["stages"]["infer"]["seconds"] == pytest.approx(0.001)  # its share of 2 ms


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(BackendError("The GPU is gone."), "The GPU is gone."), (RuntimeError("boom"), "unexpected RuntimeError: boom")],
)
def test_a_frame_that_fails_costs_only_itself(error, sentence):
    jobs = [job(), job(), job()]
    core = Core(Finds(raises_on(7, error)))
    core([(j, frame(n)) for n, j in enumerate(jobs)])
    found = core([(jobs[0], frame(0, 1)), (jobs[1], frame(7, 1)), (jobs[2], frame(2, 1))])
    assert [error for _, error in found] == [None, sentence, None]
    assert [len(faces) for faces, _ in found] == [1, 0, 1]
    again = core([(j, frame(n, 2)) for n, j in enumerate(jobs)])
    assert [len(faces) for faces, _ in again] == [1, 1, 1]


def test_a_detector_that_fails_costs_one_frame():
    finds = Finds()
    working = finds.detector

    def failing(image):
        raise ValueError("no picture")

    finds.detector = failing
    j = job()
    assert Core(finds)([(j, frame(0))]) == [((), "unexpected ValueError: no picture")]
    finds.detector = working
    ((faces, error),) = Core(finds)([(j, frame(0, 1))])
    assert (len(faces), error) == (1, None)


def test_a_finder_that_fails_costs_one_frame():
    class Bad:
        def step(self, size, time):
            raise ArithmeticError("broken")
            yield

    ((faces, error),) = Core(Finds())([(job(Bad()), frame(0))])
    assert (len(faces), error) == (0, "unexpected ArithmeticError: broken")


def test_stills_are_detected_one_by_one_and_keep_the_detectors_score():
    finds = Finds()
    j = job(StillFinder())
    for index in range(3):
        ((faces, _),) = Core(finds)([(j, frame(index))])
        assert faces[0].score == 1.0
        np.testing.assert_array_equal(faces[0].box, BOX[0])
    assert finds.detections == 3


def test_a_picture_without_faces_needs_no_network():
    finds = Finds()
    empty = finds._detect(frame(0).image)
    finds.detector = lambda _: type(empty)(empty.boxes[:0], empty.scores[:0])
    assert Core(finds)([(job(StillFinder()), frame(0))]) == [([], None)]
    assert finds.batches == []


def test_a_whole_frame_is_a_face():
    finds = Finds(detects=False)
    ((faces, error),) = Core(finds)([(job(WholeFrameFinder()), frame(0))])
    assert error is None
    np.testing.assert_array_equal(faces[0].box, whole_frame((80, 60))[0])
    np.testing.assert_array_equal(faces[0].box, [-0.5, -0.5, 79.5, 59.5])
