"""TensorRT 10.3 to 11.x and TensorRT-RTX behind one face: every difference between their Python APIs stands here.

| | TensorRT 10 | TensorRT 11 | TensorRT-RTX |
|---|---|---|---|
| module | ``tensorrt`` | ``tensorrt`` | ``tensorrt_rtx`` or ``tensorrt_rtx_bindings`` |
| strong typing | a network flag | always on, the flag may go | always on, the flag is accepted |
| targets | the GPU at hand | the GPU at hand | compute capabilities, no GPU needed |
| timing cache | fine | fine | asks for a GPU: switched off |
| plans for other GPUs, newer versions | flags | flags | GPUs are named; none |
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from keyposs_trt.errors import BackendError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

TENSORRT, TENSORRT_RTX = "tensorrt", "tensorrt-rtx"
BACKENDS = (TENSORRT, TENSORRT_RTX)
CURRENT = "current"
COMPATIBILITIES = ("hardware", "version")
# TensorRT-RTX: Ampere, Ada and Blackwell share a plan; one that must also run on Turing can be slower, so sm75 is asked for by name.
DEFAULT_TARGETS = ("sm86", "sm89", "sm120")
OLDEST_TENSORRT = (10, 3)

_MODULES = {TENSORRT: ("tensorrt",), TENSORRT_RTX: ("tensorrt_rtx", "tensorrt_rtx_bindings")}
_TITLES = {TENSORRT: "TensorRT", TENSORRT_RTX: "TensorRT-RTX"}
INSTALL = {
    TENSORRT: "on a Jetson install it with JetPack 6.1 or newer and use the system's Python packages, elsewhere 'pip install tensorrt'",
    TENSORRT_RTX: "pip install 'tensorrt-rtx-cu13-bindings<2' 'tensorrt-rtx-cu13-libs<2' (Linux x86-64)",
}


class _NotInstalledError(BackendError):
    """There is no such module; ``auto`` goes on to the next."""


@dataclass(frozen=True)
class Backend:
    """A loaded TensorRT runtime.

    Attributes:
        name: ``tensorrt`` or ``tensorrt-rtx``.
        trt: its Python module.
    """

    name: str
    trt: Any

    @property
    def title(self) -> str:
        """The name for people: TensorRT or TensorRT-RTX."""
        return _TITLES[self.name]

    @property
    def version(self) -> str:
        """Full version, such as 10.3.0.26; plans run under exactly this one."""
        return str(self.trt.__version__)

    @property
    def is_rtx(self) -> bool:
        """Whether plans are built ahead of time for named targets, without a GPU."""
        return self.name == TENSORRT_RTX

    def create_network(self, builder: Any) -> Any:
        """An empty strongly typed network: the types in the ONNX graph are the types of the engine."""
        flag = getattr(self.trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
        return builder.create_network(0 if flag is None else 1 << int(flag))

    def configure(self, config: Any, targets: Sequence[str], workspace: int | None, compatibility: Sequence[str] = ()) -> None:
        """Sets targets, workspace limit (bytes), compatibility and the timing cache, and makes fp32 mean fp32.

        By default TensorRT rounds the inputs of fp32 convolutions to TF32, whose mantissa is as short as fp16's.
        """
        config.clear_flag(self.trt.BuilderFlag.TF32)
        if workspace is not None:
            config.set_memory_pool_limit(self.trt.MemoryPoolType.WORKSPACE, workspace)
        if not self.is_rtx:
            # The engine inspector tells the types of layers only then.
            config.profiling_verbosity = self.trt.ProfilingVerbosity.DETAILED
            if "version" in compatibility:
                config.set_flag(self.trt.BuilderFlag.VERSION_COMPATIBLE)
            if "hardware" in compatibility:
                config.hardware_compatibility_level = self.trt.HardwareCompatibilityLevel.AMPERE_PLUS
            return
        config.set_flag(self.trt.BuilderFlag.DISABLE_TIMING_CACHE)
        # Engines that take memory by themselves cannot be captured in a CUDA graph.
        if (flag := getattr(self.trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)) is not None:
            config.set_flag(flag)
        config.num_compute_capabilities = len(targets)
        for i, target in enumerate(targets):
            config.set_compute_capability(getattr(self.trt.ComputeCapability, target.upper()), i)

    def check_compatibility(self, kinds: Sequence[str]) -> tuple[str, ...]:
        """The kinds of compatibility, in order.

        Raises:
            UsageError: one that is unknown, that TensorRT-RTX does not have, or that a Jetson does not.
        """
        for kind in kinds:
            if kind not in COMPATIBILITIES:
                raise UsageError(f"'{kind}' is no compatibility; known are {', '.join(COMPATIBILITIES)}.")
        if kinds and self.is_rtx:
            raise UsageError(
                "TensorRT-RTX plans run on the GPUs that they were built for, under their own version; leave compatibility out."
            )
        if "hardware" in kinds and platform.machine().lower() == "aarch64":
            raise UsageError("A hardware-compatible plan does not run on a Jetson; leave that out and build on each kind of board.")
        return tuple(kind for kind in COMPATIBILITIES if kind in kinds)

    def known_targets(self) -> tuple[str, ...]:
        """Names ``--gpu`` takes: sm75 ... and ``current`` for TensorRT-RTX, ``current`` alone for TensorRT."""
        if not self.is_rtx:
            return (CURRENT,)
        names = [name for name in self.trt.ComputeCapability.__members__ if re.fullmatch(r"SM\d+", name)]
        return (*(n.lower() for n in sorted(names, key=lambda n: int(n[2:]))), CURRENT)

    def check_targets(self, gpu: Sequence[str] | None) -> tuple[str, ...]:
        """The targets to build for; None means the default of this backend.

        Raises:
            UsageError: an unknown target, or one this backend cannot choose.
        """
        if gpu is None or not gpu:
            return DEFAULT_TARGETS if self.is_rtx else (CURRENT,)
        targets = tuple(dict.fromkeys(str(g).lower() for g in gpu))
        known = self.known_targets()
        for target in targets:
            if target in known:
                continue
            if not self.is_rtx:
                raise UsageError(
                    f"TensorRT builds for the GPU of this machine only, not for '{target}'; "
                    "leave the GPU out, or use the backend tensorrt-rtx to build for other GPUs."
                )
            raise UsageError(f"'{target}' is no GPU target of TensorRT-RTX {self.version}; known are {', '.join(known)}.")
        if CURRENT in targets and len(targets) > 1:
            raise UsageError("The GPU target 'current' stands alone; name either 'current' or compute capabilities such as sm86 sm89.")
        return targets


def load_backend(name: str = "auto") -> Backend:
    """Imports a runtime.

    Args:
        name: ``tensorrt``, ``tensorrt-rtx``, or ``auto`` for the first of both that is installed.

    Raises:
        UsageError: an unknown name.
        BackendError: it is not installed, does not load, or is too old; the message says how to get it.
    """
    if name == "auto":
        return _first_installed()
    if name not in BACKENDS:
        raise UsageError(f"'{name}' is no engine backend; known are auto, {', '.join(BACKENDS)}.")
    module = None
    for candidate in _MODULES[name]:
        try:
            module = import_module(candidate)
        except ModuleNotFoundError as e:
            if e.name != candidate:
                raise BackendError(_broken(name, e)) from e
            continue
        except (ImportError, OSError, RuntimeError) as e:
            raise BackendError(_broken(name, e)) from e
        break
    # The stub of a half-removed package imports as an empty namespace.
    if module is None or not hasattr(module, "__version__"):
        raise _NotInstalledError(f"{_TITLES[name]} is not installed: {INSTALL[name]}.")
    backend = Backend(name, module)
    if not backend.is_rtx and version_numbers(backend.version)[:2] < OLDEST_TENSORRT:
        raise BackendError(
            f"TensorRT {backend.version} is too old: keyposs-trt needs {'.'.join(map(str, OLDEST_TENSORRT))} or newer "
            "(on a Jetson, JetPack 6.1); update it, or run the ONNX model with the onnxruntime backend."
        )
    return backend


def installed_backends() -> dict[str, Backend | BackendError]:
    """Every backend by name: loaded, or the error that says what to do."""
    found: dict[str, Backend | BackendError] = {}
    for name in BACKENDS:
        try:
            found[name] = load_backend(name)
        except BackendError as e:
            found[name] = e
    return found


def version_numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: 10.3.0.post1 gives (10, 3, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(n) for n in match.group().split(".")) if match else ()


def _first_installed() -> Backend:
    for name in BACKENDS:
        try:
            return load_backend(name)
        except _NotInstalledError:
            continue
    raise _NotInstalledError(f"Neither TensorRT-RTX nor TensorRT is installed: {INSTALL[TENSORRT_RTX]}, or {INSTALL[TENSORRT]}.")


def _broken(name: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{_TITLES[name]} is installed but does not load ({reason}); reinstall it: {INSTALL[name]}."
