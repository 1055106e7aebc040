from __future__ import annotations

import numpy as np
import pytest

from keyposs_trt.contact_sheet import SIDE, contact_sheet, draw_tile

POINTS = np.random.default_rng(0).uniform(40, 160, (29, 2)).astype(np.float32)
GREY = np.full((200, 200, 3), 128, np.uint8)


def test_points_are_drawn_where_they_are():
    points = np.full((29, 2), np.nan, np.float32)
    points[:2] = (50, 50), (150, 100)
    tile = draw_tile(GREY, points, "cofw")
    # A square of 1.6 x 100 pixels about (100, 75) becomes the crop.
    at = (np.array([[50, 50], [150, 100]]) - (100, 75)) * SIDE / 160 + (SIDE - 1) / 2
    for x, y in at.round().astype(int):
        assert (tile[y, x] != 128).any()
    assert 10 < (tile[20:SIDE] != 128).any(-1).sum() < 300


def test_hidden_points_are_orange_and_a_box_is_drawn():
    plain, hidden = (draw_tile(GREY, POINTS, "cofw", hidden=np.arange(29) < n) for n in (0, 20))
    orange = lambda tile: int(((tile[..., 2] > 230) & (tile[..., 0] < 100) & (tile[..., 1] > 140)).sum())  # noqa: E731
    assert orange(hidden) > 20 > orange(plain)
    boxed = draw_tile(GREY, POINTS, "cofw", box=np.array([30, 30, 170, 170]))
    assert (boxed != plain).any(-1).sum() > 300
    far = draw_tile(GREY, POINTS, "cofw", box=np.array([-1e9, -1e9, 1e9, 1e9]))
    assert far.shape == plain.shape


def test_a_long_caption_keeps_its_end():
    long, short = (draw_tile(GREY, POINTS, "cofw", name)[SIDE:] for name in ("a_long_folder_name/and_more/" * 4 + "x.jpg", "x.jpg"))
    assert (long < 200).any(-1).sum() > (short < 200).any(-1).sum() > 10
    assert (long[:, -2:] == 255).all()


@pytest.mark.parametrize(("number", "shape"), [(1, (1, 1)), (2, (1, 2)), (6, (2, 3)), (48, (6, 9))])
def test_rows_and_columns(number, shape):
    tile = draw_tile(GREY, POINTS, "cofw")
    sheet = contact_sheet([tile] * number)
    assert sheet.shape == (shape[0] * (tile.shape[0] + 4) + 4, shape[1] * (tile.shape[1] + 4) + 4, 3)
    np.testing.assert_array_equal(sheet[4 : 4 + tile.shape[0], 4 : 4 + SIDE], tile)
    assert contact_sheet([tile] * number, columns=1).shape[1] == SIDE + 8
