"""The 68 points of a face, from two independent estimates of where the scheme puts them.

The teacher's face mesh gives points of its own, of which ``datasets.teacher.TEACHER_68`` are nearest to the 68-point scheme;
the landmark vertices of the morphable mesh fitted to them give a second estimate. Around the eyes and the mouth the teacher
sees the edges themselves and is taken alone. On the jaw, the brows and the nose neither follows the scheme exactly and their
errors differ, so a mean of both is taken. Then the scheme's own rules are applied, which neither source keeps: the jaw points lie on
the *visible* contour, so that on a turned head the far ones slide along the skin to the silhouette; and the points of each half of the
jaw, of a brow and of the bridge of the nose have equal distances along it, as annotators of 300W, WFLW and LaPa place them.

On a frontal face the teacher's contour is good and the label goes only a part of the way from it to the scheme's; on a turned one,
where the teacher's contour is not the visible one, it goes all the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keyposs_trt.training.synthesis.fitting import FaceFit
    from keyposs_trt.training.synthesis.mesh import FaceMesh

JAW = slice(0, 17)
EVEN = (range(9), range(8, 17), range(17, 22), range(22, 27), range(27, 31))  # halves of the jaw, brows, bridge: evenly spaced
# Jaw two thirds, as the teacher sees the contour that the mesh only infers; brows and nose half; eyes and mouth all.
TEACHER_SHARE = np.concatenate([np.full(17, 0.65), np.full(19, 0.5), np.ones(32)])
FIT_WEIGHTS = np.concatenate([np.full(17, 0.3), np.ones(51)])  # the teacher's jaw line is its least certain part
TURN_FROM, TURN_TO = np.deg2rad(10), np.deg2rad(30)  # yaw between which the far jaw goes over to the silhouette
FRONTAL_SHARE = 0.58  # how far a frontal face's label goes from the teacher's points to the scheme's


def teacher_offset(mesh: FaceMesh, fit: FaceFit, shape: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """[68, 3] mesh units: how the teacher's points differ from the mesh's landmark vertices, seen in the fitted pose.

    Args:
        shape: [V, 3] the fitted vertices.
        points: [68, 2] the teacher's points in image pixels, the ones the mesh was fitted to.
    """
    seen = fit.project(_frontal_landmarks(mesh, shape))
    offset = np.c_[points - seen[:, :2], np.zeros(68)]
    return offset @ fit.rotation / fit.scale


def landmarks_68(mesh: FaceMesh, fit: FaceFit, shape: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """[68, 2] labels in image pixels of a face in pose ``fit`` with vertices ``shape`` [V, 3] and the teacher's ``offset`` [68, 3]."""
    vertices = _frontal_landmarks(mesh, shape)
    teacher = fit.project(vertices + offset)[:, :2]
    scheme = fit.project(vertices + offset * TEACHER_SHARE[:, None])[:, :2]
    turned = float(np.clip((abs(fit.yaw) - TURN_FROM) / (TURN_TO - TURN_FROM), 0, 1))
    far = np.arange(17) > 8 if fit.yaw > 0 else np.arange(17) < 8
    slide = (turned * far)[:, None]
    scheme[JAW] = (1 - slide) * scheme[JAW] + slide * silhouette_jaw(mesh, fit, shape)
    share = FRONTAL_SHARE + (1 - FRONTAL_SHARE) * turned
    return teacher + share * (evenly_spaced(scheme) - teacher)


def evenly_spaced(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """[68, 2] the points of each line of ``EVEN`` moved along it to equal distances; its ends, and all other points, stay."""
    out = points.copy()
    for line in EVEN:
        corners = points[line.start : line.stop]
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
        at = np.linspace(0, length[-1], len(line))
        out[line.start : line.stop] = np.stack([np.interp(at, length, corners[:, axis]) for axis in range(2)], -1)
    return out


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
