"""Weak-perspective fit of the morphable mesh to 68 image points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keyposs_trt.training.synthesis.mesh import FaceMesh

ITERATIONS = 8
IDENTITY_PRIOR, EXPRESSION_PRIOR = 1.0, 1.5
POINT_NOISE = 0.02  # standard deviation of the given points, as a share of the face's size


@dataclass(frozen=True)
class FaceFit:
    """Pose and shape of a face: image = (scale * rotation @ vertex)[:2] + shift; image z grows away from the viewer.

    Attributes:
        identity: [I] and expression: [E] coefficients of the mesh.
        scale: image pixels per mesh unit.
        rotation: [3, 3], mesh axes to image axes (x right, y down, z away).
        shift: [2] image pixels.
    """

    identity: NDArray[np.float64]
    expression: NDArray[np.float64]
    scale: float
    rotation: NDArray[np.float64]
    shift: NDArray[np.float64]

    @property
    def yaw(self) -> float:
        """Turn of the head in radians, positive towards the right of the picture."""
        forward = self.rotation[:, 2]
        return float(np.arctan2(forward[0], -forward[2]))

    def project(self, vertices: NDArray[np.float64]) -> NDArray[np.float64]:
        """[n, 3] image x, y and depth of mesh vertices [n, 3]."""
        out = vertices @ (self.scale * self.rotation).T
        out[:, :2] += self.shift
        return out


def fit_mesh(mesh: FaceMesh, points: NDArray[np.float64], weights: NDArray[np.float64]) -> FaceFit:
    """Fits pose, identity and expression to points [68, 2] in image pixels with weights [68].

    Alternates a least-squares affine camera, made orthonormal by its singular value decomposition, with a ridge
    solution for the shape coefficients given that camera.
    """
    mean = mesh.vertices[mesh.landmarks]
    modes = np.concatenate([mesh.identity[:, mesh.landmarks], mesh.expression[:, mesh.landmarks]]).astype(np.float64)
    n_identity, n_expression = len(mesh.identity), len(mesh.expression)
    ridge = np.diag(np.concatenate([np.full(n_identity, IDENTITY_PRIOR), np.full(n_expression, EXPRESSION_PRIOR)]) ** 2)
    noise = POINT_NOISE * np.ptp(points[17:], axis=0).mean()
    row_weights = np.repeat(weights, 2) / noise
    shape = mean
    identity, expression = np.zeros(n_identity), np.zeros(n_expression)
    scale, rotation, shift = 1.0, np.eye(3), np.zeros(2)
    for _ in range(ITERATIONS):
        design = np.c_[shape, np.ones(68)] * weights[:, None]
        camera = np.linalg.lstsq(design, points * weights[:, None], rcond=None)[0]
        u, s, vt = np.linalg.svd(camera[:3].T)
        two_rows = u @ np.eye(2, 3) @ vt
        scale, rotation, shift = float(s.mean()), np.vstack([two_rows, np.cross(*two_rows)]), camera[3]
        projection = (scale * two_rows).T
        jacobian = (modes @ projection).transpose(1, 2, 0).reshape(136, -1) * row_weights[:, None]
        residual = (points - mean @ projection - shift).ravel() * row_weights
        c = np.linalg.solve(jacobian.T @ jacobian + ridge, jacobian.T @ residual)
        identity, expression = np.clip(c[:n_identity], -3, 3), np.clip(c[n_identity:], 0, 1)
        shape = mean + np.tensordot(identity, modes[:n_identity], 1) + np.tensordot(expression, modes[n_identity:], 1)
        shift = np.average(points - shape @ projection, axis=0, weights=weights)
    return FaceFit(identity, expression, scale, rotation, shift)
