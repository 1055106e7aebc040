"""Numbers go on after what is there."""

from __future__ import annotations

from pathlib import Path

from keyposs_trt.video.numbered import next_number, numbered


def test_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a+(1).mp4"
    assert numbered(path, 7) == tmp_path / "a+(1)-0007.mp4"
    assert numbered(path, 12345).name == "a+(1)-12345.mp4"
    assert next_number(path) == 0
    for name in ("a+(1).mp4", "a+(1)-0041.mkv", "b-0050.mp4", "a+(1)-12.mp4", "xa+(1)-0060.mp4", "a+(1)-0070.mp4.bak"):
        (tmp_path / name).touch()
    assert next_number(path) == 0
    numbered(path, 3).touch()
    numbered(path, 1).touch()
    assert next_number(path) == 4
    numbered(path, 12345).touch()
    assert next_number(path) == 12346
    assert next_number(Path("nowhere.mp4")) == 0
