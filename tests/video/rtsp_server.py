"""An RTSP server for the tests, run by the system's Python: ``rtsp_server.py PORT [--codec h264|jpeg] [--sound] [--user NAME:PASSWORD]``.

It serves a moving ball of 320x240 pixels and 20 frames a second at ``rtsp://127.0.0.1:PORT/ball``, and prints "ready".
"""

import argparse

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

ENCODERS = {
    "h264": "openh264enc gop-size=10 ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1",
    "jpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port")
    parser.add_argument("--codec", choices=ENCODERS, default="h264")
    parser.add_argument("--sound", action="store_true")
    parser.add_argument("--user", default="")
    args = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(args.port)
    picture = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=20/1"
    sound = " audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 pt=8" if args.sound else ""
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {picture} ! {ENCODERS[args.codec]}{sound} )")
    factory.set_shared(True)
    if args.user:
        protect(server, factory, *args.user.split(":"))
    server.get_mount_points().add_factory("/ball", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


def protect(server: GstRtspServer.RTSPServer, factory: GstRtspServer.RTSPMediaFactory, user: str, password: str) -> None:
    """Lets only this user see the ball."""
    authority, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    authority.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(authority)
    factory.add_role_from_structure(
        Gst.Structure.from_string("viewer,media.factory.access=(bool)true,media.factory.construct=(bool)true")[0]
    )


main()
