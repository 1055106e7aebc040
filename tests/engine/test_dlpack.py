"""DLPack capsules, with NumPy on the other side: its arrays lie where a CPU can look."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from keyposs_trt.engine import dlpack
from keyposs_trt.errors import UsageError


class Owner:
    """Holds the memory of an array, and offers it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CPU, 0

    def __dlpack__(self, **_: object) -> object:
        return dlpack.capsule_of(self.array.ctypes.data, self.array.shape, self.array.dtype, self.__dlpack_device__(), self)


def alive(ref: weakref.ref) -> bool:
    gc.collect()
    return ref() is not None


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.int64])
def test_numpy_takes_what_is_offered(dtype):
    owner = Owner(np.arange(24).reshape(2, 3, 4).astype(dtype))
    ref, expected = weakref.ref(owner), owner.array.copy()
    found = np.from_dlpack(owner)
    del owner
    assert alive(ref)  # for the array that looks at it
    assert_array_equal(found, expected)
    assert found.dtype == dtype
    del found
    assert not alive(ref)


def test_a_capsule_that_nobody_takes_lets_go():
    owner = Owner(np.zeros(3))
    ref, capsule = weakref.ref(owner), owner.__dlpack__()
    del owner
    assert alive(ref)
    del capsule
    assert not alive(ref)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.zeros((4, 6, 3), np.float32)[:, ::2],
        np.zeros((2, 0), np.int16),
        np.zeros(5, np.uint64),
    ],
)
def test_what_numpy_offers_is_read(array):
    address, shape, strides, dtype = dlpack.read_capsule(array.__dlpack__())
    assert (shape, dtype) == (array.shape, array.dtype)
    if array.size:
        assert (address, strides) == (array.ctypes.data, array.strides)


def test_reading_leaves_the_capsule_and_its_memory():
    owner = Owner(np.arange(3, dtype=np.uint8))
    ref, capsule = weakref.ref(owner), owner.__dlpack__()
    del owner
    for _ in range(2):
        assert dlpack.read_capsule(capsule)[1:] == ((3,), (1,), np.dtype(np.uint8))
    assert alive(ref)


def test_types_that_are_none_of_ours():
    with pytest.raises(UsageError, match="none of integers and floats"):
        dlpack.read_capsule(np.zeros(3, np.complex64).__dlpack__())


def test_something_else_than_a_capsule():
    with pytest.raises(ValueError, match="PyCapsule"):
        dlpack.read_capsule(object())


def test_torch_takes_it_too():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    owner = Owner(np.arange(6, dtype=np.float32).reshape(2, 3))
    ref = weakref.ref(owner)
    tensor = torch.from_dlpack(owner)
    del owner
    assert alive(ref)
    assert tensor.tolist() == [[0, 1, 2], [3, 4, 5]]
    address, shape, strides, dtype = dlpack.read_capsule(tensor.t().__dlpack__())
    assert (address, shape, strides, dtype) == (tensor.data_ptr(), (3, 2), (4, 12), np.dtype(np.float32))
    del tensor
    assert not alive(ref)
