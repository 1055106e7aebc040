"""What the tests of builds share besides their fixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


def edited(model: Path, path: Path, edit: Any) -> Path:
    """The model with ``edit(graph)`` applied."""
    import onnx

    proto = onnx.load(model)
    edit(proto)
    onnx.save(proto, path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []
