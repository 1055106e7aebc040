"""Passes in turns, the batch sweep, and the report made of them."""

from __future__ import annotations

import json

import cv2
import pytest
from bench_tools import SIDE, FakeClock, Pictures, StepsRunner, finder, finder_of_light
from model_zoo import tiny_model

from keyposs_trt.bench import report
from keyposs_trt.bench.machine import Machine
from keyposs_trt.bench.measure import END_TO_END, FOLLOWED, Measured, Plan, bench
from keyposs_trt.bench.report import lines_of, tree_of
from keyposs_trt.bench.subject import STAGES, open_subject, subject_of
from keyposs_trt.errors import InputError, UsageError
from keyposs_trt.landmarker import Landmarker

MACHINE = Machine("X", 2, 1, None, "Linux x86_64", "3.12.1")


class Timed(StepsRunner):
    """A runner of a known speed: so many seconds a face."""

    def __init__(self, clock, seconds):
        super().__init__(clock=clock)
        self.seconds = seconds

    def __call__(self, crops):
        self.clock.spend(self.seconds * len(crops))
        return super().__call__(crops)


class Written(Landmarker):
    """A landmarker that writes its name into a diary when it is called."""

    def __init__(self, name, runner, detector, diary):
        super().__init__(runner, detector)
        self.name, self.diary = name, diary

    def __call__(self, image, boxes=None, **options):
        self.diary.append(self.name)
        return super().__call__(image, boxes, **options)


def model(name, clock, seconds=1, detector=finder_of_light, diary=None):
    """A subject whose network takes so many seconds a face."""
    return subject_of(name, Written(name, Timed(clock, seconds), detector, [] if diary is None else diary))


def measured(plan, *seconds, kind="image", without=(), detector=finder_of_light):
    clock, diary = FakeClock(), []
    models = [model(name, clock, s, detector, diary) for name, s in zip("ab", seconds, strict=False)]
    ticks = []
    result = bench(Pictures(kind, without), models, plan, lambda: ticks.append(1), clock)
    assert len(ticks) == plan.ticks
    return result, diary


def test_models_take_turns_and_warm_up_does_not_count():
    result, diary = measured(Plan(5, 2, 1, ()), 50, 100)
    assert "".join(diary) == "ab" * 7
    assert [len(m.passes) for m in result.models] == [5, 5]
    assert result.size == (SIDE, SIDE)
    for m in result.models:
        assert m.faces == [1] * 5
        assert all({END_TO_END, *STAGES} == set(p) for p in m.passes)


def test_times_are_those_of_the_clock():
    result, _ = measured(Plan(3, 1, 1, (1, 4)), 50, 100)
    a, b = result.models
    assert a.figures(END_TO_END).p50 == 1e3 * 51
    assert b.figures(END_TO_END).p50 == 1e3 * 101
    assert b.batches == {1: [101.0] * 3, 4: [401.0] * 3}
    assert a.figures("read").p50 == 1e3
    assert a.figures("copy in", "network").p50 == 1e3 * (11 + 101)
    assert a.figures(FOLLOWED) is None


def test_pictures_without_a_face():
    """The detector's time is of all pictures, that of the stages behind it of those with a face."""
    result, _ = measured(Plan(6, 1, 1, (1,)), 50, without=(2, 3))
    (m,) = result.models
    assert m.faces == [1, 0, 0, 1, 1, 1]
    assert (m.figures("detect").count, m.figures("network").count, m.figures(END_TO_END).count) == (6, 4, 6)
    assert tree_of(result, MACHINE)["models"][0]["faces"] == {"mean": pytest.approx(4 / 6), "pictures_with": 4}


def test_faces_of_a_video_are_also_followed():
    result, _ = measured(Plan(4, 1, 1, ()), 50, kind="video")
    assert result.models[0].figures(FOLLOWED).count == 4
    (found,) = tree_of(result, MACHINE)["models"]
    assert found["end_to_end_followed"]["frames_per_second"] > 0
    assert list(lines_of(tree_of(result, MACHINE)))[1].startswith("with faces followed as in 'keyposs-trt run': ")


@pytest.mark.parametrize("kind", ["image", "video"])
def test_no_face_anywhere(kind):
    pictures = Pictures(kind)
    subject = model("a", FakeClock(), detector=finder(0))
    with pytest.raises(InputError, match=r"finds no face in 'black\.mp4', .*--source\.$"):
        bench(pictures, [subject], Plan(50, 3, 1, ()))
    assert pictures.count == {"image": 1, "video": 53}[kind], "an image is the same in every pass"


def test_opencv_gets_its_threads_back():
    before = cv2.getNumThreads()
    seen = []

    def detector(image):
        seen.append(cv2.getNumThreads())
        return finder()(image)

    measured(Plan(1, 0, 1, ()), 1, detector=detector)
    assert set(seen) == {1}
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize(("repeat", "batch", "calls"), [(200, 1, 200), (200, 4, 50), (200, 16, 20), (10, 16, 10), (3, 2, 3), (7, 1, 7)])
def test_how_often_a_batch_is_timed(repeat, batch, calls):
    assert Plan(repeat).calls(batch) == calls
    result, _ = measured(Plan(repeat, 1, 1, (batch,)), 1)
    assert len(result.models[0].batches[batch]) == calls


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"repeat": 0}, "repeat = 0"),
        ({"warm_up": -1}, "warm_up = -1"),
        ({"threads": 0}, "threads"),
        ({"batches": (1, 5000)}, "batch of 5000"),
    ],
)
def test_a_plan_that_makes_no_sense(values, words):
    with pytest.raises(UsageError, match=words):
        Plan(**values)


def test_report_of_one_model(tmp_path):
    with open_subject(str(tiny_model(tmp_path / "tiny.onnx")), detector=finder(2)) as subject:
        tree = tree_of(bench(Pictures(), [subject], Plan(4, 1, 1, (1, 2))), MACHINE)
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree
    (found,) = tree["models"]
    assert [s["stage"] for s in found["stages"]] == list(STAGES)
    assert found["stages"][0]["title"] == "decode video"
    assert [s["stage"] for s in found["stages"] if s["ms"] is None] == ["copy in"]
    assert all(s["ms"]["p50"] <= s["ms"]["p90"] <= s["ms"]["p99"] for s in found["stages"] if s["ms"])
    assert found["end_to_end"]["frames_per_second"] == pytest.approx(1000 / found["end_to_end"]["p50"], rel=0.01)
    assert [b["batch"] for b in found["batches"]] == [1, 2]
    second = found["batches"][1]
    assert second["ms_a_face"] == pytest.approx(second["ms"]["p50"] / 2, abs=1e-3)
    assert second["faces_per_second"] == pytest.approx(2000 / second["ms"]["p50"], rel=0.01)
    assert (tree["threads"], tree["warm_up"], tree["repeat"], tree["unit"], tree["comparison"]) == (1, 1, 4, "ms", None)
    assert tree["source"] == {"name": "black.mp4", "kind": "image", "width": SIDE, "height": SIDE}
    lines = list(lines_of(tree))
    assert " ms a frame, " in lines[0]
    assert "machine   X, 2 cores (1 usable), Linux x86_64" in lines
    assert sum(line.startswith("  copy in                       -        -        -   none: ") for line in lines) == 1
    assert [line.split()[0] for line in lines[-2:]] == ["1", "2"]


def test_report_of_two_models():
    result, _ = measured(Plan(30, 1, 1, (2,)), 50, 100)
    tree = tree_of(result, MACHINE)
    comparison = tree["comparison"]
    assert (comparison["a"], comparison["b"], comparison["order"]) == ("a", "b", "A B A B")
    rows = {row["what"]: row for row in comparison["rows"]}
    assert list(rows) == [END_TO_END, "detect", "crop", "copy in", "network", "landmarks out", "network and landmarks out", "batch 2"]
    assert (rows[END_TO_END]["a"], rows[END_TO_END]["b"]) == (51e3, 101e3)
    assert rows[END_TO_END]["ratio"] == pytest.approx(51 / 101, abs=1e-4)
    assert rows[END_TO_END]["verdict"] == "faster"
    assert rows["detect"]["verdict"] == "no difference shown"
    lines = list(lines_of(tree))
    assert [line[:3] for line in lines[:2]] == ["A  ", "B  "]
    assert any("end to end" in line and line.endswith("A is faster") for line in lines)


def test_models_that_are_cut_differently_are_compared_in_sum(tmp_path):
    clock = FakeClock()
    engine = model("a", clock)
    with open_subject(str(tiny_model(tmp_path / "tiny.onnx")), detector=finder()) as other:
        tree = tree_of(bench(Pictures(), [engine, other], Plan(2, 1, 1, ()), clock=clock), MACHINE)
    assert [r["what"] for r in tree["comparison"]["rows"]] == [END_TO_END, "detect", "crop", "network and landmarks out"]


def test_a_stage_only_one_model_has_is_not_compared():
    one, other = Measured(engine := model("a", FakeClock())), Measured(engine)
    one.passes, other.passes = [{END_TO_END: 1.0, "detect": 1.0}], [{END_TO_END: 1.0}]
    assert [r["what"] for r in report._comparison(one, other)["rows"]] == [END_TO_END]
