"""Weight files of other programs, read without running anything that is in them.

PyTorch's restricted unpickler builds tensors and plain containers only. Checkpoints of mmengine hold more beside their weights:
histories of losses, NumPy numbers, paths. Whatever the unpickler does not know becomes a stand-in that keeps nothing and does
nothing, so the weights can be read where mmengine is not installed, and code in the file is never called.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from keyposs_trt.errors import BackendError, ModelError

_PICKLES = 4  # of a file in the format before PyTorch 1.6: magic number, protocol, machine, content
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # Python 2's names, which pickle protocol 2 keeps
_FAILURES = (
    *(RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, StopIteration, MemoryError),
    *(struct.error, zipfile.BadZipFile),
)


class _StandIn:
    """Takes the place of an object of unknown type."""

    def __new__(cls, *_args: Any, **_options: Any) -> _StandIn:
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_options: Any) -> None:
        pass

    def __setstate__(self, _state: Any) -> None:
        pass


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a weights file by name, as they are stored.

    Args:
        path: a ``.pth`` or ``.pt`` of PyTorch, with the weights under ``state_dict`` or at the top, or a ``.safetensors``.

    Raises:
        ModelError: the file is missing or damaged, cannot be read without running code in it, or holds no weights.
        BackendError: the installed PyTorch is too old to read it safely.
    """
    path = Path(path)
    content = _safetensors(path) if path.suffix.lower() == ".safetensors" else _torch(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(isinstance(v, torch.Tensor) for v in state.values()):
        raise ModelError(f"'{path}' holds no weights by name; give a checkpoint with a state_dict.")
    return {str(name): value for name, value in state.items() if isinstance(value, torch.Tensor)}


def holds_recipe(path: str | Path) -> bool:
    """Whether it is a checkpoint of ``keyposs-trt train``, whatever its suffix.

    Raises:
        ModelError: the file is missing, damaged, or cannot be read without running code in it.
    """
    path = Path(path)
    if path.suffix.lower() == ".safetensors":
        return False
    content = _torch(path)
    hyper = content.get("hyper_parameters") if isinstance(content, dict) else None
    return isinstance(hyper, dict) and "recipe" in hyper


def _torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"There is no checkpoint '{path}'; check the path.") from None
    except pickle.UnpicklingError as e:
        if not _is_pickled(path):
            raise ModelError(f"'{path}' is no PyTorch checkpoint, or a damaged one; download or copy it again.") from e
        return _with_stand_ins(path)
    except _FAILURES as e:
        raise ModelError(f"'{path}' is no PyTorch checkpoint, or a damaged one; download or copy it again.") from e


def _is_pickled(path: Path) -> bool:
    """Whether it begins as PyTorch's files do, new or old; advice on trusting a file is for those alone."""
    with path.open("rb") as file:
        return zipfile.is_zipfile(path) or file.read(1) == pickle.PROTO


def _with_stand_ins(path: Path) -> Any:
    """Loads a file that holds more than tensors and plain values, with stand-ins for the rest."""
    if not hasattr(torch.serialization, "safe_globals"):
        raise BackendError(f"Reading '{path}' without running code in it needs PyTorch 2.5 or newer; install it with: pip install -U torch")
    try:
        kinds: list[Any] = [type(name.rpartition(".")[2], (_StandIn,), _place(module, name)) for module, name in _mentioned(path)]
        with torch.serialization.safe_globals(kinds):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, *_FAILURES) as e:
        raise ModelError(
            f"'{path}' cannot be read without running code that is in it, so it was not; if you trust it, save its weights alone: "
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], 'weights.pth')."
        ) from e


def _place(module: str, name: str) -> dict[str, Any]:
    """What makes a class answer to a name in a file; PyTorch looks at its own list of safe names first."""
    return {"__module__": _RENAMED.get(module, module), "__qualname__": name}


def _mentioned(path: Path) -> set[tuple[str, str]]:
    """Module and name of everything a file asks for, found by reading its instructions without following them."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
            return _globals(pickletools.genops(archive.read(name)))
    with path.open("rb") as file:
        return set().union(*(_globals(pickletools.genops(file)) for _ in range(_PICKLES)))


def _globals(instructions: Any) -> set[tuple[str, str]]:
    pairs = (str(argument).split(" ", 1) for operation, argument, _ in instructions if operation.name == "GLOBAL")
    return {(module, name) for module, name in pairs}


def _safetensors(path: Path) -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as e:
        raise BackendError(f"Reading '{path}' needs the package 'safetensors'; install it with: pip install safetensors") from e
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise ModelError(f"There is no checkpoint '{path}'; check the path.") from None
    except (safetensors.SafetensorError, *_FAILURES) as e:
        raise ModelError(f"'{path}' is no safetensors file, or a damaged one; download or copy it again.") from e
