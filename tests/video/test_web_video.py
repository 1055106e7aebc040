"""HLS and video files from a web server, through FFmpeg and GStreamer."""

from __future__ import annotations

import functools
import ssl
import subprocess
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from gst_tools import children, need_gstreamer, open_files

from keyposs_trt.errors import InputError
from keyposs_trt.video import ffmpeg
from keyposs_trt.video.feeds import BrokenError
from keyposs_trt.video.sources import expand, open_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Quiet(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t"}  # noqa: RUF012

    def log_message(self, format: str, *args: object) -> None: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go are no error."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def url(server: Server, name: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/{name}"


def write_clip(path: Path, frames: int = 30) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(rng.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()


def write_hls(folder: Path) -> None:
    need_gstreamer("openh264enc", "h264parse", "mpegtsmux", "hlssink")
    picture = "videotestsrc num-buffers=60 ! video/x-raw,format=I420,width=160,height=120,framerate=20/1"
    coded = "openh264enc gop-size=20 ! h264parse ! mpegtsmux"
    files = f"location={folder}/s%02d.ts playlist-location={folder}/live.m3u8"
    words = f"{picture} ! {coded} ! hlssink target-duration=1 playlist-length=0 max-files=0 {files}"
    subprocess.run(["gst-launch-1.0", "-q", *words.split()], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("backend", ["ffmpeg", "gstreamer"])
def test_a_video_file(server: Server, tmp_path: Path, backend: str) -> None:
    if backend == "gstreamer":
        need_gstreamer("souphttpsrc", "avidemux", "jpegdec")
    write_clip(tmp_path / "a.avi")
    frames = open_source(*expand(url(server, f"a.avi#backend={backend}")))
    assert not frames.live
    seen = list(frames)
    frames.close()
    assert [f.index for f in seen] == list(range(30))
    assert [f.time for f in seen] == pytest.approx([i / 10 for i in range(30)], abs=1e-3)
    assert children() == []


def test_fifty_times_open_and_closed_leaves_nothing(server: Server, tmp_path: Path) -> None:
    write_clip(tmp_path / "a.avi", 3)

    def once() -> None:
        frames = open_source(*expand(url(server, "a.avi")))
        next(iter(frames))
        frames.close()

    once()
    before, threads = open_files(), threading.active_count()  # some of other tests may live on
    for _ in range(50):
        once()
    end = time.monotonic() + 20  # the server's threads, whose connections are ours too, end a little later
    while open_files() > before or threading.active_count() > threads:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_file_that_breaks_off(server: Server, tmp_path: Path) -> None:
    write_clip(tmp_path / "a.avi")
    data = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(data[: len(data) // 2])
    frames, seen = open_source(*expand(url(server, "a.avi"))), []
    with pytest.raises(InputError, match=r"stopped after \d+ frames: of 30 the rest is missing; check its server"):
        seen.extend(frames)
    frames.close()
    assert 10 <= len(seen) <= 20


@pytest.mark.parametrize("backend", ["ffmpeg", "gstreamer"])
def test_hls(server: Server, tmp_path: Path, backend: str) -> None:
    if backend == "gstreamer":
        need_gstreamer("souphttpsrc", "hlsdemux", "tsdemux", "openh264dec")
    write_hls(tmp_path)
    frames = open_source(*expand(url(server, f"live.m3u8#backend={backend}&timeout=20")))
    seen = list(islice(frames, 40))
    frames.close()
    assert {f.image.shape for f in seen} == {(120, 160, 3)}
    assert [f.time for f in seen] == pytest.approx([i / 20 for i in range(40)], abs=5e-3)
    assert children() == []


def test_hls_is_live_until_its_playlist_ends(server: Server, tmp_path: Path) -> None:
    write_hls(tmp_path)
    frames = open_source(*expand(url(server, "live.m3u8")))
    assert not frames.live
    assert len(list(frames)) == 60
    frames.close()
    playlist = (tmp_path / "live.m3u8").read_text()
    assert "#EXT-X-ENDLIST" in playlist
    (tmp_path / "live.m3u8").write_text(playlist.replace("#EXT-X-ENDLIST", ""))
    frames = open_source(*expand(url(server, "live.m3u8#timeout=20")))
    assert frames.live
    assert len(list(islice(frames, 5))) == 5
    frames.close()


def test_no_video_there(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"no video" * 99)
    with pytest.raises(InputError, match="cannot be opened: FFmpeg finds no video there; check that the address"):
        open_source(*expand(url(server, "a.bin")))


def test_certificates_are_checked(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    try:
        subprocess.run([*words.split(), "-keyout", tmp_path / "key", "-out", tmp_path / "cert"], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    write_clip(tmp_path / "a.avi")
    address = url(server, "a.avi").replace("http:", "https:")
    with pytest.raises(InputError, match="its certificate is not valid"):
        open_source(*expand(address.replace("127.0.0.1", "localhost")))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
    with pytest.raises(InputError, match=r"its certificate is not valid \(.*127\.0\.0\.1"):
        open_source(*expand(address))
    frames = open_source(*expand(address.replace("127.0.0.1", "localhost")))
    assert len(list(frames)) == 30
    frames.close()
    monkeypatch.delenv("SSL_CERT_FILE")  # FFmpeg does not find the machine's certificates by itself
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: SimpleNamespace(cafile=None))
    monkeypatch.setattr(ffmpeg, "_BUNDLES", ("/none", str(tmp_path / "cert")))
    ffmpeg.open_video(address, 5.0).close()
    monkeypatch.setattr(ffmpeg, "_BUNDLES", ())
    with pytest.raises(BrokenError, match="FFmpeg finds no video"):
        ffmpeg.open_video(address, 5.0)
