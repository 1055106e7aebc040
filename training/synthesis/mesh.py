"""The morphable face mesh: a mean head, identity and expression modes, and its 68 landmark vertices.

Mesh axes: x to the right of the picture, y up, z towards the viewer. Lengths are in the mesh's own unit.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from keyposs_trt.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SKIN = "M_Face"
IDENTITIES = 60  # further modes are below the precision of the landmarks they are fitted to
ROW_HEIGHT = 0.02  # half height of a jaw row, as a share of the height of the 68 landmarks
CHIN = 8


@dataclass(frozen=True)
class FaceMesh:
    """The skin of a morphable head, restricted to the vertices that are drawn or are landmarks.

    Attributes:
        vertices: [V, 3] float64 mean shape.
        identity: [I, V, 3] float32 identity modes; coefficients are standard normal.
        expression: [E, V, 3] float32 expression modes; coefficients lie in [0, 1].
        expression_names: E names.
        triangles: [F, 3] int64 vertex indices of the skin.
        landmarks: [68] int64 vertices of the 68-point scheme, jaw points on the outer contour.
        inner_jaw: [17] int64 vertices of the jaw points as they sit on a frontal face.
        jaw_rows: per jaw point, the vertices at its height from the contour towards the middle of the face.
    """

    vertices: NDArray[np.float64]
    identity: NDArray[np.float32]
    expression: NDArray[np.float32]
    expression_names: tuple[str, ...]
    triangles: NDArray[np.int64]
    landmarks: NDArray[np.int64]
    inner_jaw: NDArray[np.int64]
    jaw_rows: tuple[NDArray[np.int64], ...]

    def shape(self, identity: NDArray[np.float64], expression: NDArray[np.float64]) -> NDArray[np.float64]:
        """[V, 3] vertices for coefficients [I] and [E]."""
        return self.vertices + weighted(self.identity, identity) + weighted(self.expression, expression)


def weighted(modes: NDArray[np.float32], coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """[V, 3] sum of modes [n, V, 3] by coefficients [n]; modes with coefficient 0 are not touched."""
    used = np.flatnonzero(coefficients)
    return np.tensordot(coefficients[used].astype(np.float32), modes[used], 1).astype(np.float64)


def load_mesh(path: Path) -> FaceMesh:
    """Reads a morphable mesh from a npz file with the arrays of ICT-FaceKit's layout.

    Arrays: vertices [n, 3], faces [m, 3], face_material [m], material_names, identity_deltas [i, n, 3],
    expression_deltas [e, n, 3], expression_names, landmarks68, landmarks68_inner_jaw.

    Raises:
        DataError: the file is missing, not such an archive, or lacks an array.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            data = {k: archive[k] for k in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as e:
        raise DataError(f"Cannot read the face mesh '{path}': {e}; give the npz file of a morphable mesh.") from e
    needed = ("vertices", "faces", "face_material", "material_names", "identity_deltas", "expression_deltas",
              "expression_names", "landmarks68", "landmarks68_inner_jaw")  # fmt: skip
    if missing := [k for k in needed if k not in data]:
        raise DataError(f"The face mesh '{path}' lacks the arrays {', '.join(missing)}; give a mesh of ICT-FaceKit's layout.")
    skin = data["faces"][data["face_material"] == list(data["material_names"]).index(SKIN)]
    landmarks, inner = data["landmarks68"], data["landmarks68_inner_jaw"][:17]
    used = np.unique(np.concatenate([skin.ravel(), landmarks, inner]))
    index = np.full(len(data["vertices"]), -1, np.int64)
    index[used] = np.arange(len(used))
    vertices = data["vertices"][used].astype(np.float64)
    return FaceMesh(
        vertices=vertices,
        identity=data["identity_deltas"][:IDENTITIES, used].astype(np.float32),
        expression=data["expression_deltas"][:, used].astype(np.float32),
        expression_names=tuple(str(n) for n in data["expression_names"]),
        triangles=index[skin],
        landmarks=index[landmarks],
        inner_jaw=index[inner],
        jaw_rows=_jaw_rows(vertices, index[landmarks]),
    )


def _jaw_rows(vertices: NDArray[np.float64], landmarks: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    height = np.ptp(vertices[landmarks][:, 1])
    rows = []
    for k in range(17):
        start = vertices[landmarks[k]]
        level = abs(vertices[:, 1] - start[1]) < ROW_HEIGHT * height
        front = vertices[:, 2] >= start[2] - ROW_HEIGHT / 2 * height
        same_side = vertices[:, 0] * np.sign(start[0]) > 0
        row = np.flatnonzero(level & front & same_side) if k != CHIN else np.empty(0, np.int64)
        rows.append(np.concatenate([landmarks[k : k + 1], row]))
    return tuple(rows)
