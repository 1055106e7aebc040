"""Opens video files, cameras and streams the way their options and this machine want it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from keyposs_trt.video.decoders import Choice, choose, wants_nvdec
from keyposs_trt.video.feeds import BrokenError
from keyposs_trt.video.streams import Label, Patience, StreamFrames

if TYPE_CHECKING:
    from collections.abc import Mapping

    from keyposs_trt.video.contract import Frames, Report, Source
    from keyposs_trt.video.feeds import Feed

_GOES_ON = "check its server and the network between"
_HLS = ("application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl", "audio/x-mpegurl")


def open_video(source: Source, report: Report) -> Frames:
    """A video file.

    Raises:
        InputError: it is missing, empty, damaged, or no video.
    """
    from keyposs_trt.video.capture import VideoFrames, check_video

    path = source.name
    check_video(path)
    options, failure = dict(source.options), None
    if wants_nvdec(options):
        from keyposs_trt.video.nvdec import open_nvdec

        try:
            return open_nvdec(path, report)
        except BrokenError as e:
            failure = e
    choice = choose(f"The video '{path}'", options, report, failure)
    if not choice.gstreamer:
        return VideoFrames(path, report)
    label = Label(f"The video '{path}'", "copy it again, or leave decoder= out", "copy it again, or convert it to MP4")
    patience = Patience(timeout=60.0)

    def connect() -> Feed:
        from keyposs_trt.video.gstreamer import GstFeed, file_pipeline

        return GstFeed(file_pipeline(path, choice.decoder), live=False, decoder=choice.decoder, timeout=patience.timeout)

    return StreamFrames(label, connect, report, patience)


def open_stream(source: Source, report: Report) -> StreamFrames:
    """A camera or a stream from the network, which is connected again when it is lost.

    Raises:
        InputError: it cannot be opened, unless the option ``wait`` is 1.
    """
    options = dict(source.options)
    patience = Patience(float(options.get("timeout", "5")), options.get("reconnect") != "0", options.get("wait") == "1")
    if source.kind in ("camera", "csi"):
        # The sentence of absent cameras is that of open_camera.
        gone = "check that the camera is connected, and that nvargus-daemon runs"
        label = Label(f"Camera '{source.name}'", gone, "plug it in again")
        return StreamFrames(label, lambda: _camera(source, options, patience.timeout), report, patience)
    label = Label(f"Stream '{source.name}'", "check address, user and password, and the network", _GOES_ON)
    choice = choose(label.name, options, report)
    return StreamFrames(label, lambda: _network(source, options, patience.timeout, choice), report, patience)


def _camera(source: Source, options: Mapping[str, str], timeout: float) -> Feed:
    if source.kind == "camera":
        from keyposs_trt.video.capture import open_camera

        return open_camera(source.name, options)
    from keyposs_trt.video.gstreamer import GstFeed, csi_pipeline

    return GstFeed(csi_pipeline(source.name.rpartition("/")[2], options), live=True, timeout=timeout)


def _network(source: Source, options: Mapping[str, str], timeout: float, choice: Choice) -> Feed:
    address = source.address or source.name
    if source.kind == "http":
        return _web(address, timeout, choice)
    if choice.gstreamer:
        from keyposs_trt.video.gstreamer import open_rtsp as open_with_gstreamer

        return open_with_gstreamer(address, options, timeout, choice.decoder)
    from keyposs_trt.video.ffmpeg import open_rtsp

    return open_rtsp(address, options, timeout)


def _web(address: str, timeout: float, choice: Choice) -> Feed:
    """What the server says it is decides: MJPEG is read here, HLS and files by FFmpeg or GStreamer."""
    from keyposs_trt.video.ffmpeg import open_video as open_with_ffmpeg
    from keyposs_trt.video.gstreamer import GstFeed, uri_pipeline
    from keyposs_trt.video.http_client import Download
    from keyposs_trt.video.mjpeg import MjpegFeed

    download = Download(address, timeout)
    if download.kind.startswith("multipart/"):
        return MjpegFeed(download)
    download.close()
    if download.kind.startswith(("text/html", "image/")):
        raise BrokenError(f"the server sends {download.kind}, no video", "give the address of the stream itself")
    if not choice.gstreamer:
        return open_with_ffmpeg(address, timeout)
    live = download.kind in _HLS or urlsplit(address).path.endswith(".m3u8")
    return GstFeed(uri_pipeline(address, choice.decoder), live=live, decoder=choice.decoder, timeout=timeout)
