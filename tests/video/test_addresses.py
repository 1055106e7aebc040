"""Addresses of sources: what they name, their options, and passwords that nobody sees."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from keyposs_trt.errors import UsageError
from keyposs_trt.video.addresses import is_address, parse_address, without_passwords
from keyposs_trt.video.contract import Source
from keyposs_trt.video.sources import expand


@pytest.mark.parametrize(
    ("argument", "source"),
    [
        ("camera:0", Source("camera", "0")),
        ("camera:///dev/video0", Source("camera", "/dev/video0")),
        ("camera:2?width=640#fps=7.5", Source("camera", "2", options=(("fps", "7.5"), ("width", "640")))),
        (
            "v4l2:///dev/video0?width=1280&height=720&fps=30&format=MJPG",
            Source("camera", "/dev/video0", options=(("format", "MJPG"), ("fps", "30"), ("height", "720"), ("width", "1280"))),
        ),
        ("v4l2://1", Source("camera", "/dev/video1")),
        ("csi://0?width=1920&height=1080", Source("csi", "csi://0", options=(("height", "1080"), ("width", "1920")))),
        ("rtsp://cam/1", Source("rtsp", "rtsp://cam/1")),
        ("RTSP://cam/1", Source("rtsp", "rtsp://cam/1")),
        (
            "rtsp://cam:8554/s?x=1&y=2#transport=udp&latency=100&backend=gstreamer",
            Source("rtsp", "rtsp://cam:8554/s?x=1&y=2", "", (("backend", "gstreamer"), ("latency", "100"), ("transport", "udp"))),
        ),
        ("rtsps://[fe80::1]/s#timeout=2.5&wait=1", Source("rtsp", "rtsps://[fe80::1]/s", "", (("timeout", "2.5"), ("wait", "1")))),
        ("http://cam/video.mjpg#reconnect=0", Source("http", "http://cam/video.mjpg", "", (("reconnect", "0"),))),
        ("test://", Source("test", "test://")),
        (
            "test://a?faces=3&live=0&image=/a%20b/c+d.jpg",
            Source("test", "test://a", "", (("faces", "3"), ("image", "/a b/c+d.jpg"), ("live", "0"))),
        ),
        ("file:///a%20b/c.mp4#decoder=software", Source("video", "/a b/c.mp4", "", (("decoder", "software"),))),
        ("file://localhost/a.mp4", Source("video", "/a.mp4")),
    ],
)
def test_what_an_address_names(argument: str, source: Source) -> None:
    parsed = parse_address(argument)
    assert (parsed.kind, parsed.name, parsed.address) == (source.kind, source.name, source.address)
    assert parsed.options == tuple(sorted(source.options))
    assert expand(argument)[0].name == source.name


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("ftp://cam/1", "of no kind that is known; there are camera:, v4l2://, csi://, rtsp://"),
        ("rtsp://cam/1#speed=1", "takes no option 'speed'; there are backend, decoder, latency, reconnect, timeout, transport, wait"),
        ("rtsp://cam/1#transport=pigeon", "takes tcp or udp, not 'pigeon'"),
        ("rtsp://cam/1#timeout=0.0", "takes seconds, more than 0"),
        ("camera:0?width=0", "takes a number of pixels"),
        ("camera:0?transport=tcp", "takes no option 'transport'"),
        ("camera:0?format=MJPEG", "four letters"),
        ("camera:front", "write it as in camera:0"),
        ("v4l2://", "write it as in v4l2"),
        ("csi://front", "write it as in csi://0"),
        ("file://clip.mp4", "write it as in file:///"),
        ("rtsp:///stream", "names no server"),
        ("http://cam:port/", "names no server"),
        ("http://[::1/", "names no server"),
        ("http://cam /", "names no server"),
        ("test://?fps=0", "takes frames a second"),
    ],
)
def test_what_makes_no_sense(argument: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        expand(argument)
    assert words in str(raised.value)
    assert str(raised.value).endswith(".")


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("rtsp://admin:s3cret@cam/1", "rtsp://cam/1"),
        ("rtsp://admin:s3cret@cam:554/1?user=a&password=s3cret&x=1#latency=5", "rtsp://cam:554/1?user=a&password=***&x=1"),
        ("rtsp://cam/user=admin&password=s3cret&channel=1", "rtsp://cam/user=admin&password=***&channel=1"),
        ("http://s3cret@cam/@home", "http://cam/@home"),
        ("http://cam/cgi?loginuse=a&loginpas=s3cret", "http://cam/cgi?loginuse=a&loginpas=***"),
        ("https://cam/hls.m3u8?access_token=s3cret", "https://cam/hls.m3u8?access_token=***"),
    ],
)
def test_no_password_in_a_name(argument: str, name: str) -> None:
    (source,) = expand(argument)
    assert source.name == name
    assert source.address == argument.partition("#")[0]
    assert "s3cret" not in repr(source)


@pytest.mark.parametrize(
    "argument",
    [
        "rtsp://admin:s3cret@cam/1#speed=1",
        "rtsp://admin:s3c#ret@cam/1",
        "rtsp://admin:s3c/ret@cam/1",
        "rtsp://admin:123/s3cret@cam/1",
        "rtsp://admin:s3c?ret@cam/1",
        "rtsp://admin:s3cr et@cam/1",
        "ftp://admin:s3cret@cam/1",
        "http://admin:s3cret@cam:x/1?pwd=s3cret",
    ],
)
def test_no_password_in_an_error(argument: str) -> None:
    with pytest.raises(UsageError) as raised:
        expand(argument)
    for piece in ("s3c", "ret@", "cret", "123"):
        assert piece not in str(raised.value)


def test_without_passwords() -> None:
    text = "Cannot open 'rtsp://joe:s3cret@cam/1?token=s3cret' nor http://cam/;pwd=s3cret."
    assert without_passwords(text) == "Cannot open 'rtsp://cam/1?token=***' nor http://cam/;pwd=***"


def test_paths_are_no_addresses(tmp_path, monkeypatch) -> None:
    for path in ("clip.mp4", "/a/camera:0", "a#b.jpg", "0", "C:/x", "//server/x"):
        assert not is_address(path)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a#width=1.png", np.zeros((4, 4, 3), np.uint8))
    assert expand("a#width=1.png") == [Source("image", "a#width=1.png")]


def test_a_file_address_is_whatever_is_there(tmp_path) -> None:
    for name in ("a b.png", "c.mp4"):
        (tmp_path / name).write_bytes(b"x")
    assert expand((tmp_path / "a b.png").as_uri()) == [Source("image", str(tmp_path / "a b.png"))]
    assert [s.kind for s in expand(tmp_path.as_uri() + "#decoder=software")] == ["image", "video"]
