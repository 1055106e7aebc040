"""A small z-buffered triangle rasteriser for attribute maps."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, fastmath=True)
def rasterise(points, triangles, attributes, buffer, depth):
    """Draws triangles into ``buffer`` where they are nearer than ``depth``.

    Args:
        points: [n, 3] float64 screen x, y and distance from the viewer (smaller is nearer).
        triangles: [m, 3] int64.
        attributes: [n, c] float32, interpolated linearly.
        buffer: [H, W, c] float32, changed in place.
        depth: [H, W] float64, changed in place; start it at infinity.
    """
    height, width = depth.shape
    for k in range(triangles.shape[0]):
        i, j, l = triangles[k, 0], triangles[k, 1], triangles[k, 2]  # noqa: E741
        x0, y0, x1, y1, x2, y2 = points[i, 0], points[i, 1], points[j, 0], points[j, 1], points[l, 0], points[l, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        for y in range(max(0, int(np.floor(min(y0, y1, y2)))), min(height - 1, int(np.ceil(max(y0, y1, y2)))) + 1):
            for x in range(max(0, int(np.floor(min(x0, x1, x2)))), min(width - 1, int(np.ceil(max(x0, x1, x2)))) + 1):
                w1 = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
                w2 = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
                w0 = 1 - w1 - w2
                if w0 < -1e-6 or w1 < -1e-6 or w2 < -1e-6:
                    continue
                z = w0 * points[i, 2] + w1 * points[j, 2] + w2 * points[l, 2]
                if z < depth[y, x]:
                    depth[y, x] = z
                    for c in range(attributes.shape[1]):
                        buffer[y, x, c] = w0 * attributes[i, c] + w1 * attributes[j, c] + w2 * attributes[l, c]
