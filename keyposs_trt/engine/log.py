"""TensorRT's log, kept for the moment somebody needs it.

TensorRT says why it failed in its log only, and returns None. So the log is always captured; it is shown on failure and with
``--debug``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyposs_trt.engine.versions import Backend

_LOG = logging.getLogger("keyposs_trt.tensorrt")
_WARNING, _ERROR = 2, 1  # ILogger.Severity
_MOST = 1000  # of each; an engine may be in use for months


class Log:
    """Warnings and errors of one TensorRT object tree.

    Attributes:
        logger: the ``ILogger`` to hand to TensorRT.
        warnings: captured warnings, in order.
        errors: captured errors, in order.
    """

    def __init__(self, backend: Backend) -> None:
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self.logger = _logger_class(backend.trt)(self)

    def add(self, severity: int, message: str) -> None:
        """Takes one message; called by TensorRT from any thread, so it must not raise."""
        kept = self.errors if severity <= _ERROR else self.warnings
        if severity <= _WARNING and len(kept) < _MOST:
            kept.append(message)
        _LOG.debug(message)

    @property
    def reason(self) -> str:
        """The first error as one line, or a word for none."""
        return " ".join(self.errors[0].split()) if self.errors else "TensorRT gave no reason"

    def take_reason(self) -> str:
        """``reason``, and forgets the errors: for objects that live on, whose next failure has a reason of its own."""
        reason = self.reason
        self.errors.clear()
        return reason


def parser_sentence(title: str, model: str, parser: Any) -> str:
    """An ONNX parser's first error as one sentence about ``model``; ``title`` is the runtime's name."""
    if not parser.num_errors:
        return f"{title} cannot read '{model}' and gives no reason; check the model with 'keyposs-trt inspect'."
    error = parser.get_error(0)
    operator = error.node_operator()
    where = f" at operator '{operator}' (node {error.node()})" if operator else ""
    return f"{title} cannot read '{model}'{where}: {' '.join(error.desc().split())}; export the model again."


def _logger_class(trt: Any) -> Any:
    class Logger(trt.ILogger):
        def __init__(self, log: Log) -> None:
            trt.ILogger.__init__(self)
            self._log = log

        def log(self, severity: Any, msg: str) -> None:
            self._log.add(int(severity), msg)

    return Logger
