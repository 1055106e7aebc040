"""DLPack capsules, read and written: how array libraries hand each other memory without copying it.

The structures are those of dlpack.h, version 0.8, which readers of version 1 take as well.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13  # DLDeviceType
_CODES = {"i": 0, "u": 1, "f": 2}  # DLDataTypeCode
_KINDS = {code: kind for kind, code in _CODES.items()}
_NAME = b"dltensor"
_SIZES = ctypes.POINTER(ctypes.c_int64)


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", _SIZES),
        ("strides", _SIZES),
        ("byte_offset", ctypes.c_uint64),
    )


class _ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("manager_ctx", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


_capsule_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(("PyCapsule_New", ctypes.pythonapi))
_capsule_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
_take = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))
_let_go = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("Py_DecRef", ctypes.pythonapi))


def _delete(managed: int) -> None:
    """The consumer is done: lets go of what ``capsule_of`` took."""
    _let_go(_ManagedTensor.from_address(managed).manager_ctx)


def _end_capsule(capsule: int) -> None:
    """A capsule goes; where nobody took the tensor out of it, it is done with, too."""
    if _capsule_valid(capsule, _NAME):
        _delete(_capsule_pointer(capsule, _NAME))


# A consumer calls the deleter from any thread, with or without Python's lock; a capsule always goes with it.
_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_delete)
_END_CAPSULE = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_end_capsule)
for _callback in (_DELETER, _END_CAPSULE):
    _take(_callback)  # consumers may outlive this module


def capsule_of(address: int, shape: Sequence[int], dtype: np.dtype[Any], device: tuple[int, int], owner: object) -> object:
    """A capsule "dltensor" of a contiguous array.

    Args:
        address: of its first element.
        shape: its shape.
        dtype: integers or floats.
        device: DLPack's type of device, and its number.
        owner: kept alive until the consumer is done.
    """
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    managed = _ManagedTensor()
    managed.tensor = _Tensor(
        address, _Device(*device), len(shape), _DataType(_CODES[dtype.kind], 8 * dtype.itemsize, 1), ctypes.cast(sizes, _SIZES), None, 0
    )
    managed.deleter = ctypes.cast(_DELETER, ctypes.c_void_p)
    held = [owner, managed, sizes]
    managed.manager_ctx = id(held)
    _take(held)
    return _capsule_new(ctypes.addressof(managed), _NAME, ctypes.cast(_END_CAPSULE, ctypes.c_void_p))


def read_capsule(capsule: object) -> tuple[int, tuple[int, ...], tuple[int, ...], np.dtype[Any]]:
    """What a capsule says; it is left as it is, and its memory stays valid while the capsule lives.

    Returns:
        address, shape, strides in bytes, and type.

    Raises:
        UsageError: a type that NumPy does not have.
    """
    tensor = _ManagedTensor.from_address(_capsule_pointer(id(capsule), _NAME)).tensor
    kind = _KINDS.get(tensor.dtype.code)
    if kind is None or tensor.dtype.lanes != 1 or tensor.dtype.bits not in (8, 16, 32, 64):
        raise UsageError("The array's type is none of integers and floats; convert it to uint8.")
    dtype = np.dtype(f"{kind}{tensor.dtype.bits // 8}")
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    if tensor.strides:
        strides = tuple(tensor.strides[i] * dtype.itemsize for i in range(tensor.ndim))
    else:
        strides = contiguous_strides(shape, dtype.itemsize)
    return (tensor.data or 0) + tensor.byte_offset, shape, strides, dtype


def contiguous_strides(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Strides in bytes of an array without gaps, last index fastest."""
    strides, step = [], itemsize
    for length in reversed(shape):
        strides.append(step)
        step *= length
    return tuple(reversed(strides))
