"""The models shipped with the package, by short name."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from keyposs_trt.errors import ModelError
from keyposs_trt.files import file_mode

DEFAULT = "face68-32"

_FOLDER = Path(__file__).parent


def model_names() -> list[str]:
    """Short names of the shipped models, sorted; each has a model card, ``NAME.md``, beside it."""
    return sorted(path.stem for path in _FOLDER.glob("*.onnx"))


def at_heatmap(name_or_path: str | os.PathLike[str] | None, size: int) -> str:
    """The member of a family of models, named ``NAME-SIZE``, that has this heatmap size.

    Args:
        name_or_path: the family (``face68``, ``out/my.onnx``), or any member of it (``face68-32``); None for that of ``DEFAULT``.
        size: in heatmap pixels.

    Returns:
        What ``resolve`` takes; whether there is such a model is left to it.
    """
    given = DEFAULT if name_or_path is None else os.fspath(name_or_path)
    stem, suffix = (given[:-5], given[-5:]) if given.lower().endswith(".onnx") else (given, "")
    return f"{re.sub(r'-[0-9]+$', '', stem)}-{size}{suffix}"


def resolve(name_or_path: str | os.PathLike[str] | None = None) -> Path:
    """The file of a model.

    Args:
        name_or_path: short name of a shipped model, path of any model file, or None for ``DEFAULT``.
            A shipped name goes before a file of that name; write ``./name`` for the file.

    Raises:
        ModelError: there is no such model or file.
    """
    given = DEFAULT if name_or_path is None else name_or_path
    if isinstance(given, str) and given in model_names():
        return _FOLDER / f"{given}.onnx"
    path, mode = Path(given), file_mode(given)
    if stat.S_ISREG(mode):
        return path
    shipped = ", ".join(model_names()) or "none in this installation"
    if stat.S_ISDIR(mode):
        raise ModelError(f"'{given}' is a folder, not a model; give a .onnx or .plan file, or a shipped model ({shipped}).")
    raise ModelError(f"There is no model '{given}'; give the path of a .onnx or .plan file, or a shipped model ({shipped}).")
