"""TensorRT-RTX's runtime cache on disk: it compiles a plan's kernels for the GPU at hand, and need not do so again at the next start."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.errors import OutputError
from keyposs_trt.files import atomic_path

if TYPE_CHECKING:
    from keyposs_trt.engine.manifest import Manifest

VARIABLE = "KEYPOSS_CACHE"
_FOLDER = "keyposs-trt"
_SUFFIX = ".rtxcache"
_DIGEST = hashlib.sha256().digest_size
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder that ``KEYPOSS_CACHE`` names, or ``keyposs-trt`` in the user's folder for caches."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / _FOLDER


def cache_path(manifest: Manifest, gpu: str) -> Path:
    """Where the kernels of a plan lie: one file a plan, runtime version and GPU."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", gpu).strip("-").lower()
    return cache_folder() / f"{manifest.plan_sha256[:20]}-{manifest.runtime_version}-{name}{_SUFFIX}"


def read_cache(path: Path) -> bytes | None:
    """What ``write_cache`` wrote; None where there is nothing, or something else.

    The digest in front is checked, since what follows is code for the GPU.
    """
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, content = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        _log.info("The runtime cache '%s' is damaged and will be written anew.", path)
        return None
    return content


def write_cache(path: Path, content: bytes) -> None:
    """Writes aside and renames; where that fails, the next start takes longer, and nothing else is wrong."""
    try:
        with atomic_path(path) as aside:
            aside.write_bytes(hashlib.sha256(content).digest() + content)
    except OutputError as e:
        _log.info("The runtime cache was not kept: %s", e)
