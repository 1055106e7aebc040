"""Explains training checkpoints: what was trained, how far, how large."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.errors import BackendError, ModelError

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST_HEADER = 100 << 20  # of a safetensors file, by its format


def explain_checkpoint(path: Path) -> dict[str, Any]:
    """A PyTorch or Lightning checkpoint, loaded without running anything that is in it.

    Raises:
        BackendError: torch is missing.
        ModelError: it is no checkpoint, is damaged, or holds more than tensors and plain values.
    """
    content = _load(path)
    if not isinstance(content, dict):
        raise ModelError(f"'{path}' holds a {type(content).__name__}, not a checkpoint; give the file that 'keyposs-trt train' wrote.")
    weights = content.get("state_dict", content)
    hyper = content.get("hyper_parameters") or {}
    recipe = hyper.get("recipe") if isinstance(hyper, dict) else None
    if not isinstance(weights, dict) or (isinstance(hyper, dict) and not isinstance(hyper.get("recipe", {}), dict)):
        raise ModelError(f"'{path}' is laid out as a checkpoint, but its state_dict or recipe is not a dict; copy or train it again.")
    found: dict[str, Any] = {"recipe": _plain(recipe)}
    for key in ("epoch", "global_step"):
        if key in content:
            found[key] = _plain(content[key])
    found.update(_size({name: tuple(value.shape) for name, value in weights.items() if hasattr(value, "shape")}))
    found["stored_as"] = sorted({str(value.dtype).removeprefix("torch.") for value in weights.values() if hasattr(value, "dtype")})
    return {**found, **_export_first(path, recipe is not None)}


def explain_safetensors(path: Path) -> dict[str, Any]:
    """A safetensors file, from its header alone.

    Raises:
        ModelError: the header is damaged.
    """
    broken = f"'{path}' is no safetensors file, or a damaged one; copy or download it again."
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_LONGEST_HEADER, path.stat().st_size - 8):
            raise ModelError(broken)
        text = file.read(length)
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", {})
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        types = sorted({entry["dtype"].lower() for entry in header.values()})
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as e:
        raise ModelError(broken) from e
    if end != path.stat().st_size - 8 - length:
        raise ModelError(broken)
    return {"metadata": metadata, **_size(shapes), "stored_as": types, **_export_first(path, False)}


def _load(path: Path) -> Any:
    try:
        import torch
    except ImportError as e:
        raise BackendError(f"Reading the checkpoint '{path}' needs torch; install it with: pip install torch") from e
    from pickle import UnpicklingError

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as e:
        raise ModelError(
            f"'{path}' holds more than tensors and plain values, which could run code when loaded, so it was not; "
            "give a checkpoint that 'keyposs-trt train' wrote."
        ) from e
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as e:
        raise ModelError(f"'{path}' is no checkpoint, or a damaged one; copy it again.") from e


def _size(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return {"tensors": len(shapes), "parameters": sum(int(np.prod(s)) for s in shapes.values())}


def _export_first(path: Path, ours: bool) -> dict[str, Any]:
    if ours:
        return {"runs_here": False, "reason": f"A checkpoint is for training; export it: keyposs-trt export {path}"}
    reason = (
        "These are bare weights without a recipe. Of a heatmap network of mmpose or KeyPosS, export them: "
        f"keyposs-trt export {path} --sigma 2 --grid corner (docs/published_checkpoints.md); others, with the program that wrote them."
    )
    return {"runs_here": False, "reason": reason}


def _plain(value: Any) -> Any:
    """A value as JSON knows it; anything else as text."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
