"""The library of TensorRT's plugin: where it is, and loading it before TensorRT meets a graph or a plan that needs it.

TensorRT knows a plugin by name, version and namespace once its library is in the registry of the process; without it, parsing and
deserialising fail with words that do not name the cause.
"""

from __future__ import annotations

import hashlib
from threading import Lock
from typing import TYPE_CHECKING, Any

from keyposs_trt.engine.native_library import find_native_library
from keyposs_trt.errors import BackendError, BuildError
from keyposs_trt.graph.contract import PLUGIN_NAME, PLUGIN_NAMESPACE, PLUGIN_VERSION

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from keyposs_trt.engine.log import Log
    from keyposs_trt.engine.versions import Backend

VARIABLE = "KEYPOSS_PLUGIN_LIBRARY"
FILE = "libkeyposs_multilateration_plugin.so"

_REMEDY = "build it (docs/plugin.md), or export the model with --decoder onnx, which needs none"
_LOCK = Lock()


def needs_plugin(model: onnx.ModelProto) -> bool:
    """Whether a graph decodes with the plugin."""
    return any(node.op_type == PLUGIN_NAME for node in model.graph.node)


def refuse_plugins(model: onnx.ModelProto, name: str) -> None:
    """TensorRT-RTX has no plugins, and parsing a graph with one that is registered ends the process.

    Raises:
        BuildError: the graph has a node that is no standard operator; ``name`` is the model in the message.
    """
    from onnx import defs

    if needs_plugin(model):
        raise BuildError(
            f"'{name}' decodes with the plugin {PLUGIN_NAME}, and TensorRT-RTX takes no plugins; "
            "export the model with --decoder onnx, or build with --backend tensorrt."
        )
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or not defs.has(node.op_type):
            raise BuildError(
                f"'{name}' uses '{node.op_type}', which is no standard operator, and TensorRT-RTX takes no plugins; "
                "export the model with its decoder in standard operators."
            )


def find_library() -> Path:
    """The library: the file that ``KEYPOSS_PLUGIN_LIBRARY`` names, or else that of the installed package, or the newest in the folder
    ``build`` of a checkout.

    Raises:
        BackendError: there is none.
    """
    found = find_native_library(FILE, VARIABLE)
    if found is None:
        raise BackendError(f"This needs the library of the plugin {PLUGIN_NAME}, '{FILE}', and it is not here: {_REMEDY}.")
    return found


def load_library(backend: Backend, log: Log) -> dict[str, str]:
    """Puts the plugin into the registry of TensorRT; again does no harm.

    Args:
        backend: the runtime.
        log: where TensorRT's words go; its logger must be known to the runtime already.

    Returns:
        ``name``, ``version`` and ``sha256``, as the manifest records them.

    Raises:
        BackendError: the library is missing or does not load.
    """
    path = find_library()
    with _LOCK:
        registry = backend.trt.get_plugin_registry()
        if not _registered(registry):
            registry.load_library(str(path))
        if not _registered(registry):
            raise BackendError(f"{backend.title} {backend.version} cannot load the plugin '{path}' ({log.reason}); build it again here.")
    return described()


def described() -> dict[str, str]:
    """``name``, ``version`` and ``sha256`` of the library, as the manifest records them; BackendError where there is none."""
    return {"name": PLUGIN_NAME, "version": PLUGIN_VERSION, "sha256": hashlib.sha256(find_library().read_bytes()).hexdigest()}


def _registered(registry: Any) -> bool:
    """Looked up in the list: asking for a creator that is not there logs an error."""
    wanted = (PLUGIN_NAME, PLUGIN_VERSION, PLUGIN_NAMESPACE)
    return any((c.name, c.plugin_version, c.plugin_namespace) == wanted for c in registry.all_creators)
