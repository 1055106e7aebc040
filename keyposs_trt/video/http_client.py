"""A GET request that ends soon: redirects, passwords by Basic and Digest, certificates checked."""

from __future__ import annotations

import base64
import http.client
import ssl
import string
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import AbstractDigestAuthHandler, HTTPPasswordMgrWithDefaultRealm, Request, parse_http_list, parse_keqv_list

from keyposs_trt.video.feeds import BrokenError
from keyposs_trt.video.network import network_error

if TYPE_CHECKING:
    import socket
    from urllib.parse import SplitResult

_REDIRECTS = 5
_PASSWORD = "put user and password into the address, as in http://user:password@host/"


class Download:
    """The answer to a GET request while it comes in.

    Attributes:
        address: where it was found, after redirects.
        kind: its media type, lower case, such as image/jpeg.
        content_type: the whole header.

    Raises:
        BrokenError: the server is not there, refuses, or is not who it claims to be.
    """

    def __init__(self, address: str, timeout: float) -> None:
        self.address, self._timeout = address, timeout
        self._response, self._socket = self._follow(address)
        self.content_type = self._response.getheader("Content-Type") or ""
        self.kind = self.content_type.partition(";")[0].strip().lower()

    def read(self) -> bytes:
        """What has arrived, at least a byte; b"" at the end.

        Raises:
            BrokenError: the connection broke, or nothing came in time.
        """
        try:
            return self._response.read1(1 << 16)
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise network_error(e) from None

    def interrupt(self) -> None:
        """Makes a read that waits end at once, from another thread."""
        with suppress(OSError):
            self._socket.shutdown(2)

    def close(self) -> None:
        self._response.close()
        self._socket.close()

    def _follow(self, address: str) -> tuple[http.client.HTTPResponse, socket.socket]:
        """The answer, after redirects; the password goes to the first host alone, and never in clear where it began encrypted."""
        first, challenge = urlsplit(address), ""
        for _ in range(_REDIRECTS):
            parts = urlsplit(self.address)
            own = (parts.hostname, parts.port) == (first.hostname, first.port) and parts.scheme in (first.scheme, "https")
            headers = {"User-Agent": "keyposs-trt", "Accept": "*/*"}
            if own and first.username is not None:
                headers["Authorization"] = _authorization(first, _target(parts), challenge)
            response, connected = self._get(parts, headers)
            if response.status == 200:
                return response, connected
            location = response.getheader("Location")
            asked = response.getheader("WWW-Authenticate") or ""
            response.close()
            connected.close()
            if response.status in (301, 302, 303, 307, 308) and location:
                # Headers are read as Latin-1, whatever letters the server's bytes mean: they are sent back as the same bytes.
                self.address = urljoin(self.address, quote(location, safe=string.punctuation, encoding="latin-1"))
                if not self.address.startswith(("http://", "https://")):
                    break
            elif response.status == 401 and own and first.username is not None and asked.lower().startswith("digest") and not challenge:
                challenge = asked
            elif response.status in (401, 403):
                raise BrokenError(f"the server answers {response.status} {response.reason}", _PASSWORD)
            else:
                raise BrokenError(f"the server answers {response.status} {response.reason}")
        raise BrokenError("the server only sends to other addresses")

    def _get(self, parts: SplitResult, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, socket.socket]:
        try:
            if parts.scheme == "https":
                context = ssl.create_default_context()
                connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=self._timeout, context=context)
            else:
                connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self._timeout)
            connection.connect()
        except (OSError, UnicodeError, http.client.HTTPException) as e:
            raise network_error(e) from None
        connected = connection.sock
        try:
            connection.request("GET", _target(parts), headers=headers)
            return connection.getresponse(), connected
        except (OSError, UnicodeError, http.client.HTTPException) as e:
            connection.close()
            connected.close()
            raise network_error(e) from None


def _target(parts: SplitResult) -> str:
    """Path and query as they are asked for: other letters than ASCII are quoted, and what is quoted already stays as it is."""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return quote(target, safe="/%:=&?~+!$,;'@()*[]")


def _authorization(parts: SplitResult, target: str, challenge: str) -> str:
    """The header: Basic, or the answer to a Digest challenge (RFC 7616), which the standard library computes."""
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not challenge:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    manager = HTTPPasswordMgrWithDefaultRealm()
    url = f"{parts.scheme}://{parts.hostname}{target}"
    manager.add_password(None, url, user, password)
    fields = parse_keqv_list(list(filter(None, parse_http_list(challenge.partition(" ")[2]))))
    try:
        answer = AbstractDigestAuthHandler(manager).get_authorization(Request(url), fields)
    except ValueError:  # an algorithm nobody knows
        answer = None
    if not answer:
        raise BrokenError("the server wants a kind of password check that is not supported", "let the camera take Basic or Digest")
    return f"Digest {answer}"
