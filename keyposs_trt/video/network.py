"""Whether a server is there, and what is wrong where it is not."""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

from keyposs_trt.video.feeds import BrokenError

_SILENT = "check its port, that it is well, and over transport=udp that its packets get through"
_PORTS = {"rtsp": 554, "rtsps": 322}
_NOT_TLS = frozenset(("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"))  # as OpenSSL's versions call it


def reach(address: str, timeout: float) -> None:
    """Knocks at an RTSP server: neither FFmpeg nor GStreamer says why it opens nothing.

    Raises:
        BrokenError: nobody takes the connection within ``timeout`` seconds.
    """
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname or "", parts.port or _PORTS[parts.scheme]), timeout).close()
    except (OSError, UnicodeError) as e:
        raise network_error(e) from None


def unanswered(timeout: float) -> BrokenError:
    """What to say of an RTSP server that took the connection, and that a program waited for in vain."""
    return BrokenError(f"the server took the connection, but did not answer in {timeout:g} s", _SILENT)


def network_error(error: Exception) -> BrokenError:
    """What is wrong with a network connection, in words for the user."""
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return BrokenError("no machine of that name is known")
    if isinstance(error, ssl.SSLCertVerificationError):
        return BrokenError(f"its certificate is not valid ({error.verify_message})")
    if isinstance(error, ssl.SSLError) and getattr(error, "reason", "") in _NOT_TLS:
        return BrokenError("the server does not speak TLS", "write http://")
    if isinstance(error, TimeoutError):
        return BrokenError("no answer in time")
    return BrokenError((getattr(error, "strerror", None) or str(error) or type(error).__name__).lower())
