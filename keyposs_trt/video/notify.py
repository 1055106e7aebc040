"""Word to the service manager that started this program: systemd's protocol of ``sd_notify(3)``, datagrams to ``$NOTIFY_SOCKET``.

Without that variable, outside a service, every call does nothing. A manager that does not listen is no reason to stop either.
"""

from __future__ import annotations

import os
import socket
import time
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Notifier:
    """Tells systemd that the service is ready, alive and stopping; any thread may call it, as often as it likes."""

    def __init__(self, environment: Mapping[str, str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Reads where to send, and the watchdog.

        Args:
            environment: ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC``, ``WATCHDOG_PID``; by default that of this process.
            clock: seconds, for the watchdog.
        """
        variables = os.environ if environment is None else environment
        address = variables.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of an address without a file; others than these two kinds are for virtual machines.
        self._address = "\0" + address[1:] if address.startswith("@") else address if address.startswith("/") else ""
        self.watchdog = _watchdog(variables)
        self._clock = clock
        self._lock = Lock()
        self._next = float("-inf")

    @property
    def listens(self) -> bool:
        """Whether a service manager waits for word."""
        return bool(self._address) and hasattr(socket, "AF_UNIX")

    def ready(self) -> bool:
        """The streams are open and the model is loaded; ``systemctl start`` returns."""
        return self._send("READY=1")

    def alive(self) -> bool:
        """The program still works. Sent at most four times a watchdog interval, so that every frame may call it.

        Returns:
            whether it was sent.
        """
        if self.watchdog is None:
            return False
        with self._lock:
            now = self._clock()
            if now < self._next:
                return False
            self._next = now + self.watchdog / 4
        return self._send("WATCHDOG=1")

    def stopping(self) -> bool:
        """The program closes its files and will end."""
        return self._send("STOPPING=1")

    def status(self, text: str) -> bool:
        """One line for ``systemctl status``."""
        return self._send(f"STATUS={' '.join(text.split())}")

    def _send(self, message: str) -> bool:
        if not self.listens:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.setblocking(False)
                channel.sendto(message.encode(), self._address)
        except OSError:
            return False
        return True


def _watchdog(variables: Mapping[str, str]) -> float | None:
    """Seconds within which the manager wants word; None where it does not watch this process."""
    owner = variables.get("WATCHDOG_PID", "")
    if owner and owner != str(os.getpid()):
        return None
    microseconds = variables.get("WATCHDOG_USEC", "")
    if not (microseconds.isascii() and microseconds.isdecimal()) or len(microseconds) > 15:
        return None
    return int(microseconds) / 1e6 or None
