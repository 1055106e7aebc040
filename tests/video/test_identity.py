"""Faces told from each other by where they are expected."""

from __future__ import annotations

import numpy as np
import pytest

from keyposs_trt.landmarks import Landmarks
from keyposs_trt.video.identity import MOST_REMEMBERED, Sighting, Track, assign, iou, is_new, recognise, remembered

SHAPE = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.4]], np.float32)


def sighting(x: float, y: float = 0.0, size: float = 40.0, sd: float = 1.0, crop: tuple[float, ...] | None = None) -> Sighting:
    """A square face with its corner at (x, y) whose landmarks have a standard deviation of ``sd`` pixels."""
    points = SHAPE * np.float32(size) + np.array([x, y], np.float32)
    covariance = np.tile(np.array([sd * sd, 0, sd * sd], np.float32), (len(points), 1))
    box = np.array(crop or (x, y, x + size, y + size), np.float32)
    return Sighting.of(Landmarks(points, np.full(len(points), 0.9, np.float32), covariance, box, 0.9, "300w"))


def test_a_sighting_knows_its_box_and_its_relative_uncertainty() -> None:
    seen = sighting(10, 20, size=40, sd=2)
    assert seen.box == (10, 20, 50, 60)
    assert seen.spread == pytest.approx(2 / 40)


def test_a_face_is_expected_ahead_of_where_it_was_for_a_short_time() -> None:
    track = Track.start(1, sighting(0), 0.0).moved(sighting(8), 0.04)
    assert track.velocity == pytest.approx((200, 0))
    assert track.expected(0.08) == pytest.approx((6.4, 0))
    assert track.expected(9.0) == pytest.approx((40, 0))
    assert track.expected(0.0) == (0, 0)
    assert track.crop(0.08) == pytest.approx((14.4, 0, 54.4, 40))


@pytest.mark.parametrize("time", [0.0, -1.0, 5.0])
def test_frames_that_tell_no_velocity(time: float) -> None:
    assert Track.start(1, sighting(0), 0.0).moved(sighting(8), time).velocity == (0, 0)


def test_the_crop_stays_while_the_face_trembles() -> None:
    crop = (100.0, 50.0, 140.0, 90.0)
    assert Track.start(1, sighting(100.9, 50, crop=crop), 0.0).crop(0.04) == crop
    assert Track.start(1, sighting(102, 50, crop=crop), 0.0).crop(0.04) == (102, 50, 142, 90)


def test_a_face_becomes_doubtful_and_the_detector_clears_it() -> None:
    track = Track.start(1, sighting(0, sd=1), 0.0).moved(sighting(0, sd=1.25), 0.04)
    assert not track.doubtful
    track = track.moved(sighting(0, sd=1.4), 0.08)
    assert track.doubtful
    missed = track.unconfirmed()
    assert (missed.missed, missed.doubtful) == (1, True)
    cleared = missed.confirmed()
    assert (cleared.missed, cleared.waited, cleared.doubtful) == (0, 0, False)
    assert cleared.moved(sighting(0, sd=1), 0.12).moved(sighting(0, sd=1.4), 0.16).doubtful  # sure again, and the measure with it


def test_uncertainty_that_is_no_number_is_doubtful() -> None:
    track = Track.start(1, sighting(0), 0.0).moved(sighting(0, sd=np.nan), 0.04)
    assert track.doubtful
    assert not track.moved(sighting(0), 0.08).doubtful


def test_faces_that_cross_keep_their_own_landmarks() -> None:
    left = Track.start(1, sighting(0), 0.0).moved(sighting(10), 0.04)
    right = Track.start(2, sighting(62, 12), 0.0).moved(sighting(52, 12), 0.04)
    # Each crop shows both faces, and its network takes the other one.
    a, b = sighting(20), sighting(42, 12)
    assert assign([left, right], [b, a], [0, 1], 0.08) == [a, b]


@pytest.mark.parametrize("on", [1, 2])
def test_of_two_crops_on_one_face_its_own_survives(on: int) -> None:
    left = Track.start(1, sighting(0), 0.0).moved(sighting(10), 0.04)
    right = Track.start(2, sighting(60), 0.0).moved(sighting(50), 0.04)
    face = sighting(21) if on == 1 else sighting(39)
    again = sighting(22) if on == 1 else sighting(38)
    given = assign([left, right], [face, again], [0, 1], 0.08)
    assert [s is None for s in given] == [on == 2, on == 1]


def test_faces_far_apart_keep_what_was_found_in_their_crops() -> None:
    tracks = [Track.start(1, sighting(0), 0.0), Track.start(2, sighting(300), 0.0)]
    a, b = sighting(90), sighting(210)
    assert assign(tracks, [a, b], [0, 1], 0.04) == [a, b]
    assert assign(tracks, [b], [1], 0.04) == [None, b]
    assert assign(tracks, [], [], 0.04) == [None, None]


def test_lost_faces_are_recognised_by_the_nearest() -> None:
    lost = [Track.start(1, sighting(0), 0.0), Track.start(2, sighting(45), 0.0)]
    known = recognise(lost, [sighting(38), sighting(12), sighting(300)], 0.5)
    assert [t and t.number for t in known] == [2, 1, None]


@pytest.mark.parametrize(
    ("seen", "same"), [(sighting(30), True), (sighting(34), False), (sighting(0, size=79), True), (sighting(0, size=81), False)]
)
def test_what_may_be_the_same_face(seen: Sighting, same: bool) -> None:
    # Scaled by about 2 its landmarks lie half a face away on average.
    assert (recognise([Track.start(1, sighting(0), 0.0)], [seen], 0.5)[0] is not None) == same


def test_lost_faces_are_forgotten() -> None:
    track = Track.start(1, sighting(0), 10.0)
    assert remembered([track], 10.9) == [track]
    assert remembered([track], 11.1) == []
    assert remembered([track], 9.9) == []  # the clock was set back
    assert len(remembered([track] * 100, 10.0)) == MOST_REMEMBERED


def test_landmarks_that_are_no_numbers_belong_to_nobody() -> None:
    assert recognise([Track.start(1, sighting(0), 0.0)], [sighting(np.nan)], 0.1) == [None]


def test_iou() -> None:
    a = np.array([[0, 0, 10, 10], [5, 5, 5, 5]], np.float32)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    assert iou(a, b) == pytest.approx(np.array([[1, 1 / 3, 0], [0, 0, 0]]))
    assert iou(a, b[:0]).shape == (2, 0)


def test_is_new() -> None:
    assert is_new(sighting(0), [])
    assert not is_new(sighting(0), [sighting(300), sighting(5)])
    assert is_new(sighting(0), [sighting(25)])
