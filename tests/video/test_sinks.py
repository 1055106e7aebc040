"""Names of outputs never clash nor hit a source, and tell no password."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from keyposs_trt.errors import OutputError, UsageError
from keyposs_trt.video.contract import Source
from keyposs_trt.video.sinks import check_record_file, names_folder, plan_outputs, plan_records, stem_of

if TYPE_CHECKING:
    from pathlib import Path


def image(name: object) -> Source:
    return Source("image", str(name))


def plan(sources: list[Source], out: object, root: Path) -> list[str]:
    return [str(p.relative_to(root)) for p in plan_outputs(sources, str(out))]


def test_one_source_names_a_file_or_a_folder(tmp_path: Path) -> None:
    assert plan([image("a.jpg")], tmp_path / "x.png", tmp_path) == ["x.png"]
    assert plan([image("in/a.jpg")], tmp_path / "out", tmp_path) == ["out/a.jpg"]
    assert plan([Source("video", "in/a.webm")], tmp_path / "y.MP4", tmp_path) == ["y.MP4"]
    (tmp_path / "folder.png").mkdir()
    assert plan([image("a.jpg")], tmp_path / "folder.png", tmp_path) == ["folder.png/a.jpg"]
    assert plan([image("a.jpg")], f"{tmp_path}/dir.jpg/", tmp_path) == ["dir.jpg/a.jpg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dir.jpg", "folder.png", "out"]  # folders are made and empty
    assert not any((tmp_path / "out").iterdir())


def test_names_are_kept_where_the_format_can_be_written_and_told_apart(tmp_path: Path) -> None:
    sources = [
        image("a/x.jpg"),
        image("b/X.JPG"),
        image("c/x.jpg"),
        image("x-2.jpg"),
        image("anim.gif"),
        image("noname"),
        Source("video", "x.webm"),
        Source("video", "y.mkv"),
        Source("camera", "0"),
        Source("camera", "/dev/video2"),
    ]
    assert plan(sources, tmp_path / "out", tmp_path / "out") == [
        "x.jpg", "X-2.JPG", "x-3.jpg", "x-2-2.jpg", "anim.png", "noname.png", "x.mp4", "y.mkv", "camera0.mp4", "cameravideo2.mp4",
    ]  # fmt: skip


def test_sources_are_never_overwritten(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    both = [image(tmp_path / "a.jpg"), image(tmp_path / "b.jpg")]
    for sources, out in (
        (both, tmp_path),
        (both[:1], tmp_path / "a.jpg"),
        (both[:1], tmp_path / "link.jpg"),
        (both[:1], tmp_path / "." / "a.jpg"),
    ):
        with pytest.raises(UsageError, match=r"overwrite the source '.*a\.jpg'"):
            plan_outputs(sources, str(out))


def test_outs_that_make_no_sense(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    two = [image("a.jpg"), image("b.jpg")]
    with pytest.raises(UsageError, match="2 sources; give a folder"):
        plan_outputs(two, str(tmp_path / "x.jpg"))
    with pytest.raises(UsageError, match="no known picture or video format"):
        plan_outputs(two, str(tmp_path / "file"))
    with pytest.raises(UsageError, match="may end in"):
        plan_outputs(two[:1], str(tmp_path / "x.mp4"))
    with pytest.raises(UsageError, match="may end in"):
        plan_outputs([Source("video", "a.mp4")], str(tmp_path / "x.webm"))
    for out in (tmp_path / "file" / "x.jpg", tmp_path / "file" / "below" / "x.jpg"):
        with pytest.raises(OutputError, match=rf"Cannot write to folder '{out.parent}': '{tmp_path}/file' is a file, no folder; give"):
            plan_outputs(two[:1], str(out))
    with pytest.raises(OutputError, match="Cannot write to folder"):
        plan_outputs(two, "/proc")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_suffix_that_nobody_knows_makes_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "out.foo"
    for sources in ([image("a.jpg")], [image("a.jpg"), image("b.jpg")], [Source("rtsp", "rtsp://cam1/s")]):
        with pytest.raises(UsageError, match=rf"'{out}' is of no known .*\.avi, .*\.png.*, and '{out}/' is a folder\.$"):
            plan_outputs(sources, str(out))
    assert not out.exists()
    assert plan([image("a.jpg")], tmp_path / "take.2024", tmp_path) == ["take.2024/a.jpg"]
    assert plan([image("a.jpg")], tmp_path / ".hidden", tmp_path) == [".hidden/a.jpg"]
    assert plan([image("a.jpg")], f"{out}/", tmp_path) == ["out.foo/a.jpg"]
    assert plan([image("a.jpg")], out, tmp_path) == ["out.foo/a.jpg"]  # now it is there


def test_a_pipe_or_an_endless_name_is_refused_before_the_work(tmp_path: Path) -> None:
    for name in ("pipe.png", "pipe.mp4"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "link.mp4").symlink_to("pipe.mp4")
    clip = Source("video", "a.mp4")
    for source, name in ((image("a.jpg"), "pipe.png"), (clip, "pipe.mp4"), (clip, "link.mp4")):
        with pytest.raises(OutputError, match="pipe or device"):
            plan_outputs([source], str(tmp_path / name))
    with pytest.raises(OutputError, match="too long"):
        plan_outputs([image("a.jpg")], str(tmp_path / ("x" * 300)))
    assert (tmp_path / "pipe.png").is_fifo()
    assert (tmp_path / "pipe.mp4").is_fifo()
    assert (tmp_path / "link.mp4").is_symlink()


@pytest.mark.parametrize(
    ("kind", "name", "stem"),
    [
        ("rtsp", "rtsp://cam1/stream", "rtsp-cam1-stream"),
        ("rtsp", "rtsp://user:secret@cam1:8554/live/ch0?token=secret#secret", "rtsp-cam1-8554-live-ch0"),
        ("rtsp", "rtsp://user:se/cr?et@@cam1/x", "rtsp-cam1-x"),
        ("rtsp", "rtsp://192.168.1.10", "rtsp-192.168.1.10"),
        ("rtsp", "rtsp://[fe80::1]:554/a b", "rtsp-fe80-1-554-a-b"),
        ("http", "https://host/../../etc/passwd.m3u8", "https-host-..-..-etc-passwd"),
        ("http", "http://host/" + "x" * 300, "http-host-" + "x" * 70),
        ("rtsp", "rtsp://user:secret@/", "rtsp"),
        ("camera", "0", "camera0"),
        ("camera", "/dev/video2", "cameravideo2"),
        ("camera", "v4l2:///dev/video2", "v4l2-dev-video2"),
        ("csi", "csi://1", "csi-1"),
        ("csi", "1", "csi1"),
        ("test", "test:", "test"),
        ("test", "test://", "test"),
        ("video", "a/clip.v2.mp4", "clip.v2"),
        ("image", "http://x.png", "x"),
    ],
)
def test_stem(kind: str, name: str, stem: str) -> None:
    assert stem_of(Source(kind, name)) == stem  # type: ignore[arg-type]


def test_streams_get_names_of_their_own(tmp_path: Path) -> None:
    cameras = [Source("rtsp", "rtsp://cam1/s"), Source("http", "http://cam1/s"), Source("rtsp", "rtsp://CAM1/s/"), Source("csi", "csi://0")]
    assert plan(cameras, tmp_path, tmp_path) == ["rtsp-cam1-s.mp4", "http-cam1-s.mp4", "rtsp-CAM1-s-2.mp4", "csi-0.mp4"]
    assert plan(cameras[:1], tmp_path / "x.mkv", tmp_path) == ["x.mkv"]
    with pytest.raises(UsageError, match="may end in"):
        plan_outputs(cameras[:1], str(tmp_path / "x.jpg"))


def test_records_in_a_folder(tmp_path: Path) -> None:
    sources = [Source("video", "a/clip.mp4"), Source("video", "b/clip.mov"), Source("rtsp", "rtsp://u:p@cam1/s"), image("face.jpg")]
    assert [p.name for p in plan_records(sources, str(tmp_path / "new"))] == [
        "clip.jsonl", "clip-2.jsonl", "rtsp-cam1-s.jsonl", "face.jsonl",
    ]  # fmt: skip
    assert (tmp_path / "new").is_dir()
    (tmp_path / "odd.jsonl").write_text("x")
    with pytest.raises(UsageError, match=r"overwrite the source '.*odd\.jsonl'"):
        plan_records([Source("video", str(tmp_path / "odd.jsonl"))], str(tmp_path))


def test_what_names_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert names_folder(str(tmp_path))
    assert names_folder(f"{tmp_path}/new/")
    assert not names_folder(f"{tmp_path}/new")
    assert not names_folder(f"{tmp_path}/file")


def test_a_file_of_records_hits_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("x")
    (tmp_path / "link").symlink_to("a.jpg")
    for name in ("a.jpg", "link"):
        with pytest.raises(UsageError, match="overwrite the source"):
            check_record_file(str(tmp_path / name), [image(tmp_path / "a.jpg")], [])
    with pytest.raises(UsageError, match="both -o and --json"):
        check_record_file(str(tmp_path / "x.mp4"), [image("b.jpg")], [tmp_path / "y" / ".." / "x.mp4"])
    check_record_file(str(tmp_path / "x.jsonl"), [image("b.jpg"), Source("camera", "x.jsonl")], [tmp_path / "x.mp4"])
    check_record_file("/dev/null", [image("b.jpg")], [])
