"""The 68 points of a face, from two independent estimates of where the scheme puts them.

The teacher's face mesh gives points of its own, of which ``TEACHER_68`` are nearest to the 68-point scheme; the
landmark vertices of the morphable mesh fitted to them give a second estimate. Around the eyes and the mouth the teacher
sees the edges themselves and is taken alone. On the jaw, the brows and the nose neither follows the scheme exactly and their
errors differ, so a mean of both is taken. The jaw points of the scheme lie on the *visible* contour: on a turned head
the far ones slide along the skin to the silhouette.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keyposs_trt.training.synthesis.fitting import FaceFit
    from keyposs_trt.training.synthesis.mesh import FaceMesh

# Vertices of the 478-point face mesh that stand for the 68 points.
TEACHER_68 = np.array(
    [127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356,
     70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 6, 195, 4, 98, 97, 2, 326, 327,
     33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
     61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87]
)  # fmt: skip
JAW = slice(0, 17)
# Jaw two thirds, as the teacher sees the contour that the mesh only infers; brows and nose half; eyes and mouth all.
TEACHER_SHARE = np.concatenate([np.full(17, 0.65), np.full(19, 0.5), np.ones(32)])
FIT_WEIGHTS = np.concatenate([np.full(17, 0.3), np.ones(51)])  # the teacher's jaw line is its least certain part
SLIDE_FROM, SLIDE_TO = np.deg2rad(10), np.deg2rad(30)  # yaw between which the far jaw goes over to the silhouette


def teacher_offset(mesh: FaceMesh, fit: FaceFit, shape: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """[68, 3] mesh units: how the label of a face differs from the mesh's landmark vertices.

    Args:
        shape: [V, 3] the fitted vertices.
        points: [68, 2] the teacher's points in image pixels, the ones the mesh was fitted to.
    """
    seen = fit.project(_frontal_landmarks(mesh, shape))
    offset = np.c_[(points - seen[:, :2]) * TEACHER_SHARE[:, None], np.zeros(68)]
    return offset @ fit.rotation / fit.scale


def landmarks_68(mesh: FaceMesh, fit: FaceFit, shape: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """[68, 2] labels in image pixels of a face in pose ``fit`` with vertices ``shape`` [V, 3] and ``offset`` [68, 3]."""
    points = fit.project(_frontal_landmarks(mesh, shape) + offset)[:, :2]
    slide = np.clip((abs(fit.yaw) - SLIDE_FROM) / (SLIDE_TO - SLIDE_FROM), 0, 1)
    far = np.arange(17) > 8 if fit.yaw > 0 else np.arange(17) < 8
    share = (slide * far)[:, None]
    points[JAW] = (1 - share) * points[JAW] + share * silhouette_jaw(mesh, fit, shape)
    return points


def silhouette_jaw(mesh: FaceMesh, fit: FaceFit, shape: NDArray[np.float64]) -> NDArray[np.float64]:
    """[17, 2] image pixels: each jaw point moved along its row to the vertex furthest out, seen upright."""
    seen = fit.project(shape)[:, :2]
    up = fit.rotation[:2, 1]
    across = np.array([-up[1], up[0]]) / np.linalg.norm(up)  # the picture's x axis, rolled with the head
    out = np.empty((17, 2))
    for k, row in enumerate(mesh.jaw_rows):
        outward = (seen[row] @ across) * (-1 if k < 8 else 1)
        out[k] = seen[row[outward.argmax()]]
    return out


def _frontal_landmarks(mesh: FaceMesh, shape: NDArray[np.float64]) -> NDArray[np.float64]:
    points = shape[mesh.landmarks]
    points[JAW] = shape[mesh.inner_jaw]
    return points
