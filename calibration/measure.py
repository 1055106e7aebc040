"""The calibration run: the network over the crops, and what its tensors hold."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keyposs_trt.calibration.histogram import Histogram
from keyposs_trt.errors import DataError
from keyposs_trt.files import atomic_path
from keyposs_trt.graph.contract import INPUT
from keyposs_trt.graph.onnx_package import FLOAT, tensor
from keyposs_trt.graph.onnxruntime_package import session_in_memory
from keyposs_trt.graph.placement import place
from keyposs_trt.graph.qdq import network_of

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import onnx
    from numpy.typing import NDArray

    from keyposs_trt.calibration.sets import CalibrationSet

_MEMORY = 256 << 20  # bytes that the tensors of one batch may take
_SAVE_EVERY = 16  # batches


@dataclass(eq=False)
class Statistics:
    """What a calibration run saw of each tensor that INT8 needs a range of.

    Attributes:
        histograms: by tensor.
        means: by tensor, [C] the mean of each channel, for tensors [N, C, ...]; what the correction of biases needs.
        samples: number of crops.
    """

    histograms: dict[str, Histogram]
    means: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    samples: int = 0


def measure(
    model: onnx.ModelProto,
    crops: CalibrationSet,
    *,
    threads: int | None = None,
    state: str | os.PathLike[str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Statistics:
    """Runs the float32 network over a calibration set on the CPU.

    The result does not depend on threads, batches, or whether the run was cut off and resumed.

    Args:
        model: a model of this toolkit, not quantised.
        crops: for its input size.
        threads: CPU threads; None for all cores.
        state: a file to keep the work done so far in; where it holds a part of this very run, the run goes on from there. It is
            removed at the end.
        progress: called with the number of crops done after each batch.

    Raises:
        ModelError: it is no model of this toolkit, or quantised already.
        DataError: an image has gone, or the network gives values that are no numbers.
        OutputError: the state cannot be written.
    """
    network = network_of(model)
    placement = place(network.graph)
    run = _Run(network, placement.tensors, threads)
    keeper = _Keeper(state, _identity(network, crops), placement.tensors)
    done = keeper.load()
    batch = run.batch_for(crops.crop(0))
    with ThreadPoolExecutor(threads) as pool:
        for number, images in enumerate(crops.batches(batch, done.samples), 1):
            values = run(images)
            list(pool.map(lambda name: done.histograms[name].add(values[name], name), placement.tensors))  # noqa: B023 (used at once)
            for name, array in values.items():
                if array.ndim >= 2:
                    # Each crop by itself, so that the sum does not depend on how they are batched.
                    for mean in array.reshape(len(array), array.shape[1], -1).mean(2, dtype=np.float64):
                        done.means[name] = done.means.get(name, 0.0) + mean
            done.samples += len(images)
            if progress is not None:
                progress(done.samples)
            if number % _SAVE_EVERY == 0:
                keeper.save(done)
    keeper.clear()
    done.means = {name: total / done.samples for name, total in done.means.items()}
    return done


class _Run:
    """The network with its inner tensors as outputs."""

    def __init__(self, network: onnx.ModelProto, tensors: tuple[str, ...], threads: int | None) -> None:
        del network.graph.output[:]
        network.graph.output.extend(tensor(name, FLOAT, []) for name in tensors)
        for output in network.graph.output:
            output.type.tensor_type.ClearField("shape")
        self._tensors = list(tensors)
        self._session: Any = session_in_memory(network.SerializeToString(), "the network", threads)

    def __call__(self, crops: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(self._tensors, self._session.run(self._tensors, {INPUT: crops}), strict=True))

    def batch_for(self, crop: NDArray[np.uint8]) -> int:
        """How many crops at once keep the memory."""
        size = sum(array.nbytes for array in self(crop[None]).values())
        return int(np.clip(_MEMORY // max(size, 1), 1, 32))


class _Keeper:
    """The work of a run on the disk. It is kept for this model and this set of crops only."""

    def __init__(self, path: str | os.PathLike[str] | None, identity: str, tensors: tuple[str, ...]) -> None:
        self._path = None if path is None else Path(path)
        self._identity = identity
        self._tensors = tensors

    def load(self) -> Statistics:
        """What was done so far: nothing, where the file is another run's, damaged or not there."""
        fresh = Statistics({name: Histogram() for name in self._tensors})
        if self._path is None or not self._path.is_file():
            return fresh
        try:
            with np.load(io.BytesIO(self._path.read_bytes()), allow_pickle=False) as saved:
                head = json.loads(str(saved["head"]))
                if head["identity"] != self._identity:
                    return fresh
                histograms = {
                    name: Histogram(e, saved["counts"][i], z, largest, lowest)
                    for i, (name, (e, z, largest, lowest)) in enumerate(zip(self._tensors, head["histograms"], strict=True))
                }
                means = {self._tensors[i]: saved[f"mean{i}"] for i in range(len(self._tensors)) if f"mean{i}" in saved}
                return Statistics(histograms, means, head["samples"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as e:
            if isinstance(e, OSError):
                raise DataError(f"Cannot read '{self._path}', the unfinished run: {e.strerror or e}; remove it.") from e
            return fresh

    def save(self, done: Statistics) -> None:
        if self._path is None:
            return
        ordered = [done.histograms[name] for name in self._tensors]
        head = {
            "identity": self._identity,
            "samples": done.samples,
            "histograms": [(h.exponent, h.zeros, h.largest, h.lowest) for h in ordered],
        }
        arrays: dict[str, Any] = {f"mean{i}": done.means[name] for i, name in enumerate(self._tensors) if name in done.means}
        with atomic_path(self._path) as aside, aside.open("wb") as file:
            np.savez(file, head=np.array(json.dumps(head)), counts=np.stack([h.counts for h in ordered]), **arrays)

    def clear(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _identity(network: onnx.ModelProto, crops: CalibrationSet) -> str:
    """Changes with the weights, the set, and the version of what is kept."""
    digest = hashlib.sha256(b"1")
    digest.update(network.SerializeToString(deterministic=True))
    digest.update(f"{crops.digest} {len(crops)} {crops.size} {crops.crop_scale}".encode())
    return digest.hexdigest()
