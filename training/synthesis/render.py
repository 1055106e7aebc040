"""One portrait, seen from elsewhere: the fitted skin is turned, the background follows it less and less with distance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.spatial import Delaunay

from keyposs_trt.training.synthesis.fitting import FaceFit, fit_mesh
from keyposs_trt.training.synthesis.labels import FIT_WEIGHTS, landmarks_68, teacher_offset
from keyposs_trt.training.synthesis.mesh import weighted
from keyposs_trt.training.synthesis.raster import rasterise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from keyposs_trt.training.synthesis.mesh import FaceMesh

MARGIN = 1.8  # side of a view over the longer side of its landmark box
SHUT = 0.08  # a mouth is shut when the gap of its inner lips is below this share of its width
MOUTH_COLOURS = ((32, 22, 48), (50, 38, 90), (12, 8, 18))  # BGR: what is seen of the inside
TEETH = (196, 206, 214)
RING, RING_FOLLOWS = 1.8, 0.35  # hair and neck: a ring around the face that moves a third as far


def rotation_of(yaw: float, pitch: float) -> NDArray[np.float64]:
    """[3, 3] rotation of image axes (x right, y down, z away): yaw turns to the picture's right, pitch looks down."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    return nod @ turn


class PortraitRenderer:
    """Shows one labelled portrait in other poses and expressions.

    Args:
        mesh: the morphable mesh, fitted here to the points.
        image: [H, W, 3] uint8 portrait.
        points: [68, 2] the teacher's points in image pixels.
    """

    def __init__(self, mesh: FaceMesh, image: NDArray[np.uint8], points: NDArray[np.float64]) -> None:
        self.mesh, self.image = mesh, image
        self.fit = fit_mesh(mesh, points, FIT_WEIGHTS)
        self._shape = mesh.shape(self.fit.identity, self.fit.expression)
        self._offset = teacher_offset(mesh, self.fit, self._shape, points)
        self._source = self.fit.project(self._shape)[:, :2]
        self._mouth_shut = _opening(points) < SHUT

    def original(self, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The portrait itself, cut out like a rendered view: [size, size, 3] and its labels [68, 2] in view pixels."""
        points = landmarks_68(self.mesh, self.fit, self._shape, self._offset)
        corner, k = _frame(points, size)
        grid = np.arange(size, dtype=np.float32) / np.float32(k)
        x, y = np.meshgrid(grid + np.float32(corner[0]), grid + np.float32(corner[1]))
        return _sample(self.image, x, y), (points - corner) * k

    def view(
        self, yaw: float, pitch: float, expression: NDArray[np.float64], size: int, mouth: int = 0
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The face turned by yaw and pitch (radians, from its own pose) with expression coefficients [E].

        Args:
            mouth: which of the ways an opened mouth looks that was shut in the portrait: a colour, and with or without teeth.

        Returns:
            The view [size, size, 3] uint8 and its landmarks [68, 2] in view pixels.
        """
        shape = self._shape + weighted(self.mesh.expression, expression - self.fit.expression)
        pose = self._turned(yaw, pitch)
        target = pose.project(shape)
        points = landmarks_68(self.mesh, pose, shape, self._offset)
        corner, k = _frame(points, size)
        buffer, depth = np.zeros((size, size, 2), np.float32), np.full((size, size), np.inf)
        source, moved = _background(self.image.shape, self._source, target[:, :2])
        far = np.c_[(moved - corner) * k, np.full(len(moved), 1e8)]
        rasterise(far, Delaunay(source).simplices.astype(np.int64), source.astype(np.float32), buffer, depth)
        near = np.c_[(target[:, :2] - corner) * k, target[:, 2] * k]
        rasterise(near, self.mesh.triangles, self._source.astype(np.float32), buffer, depth)
        image, points = _sample(self.image, buffer[..., 0], buffer[..., 1]), (points - corner) * k
        if self._mouth_shut:
            _fill_mouth(image, points, mouth)
        return image, points

    def _turned(self, yaw: float, pitch: float) -> FaceFit:
        """The fit after a turn of the head about the middle of its landmarks."""
        fit = self.fit
        centre = self._shape[self.mesh.landmarks].mean(0)
        rotation = rotation_of(yaw, pitch) @ fit.rotation
        shift = fit.shift + fit.scale * (fit.rotation[:2] @ centre - rotation[:2] @ centre)
        return replace(fit, rotation=rotation, shift=shift)


def _opening(points: NDArray[np.float64]) -> float:
    """Gap between the inner lips over the width of the mouth."""
    gap = np.linalg.norm(points[61:64] - points[67:64:-1], axis=1).mean()
    return float(gap / np.linalg.norm(points[54] - points[48]))


def _fill_mouth(image: NDArray[np.uint8], points: NDArray[np.float64], way: int) -> None:
    """Paints the gap between lips that were shut in the portrait, where there is nothing to show: dark, at times with upper teeth."""
    inner = points[60:68]
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(inner * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    inside = np.empty_like(image)
    inside[:] = MOUTH_COLOURS[way % len(MOUTH_COLOURS)]
    if way // len(MOUTH_COLOURS) % 2:
        upper, lower = inner[:5], inner[[0, 7, 6, 5, 4]]
        teeth = np.concatenate([upper, (upper + 0.4 * (lower - upper))[::-1]])
        cv2.fillPoly(inside, [np.round(teeth * 16).astype(np.int32)], TEETH, cv2.LINE_AA, shift=4)
    soft = cv2.GaussianBlur(mask, (0, 0), 0.7)[..., None].astype(np.float32) / 255
    image[:] = np.round(image + soft * (inside - image.astype(np.float32))).astype(np.uint8)


def _frame(points: NDArray[np.float64], size: int) -> tuple[NDArray[np.float64], float]:
    lo, hi = points.min(0), points.max(0)
    side = (hi - lo).max() * MARGIN
    return (lo + hi) / 2 - side / 2, size / side


def _sample(image: NDArray[np.uint8], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def _background(
    shape: tuple[int, ...], src: NDArray[np.float64], dst: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Anchors of the background's warp: the face's outline, a ring around it, a far grid that stays."""
    h, w = shape[:2]
    outline = np.asarray(cv2.convexHull(src.astype(np.float32), returnPoints=False), np.int64).ravel()[::3]
    centre = src.mean(0)
    ring = centre + (src[outline] - centre) * RING
    xs, ys = np.meshgrid(np.linspace(-0.3 * w, 1.3 * w, 7), np.linspace(-0.3 * h, 1.3 * h, 7))
    grid = np.c_[xs.ravel(), ys.ravel()]
    grid = grid[np.linalg.norm(grid - centre, axis=1) > np.ptp(src[:, 0]) * 1.4]
    moved = ring + (dst[outline] - src[outline]) * RING_FOLLOWS
    return np.vstack([src[outline], ring, grid, centre[None]]), np.vstack([dst[outline], moved, grid, dst.mean(0)[None]])
