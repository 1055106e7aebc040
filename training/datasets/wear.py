"""What covers parts of a face in real pictures, drawn where its 68 landmarks say: glasses, a mask, a fringe of hair, a hat, a hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Colour = tuple[float, float, float]

_EYES = (np.arange(36, 42), np.arange(42, 48))
_BROWS = ((17, 21, 0, -1), (26, 22, 16, 1))  # outer end, inner end, ear, side
_FRACTION = 4  # bits below the pixel that OpenCV draws with
_FAR = 1e5  # pixels; nothing is drawn farther away, where OpenCV's integers end


def wear_something(image: NDArray[np.uint8], points: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The face with one of the five on; [H, W, 3] uint8 BGR.

    Args:
        image: [H, W, 3] uint8 BGR.
        points: [68, 2] in image pixels.
        rng: decides which, and how it looks.
    """
    covers = (_glasses, _glasses, _mask, _fringe, _hat, _hand)
    return covers[rng.integers(len(covers))](image, np.clip(points.astype(np.float64), -_FAR, _FAR), rng)


def _glasses(image: NDArray[np.uint8], points: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Two lenses, clear or tinted, in a frame with a bridge and temples."""
    scale = _eye_distance(points)
    middles = [points[eye].mean(0) for eye in _EYES]
    across = _unit(middles[1] - middles[0], (1, 0))
    down = np.array([-across[1], across[0]])
    half = np.array([rng.uniform(0.2, 0.27), rng.uniform(0.13, 0.22)]) * scale
    half[0] = min(half[0], 0.46 * float(np.linalg.norm(middles[1] - middles[0])))  # on a turned head the lenses are narrower too
    turn = np.linspace(0, 2 * np.pi, 40)
    power = rng.uniform(2, 4)  # of a superellipse: round to nearly square
    outline = np.stack([np.sign(f) * abs(f) ** (2 / power) for f in (np.cos(turn), np.sin(turn))], -1) * half
    lenses = [middle + down * 0.03 * scale + outline @ np.stack([across, down]) for middle in middles]
    out = image.copy()
    if rng.random() < 0.5:
        out = _blend(out, lenses, _colour(rng, 0, 90), rng.uniform(0.3, 0.98), rng)
    thick = max(1, round(scale * float(np.exp(rng.uniform(np.log(0.008), np.log(0.04))))))
    ends = (points[0], points[16])
    lines = [*lenses, np.stack([middles[0] + across * half[0], middles[1] - across * half[0]])]
    lines += [np.stack([middle + sign * across * half[0], end]) for middle, sign, end in zip(middles, (-1, 1), ends, strict=True)]
    cv2.polylines(out, [_fixed(line) for line in lines], False, _colour(rng, 0, 120), thick, cv2.LINE_AA, _FRACTION)
    return out


def _mask(image: NDArray[np.uint8], points: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cloth over nose and mouth, down to the chin, with loops to the ears and pleats."""
    scale = _eye_distance(points)
    top = points[27] + rng.uniform(0.2, 0.9) * (points[30] - points[27])
    below = (points[8] - points[57]) * rng.uniform(0, 0.3)
    first = int(rng.integers(2, 4))
    jaw = points[first : 17 - first]
    jaw = jaw + np.sin(np.linspace(0, np.pi, len(jaw)))[:, None] * below
    cheeks = [0.5 * (end + top) + 0.06 * scale * _unit(points[8] - points[27], (0, 1)) for end in (jaw[-1], jaw[0])]
    rim = np.concatenate([jaw, cheeks[:1], top[None], cheeks[1:]])
    colour = _colour(rng, 20, 255)
    loops = [np.stack([end, ear]) for end, ear in ((jaw[0], points[1]), (jaw[-1], points[15]))]
    out = image.copy()
    cv2.polylines(out, [_fixed(line) for line in loops], False, colour, max(1, round(0.02 * scale)), cv2.LINE_AA, _FRACTION)
    out = _blend(out, [rim], colour, rng.uniform(0.95, 1), rng)
    for height in rng.uniform(0.25, 0.7, rng.integers(0, 4)):
        k = round(height * (len(jaw) // 2))
        fold = np.stack([jaw[k], (1 - height) * top + height * points[8], jaw[-1 - k]])
        ribbon = np.concatenate([fold, fold[::-1] + 0.03 * scale * _unit(points[8] - points[27], (0, 1))])
        out = _blend(out, [ribbon], (0, 0, 0), float(rng.uniform(0.08, 0.25)))
    return out


def _fringe(image: NDArray[np.uint8], points: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Strands of hair from above the forehead to the brows or further."""
    scale, (left, right), up = _forehead(points)
    count = 240
    t = rng.uniform(0, 1, count)
    u = 2 * t - 1
    parting, drift = rng.uniform(-0.8, 0.8), rng.uniform(0, 0.25)
    ends = rng.uniform(-0.15, 0.3) + rng.uniform(-0.25, 0.25) * u - rng.uniform(0, 0.3) * abs(u - parting) + rng.normal(0, 0.07, count)
    base = left + t[:, None] * (right - left)
    roots = base + up * scale * (0.95 - 0.25 * u**2 + rng.normal(0, 0.03, count))[:, None]
    tips = base + up * scale * ends[:, None] + (right - left) * (drift * np.sign(u - parting) * rng.uniform(0.3, 1, count))[:, None]
    bends = 0.5 * (roots + tips) + 0.12 * (right - left) * (u - parting)[:, None]
    s = np.linspace(0, 1, 6)[:, None]
    strands = (1 - s) ** 2 * roots[:, None] + 2 * s * (1 - s) * bends[:, None] + s**2 * tips[:, None]
    value, warmth = rng.uniform(8, 200), rng.uniform(0, 0.55)
    light = rng.normal(1, 0.16, (count, 1))
    shades = np.clip(value * np.array([1 - warmth, 1 - 0.6 * warmth, 1.0]) * light + 4 * (light - 1), 0, 255).tolist()
    thick = max(1, round(scale * 0.024))
    out = image.copy()
    for strand, shade in zip(_fixed(strands), shades, strict=True):
        cv2.polylines(out, [strand], False, shade, thick, cv2.LINE_AA, _FRACTION)
    return out


def _hat(image: NDArray[np.uint8], points: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A cap or hood down to the forehead or the brows, some with a brim and its shadow."""
    scale, (left, right), up = _forehead(points)
    u = np.linspace(-1, 1, 21)[:, None]
    base = 0.5 * (left + right) + 0.5 * (right - left) * 1.12 * u
    low = base + up * scale * (rng.uniform(0.0, 0.45) + rng.uniform(-0.12, 0.12) * (1 - u**2))
    dome = base + up * scale * (0.45 + rng.uniform(0.5, 0.8) * np.sqrt(1 - u**2))
    colour = _colour(rng, 5, 230)
    shadow = np.concatenate([low[3:-3], low[-4:2:-1] - up * scale * rng.uniform(0.05, 0.2)])
    out = _blend(image, [shadow], (0, 0, 0), float(rng.uniform(0.1, 0.4)))
    out = _blend(out, [np.concatenate([low, dome[::-1]])], colour, 1.0, rng)
    if rng.random() < 0.5:
        brim = np.concatenate([low, low[::-1] - up * scale * rng.uniform(0.1, 0.25) * (1 - u[::-1] ** 2)])
        darker = tuple(float(v) for v in np.multiply(colour, rng.uniform(0.5, 0.95)))
        out = _blend(out, [brim], (darker[0], darker[1], darker[2]), 1.0, rng)
    return out


def _hand(image: NDArray[np.uint8], points: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Two to four fingers and the back of a hand in the face's own colour, from a side or from below."""
    scale = _eye_distance(points)
    skin = _skin(image, points) * rng.uniform(0.75, 1.1)
    tip = points[rng.integers(0, 17)] * 0.5 + points[rng.integers(27, 68)] * 0.5
    way = _unit(tip - points[27:36].mean(0), (0, 1))
    side = np.array([-way[1], way[0]])
    width, count, fan = 0.17 * scale, int(rng.integers(2, 5)), rng.uniform(0, 0.12)
    knuckles = tip + way * scale * rng.uniform(0.6, 0.8)
    out = image.copy()
    offsets = np.arange(count) - (count - 1) / 2
    back = [
        knuckles + side * width * 1.1 * f * (count + 0.4) / 2 + way * scale * d
        for f, d in ((-1, -0.03), (1, -0.03), (1.15, 1.6), (-1.15, 1.6))
    ]
    out = _blend(out, [np.stack(back)], _lit(skin, 0.92), 1.0, rng)
    for place in offsets:
        start = tip + side * width * 1.1 * place * (1 + fan * 4) + way * scale * (0.07 * abs(place) + rng.uniform(0, 0.06))
        line = _fixed(np.stack([start, knuckles + side * width * 1.1 * place, knuckles + side * width * 1.1 * place + way * scale * 0.3]))
        light = rng.uniform(0.92, 1.06)
        for share, gain in ((1.0, 0.68), (0.84, 0.88), (0.6, 1.0), (0.3, 1.06)):
            cv2.polylines(out, [line], False, _lit(skin, gain * light), max(1, round(width * share)), cv2.LINE_AA, _FRACTION)
    return out


def _skin(image: NDArray[np.uint8], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """[3] BGR: the middle colour of the cheeks and the bridge of the nose, as far as they lie in the image."""
    places = np.concatenate([0.5 * (points[[2, 14, 4, 12]] + points[[31, 35, 48, 54]]), points[27:31]])
    x, y = np.clip(places.round().astype(int), 0, np.array(image.shape[1::-1]) - 1).T
    return np.median(image[y, x].astype(np.float64), 0)


def _lit(colour: NDArray[np.float64], gain: float) -> Colour:
    b, g, r = (float(v) for v in np.clip(colour * gain, 0, 255))
    return b, g, r


def _blend(
    image: NDArray[np.uint8],
    shapes: list[NDArray[np.float64]],
    colour: Colour,
    opacity: float,
    shade: np.random.Generator | None = None,
) -> NDArray[np.uint8]:
    """Filled polygons over an image; a generator gives them a slope of brightness, a darker rim and a grain."""
    mask = np.zeros(image.shape[:2], np.uint8)
    for shape in shapes:
        cv2.fillPoly(mask, [_fixed(shape)], 255, cv2.LINE_AA, _FRACTION)
    x, y, width, height = cv2.boundingRect(mask)
    part, mask = image[y : y + height, x : x + width], mask[y : y + height, x : x + width]
    if not mask.size:
        return image.copy()
    cover = np.broadcast_to(np.array(colour, np.float32), part.shape)
    if shade is not None:
        left, right, above, below = shade.uniform(0.75, 1.1, 4)
        gain = np.linspace(left, right, width) * np.linspace(above, below, height)[:, None]
        depth = cv2.distanceTransform(np.pad(mask // 128, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        gain *= 1 - 0.25 * np.exp(-depth / max(0.08 * min(width, height), 1))
        gain *= shade.normal(1, shade.uniform(0, 0.06), (height, width))
        cover = cover * gain[..., None].astype(np.float32)
    weight = mask[..., None].astype(np.float32) * np.float32(opacity / 255)
    out = image.copy()
    out[y : y + height, x : x + width] = np.clip(np.round(part + weight * (cover - part)), 0, 255).astype(np.uint8)
    return out


def _forehead(points: NDArray[np.float64]) -> tuple[float, tuple[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]:
    """The eye distance, both ends of the forehead at the height of the brows, out to the ears, and the direction up the face."""
    up = _unit(points[27] - points[8], (0, -1))
    across = np.array([-up[1], up[0]])
    reach = [max(0.3 * np.linalg.norm(points[a] - points[b]), sign * across @ (points[ear] - points[a])) for a, b, ear, sign in _BROWS]
    return _eye_distance(points), (points[17] - across * reach[0], points[26] + across * reach[1]), up


def _unit(vector: NDArray[np.float64], otherwise: tuple[float, float]) -> NDArray[np.float64]:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-6 else np.array(otherwise, np.float64)


def _eye_distance(points: NDArray[np.float64]) -> float:
    """Pixels between the outer corners of the eyes, or more on a turned head, whose height is less shortened."""
    eyes = float(np.linalg.norm(points[36] - points[45]))
    return max(eyes, 0.8 * float(np.linalg.norm(points[27] - points[8])), 1.0)


def _colour(rng: np.random.Generator, low: int, high: int) -> Colour:
    """BGR: one brightness, with a little of a hue."""
    values = np.clip(rng.uniform(low, high) + rng.normal(0, 0.15 * (high - low), 3), 0, 255)
    return float(values[0]), float(values[1]), float(values[2])


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.round(np.clip(points, -_FAR, _FAR) * (1 << _FRACTION)).astype(np.int32)
