"""Progress of a build, and its end at Ctrl-C.

Signals reach the main thread only between two Python instructions, and an exception thrown in one of TensorRT's callbacks is swallowed
there. So TensorRT works in a thread of its own while the caller's waits; Ctrl-C sets a flag that the next step's callback hands on.
"""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyposs_trt.engine.versions import Backend

    Progress = Callable[[str, str, int, int], None]
    """Called with the precision, the phase, the steps done and the steps of the phase; 0 of 0 when a phase of ours begins."""

_TICK = 0.2  # seconds; a signal that the system gave to another thread is seen this late


class Steps:
    """The steps of one build.

    Args:
        precision: of the build, for the caller's function.
        progress: the caller's function; None for none.
    """

    def __init__(self, precision: str, progress: Progress | None) -> None:
        self._precision = precision
        self._progress = progress
        self._stop = Event()
        self._error: BaseException | None = None

    def phase(self, name: str) -> None:
        """Says that a phase of our own begins."""
        if self._progress is not None:
            self._progress(self._precision, name, 0, 0)

    def report(self, phase: str, done: int, total: int) -> None:
        """Passes a step of TensorRT on; an error in the caller's function ends the build."""
        if self._progress is None or self._stop.is_set():
            return
        try:
            self._progress(self._precision, phase, done, total)
        except BaseException as e:  # noqa: BLE001 (TensorRT would swallow it; run() raises it again)
            self._error = e
            self._stop.set()

    def run(self, work: Callable[[], Any]) -> Any:
        """Runs ``work`` in a thread; raises what it raised, what the caller's function raised, or KeyboardInterrupt."""
        result: list[Any] = []
        done = Event()  # not Thread.join: once interrupted, older Pythons take the thread for finished

        def target() -> None:
            try:
                result.append(work())
            except BaseException as e:  # noqa: BLE001 (raised again below)
                self._error = e
            finally:
                done.set()

        Thread(target=target, name="keyposs-build", daemon=True).start()
        interrupt: KeyboardInterrupt | None = None
        while not done.is_set():
            try:
                done.wait(_TICK)
            except KeyboardInterrupt as e:  # again and again, if need be: TensorRT must not be left running at exit
                interrupt = e
                self._stop.set()
        error, self._error = interrupt or self._error, None
        if error is None:
            return result[0]
        try:
            raise error
        finally:
            # An error that is kept here keeps the builder alive, and with it the log that TensorRT writes all later messages to.
            del error, interrupt

    def monitor(self, backend: Backend) -> Any:
        """An ``IProgressMonitor`` that reports here and stops TensorRT when asked to; None where the runtime has none."""
        base = getattr(backend.trt, "IProgressMonitor", None)
        return None if base is None else _monitor_class(base)(self.report, self._stop)


def _monitor_class(base: Any) -> Any:
    class Monitor(base):
        def __init__(self, report: Callable[[str, int, int], None], stop: Event) -> None:
            base.__init__(self)
            self._report = report
            self._stop = stop
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, _parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            self._report(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._report(phase_name, step + 1, self._steps.get(phase_name, step + 1))
            return not self._stop.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor
