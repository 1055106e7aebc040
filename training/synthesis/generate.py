"""A folder of portraits becomes a folder of labelled views.

One npz file a portrait: ``images`` (object-free: JPEG bytes joined, with ``ends`` [n]), ``points`` [n, 68, 2] float32
in view pixels. The first view is the portrait itself. Files that exist are kept, so an interrupted run resumes.
"""

from __future__ import annotations

import json
import multiprocessing
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from keyposs_trt.datasets.teacher import TEACHER_68, TEACHER_FILE
from keyposs_trt.errors import DataError
from keyposs_trt.files import atomic_path
from keyposs_trt.images import read_image
from keyposs_trt.training.synthesis.mesh import FaceMesh, load_mesh
from keyposs_trt.training.synthesis.render import PortraitRenderer

VERSION = 6  # of the labels and the rendering; views made by another are not mixed with new ones
JPEG_QUALITY = 95
YAW_LIMIT, PITCH_LIMIT = float(np.deg2rad(70)), float(np.deg2rad(35))
SEES_BOTH_SIDES, TURN_BACK = float(np.deg2rad(15)), float(np.deg2rad(25))


@dataclass(frozen=True)
class SynthesisOptions:
    """What to render.

    Attributes:
        folders: portrait folders, each with its images and ``mediapipe478.npz`` (names, points [n, 478, 3]).
        mesh: npz file of the morphable mesh.
        views: views a portrait, the portrait itself being the first.
        size: side of a view in pixels.
        yaw, pitch: standard deviations of the rendered turn in degrees.
        hold_out: images whose name ends in one of these are left out.
        seed: seed of all random numbers; every portrait has its own stream.
    """

    folders: tuple[str, ...]
    mesh: str
    views: int = 16
    size: int = 192
    yaw: float = 28.0
    pitch: float = 11.0
    hold_out: tuple[str, ...] = ("7",)
    seed: int = 0


@dataclass(frozen=True)
class Portrait:
    """An image file and its teacher's points [68, 2] in pixels."""

    path: Path
    points: np.ndarray


def find_portraits(folder: Path, hold_out: tuple[str, ...], held: bool = False) -> list[Portrait]:
    """The portraits of a folder, without those whose name ends in one of ``hold_out`` (or only those, with ``held``).

    Raises:
        DataError: the folder or its label file is missing, or an image named there is.
    """
    labels = folder / TEACHER_FILE
    if not labels.is_file():
        raise DataError(f"There is no '{labels}'; a portrait folder needs its images and the teacher's points in '{TEACHER_FILE}'.")
    with np.load(labels, allow_pickle=False) as archive:
        names, points = archive["names"], archive["points"]
    found = []
    for name, p in zip(names, points, strict=True):
        if Path(name).stem.endswith(hold_out) == held:
            path = folder / str(name)
            if not path.is_file():
                raise DataError(f"'{labels}' names '{name}', which is not in '{folder}'; copy the image or drop its label.")
            found.append(Portrait(path, p[TEACHER_68, :2].astype(np.float64)))
    return found


def make_views(
    image: np.ndarray, points: np.ndarray, mesh: FaceMesh, options: SynthesisOptions, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """Views of one portrait: n images [size, size, 3] and their points [n, 68, 2]."""
    renderer = PortraitRenderer(mesh, image, points)
    views = [renderer.original(options.size)]
    while len(views) < options.views:
        yaw = float(np.clip(np.deg2rad(options.yaw) * rng.standard_normal(), *_turn_limits(renderer.fit.yaw)))
        pitch = float(np.clip(np.deg2rad(options.pitch) * rng.standard_normal(), -PITCH_LIMIT, PITCH_LIMIT))
        expression, mouth = _expression(mesh, renderer.fit.expression, rng), int(rng.integers(6))
        views.append(renderer.view(yaw, pitch, expression, options.size, mouth))
    return [image for image, _ in views], np.stack([label for _, label in views]).astype(np.float32)


def _turn_limits(yaw: float) -> tuple[float, float]:
    """How far a head may be turned from its own yaw: a turned one must not show much of the side the camera never saw."""
    back = YAW_LIMIT if abs(yaw) < SEES_BOTH_SIDES else TURN_BACK
    low, high = YAW_LIMIT + yaw, YAW_LIMIT - yaw
    low, high = (min(low, back), high) if yaw > 0 else (low, min(high, back))
    return -max(low, 0.0), max(high, 0.0)


def _expression(mesh: FaceMesh, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The portrait's own expression, sometimes relaxed, and a few random changes; open mouths and closed eyes more often than by chance."""
    out = own * (rng.random() if rng.random() < 0.3 else 1)
    chosen = rng.choice(len(out), 4, replace=False)
    out[chosen] += rng.random(4) * 0.7
    if rng.random() < 0.35:
        out[mesh.expression_names.index("jawOpen")] += rng.random()
    if rng.random() < 0.15:
        for side in "LR":
            out[mesh.expression_names.index(f"eyeBlink_{side}")] += 0.5 + rng.random() * 0.5
    return np.clip(out, 0, 1)


Job = tuple[Portrait, Path, SynthesisOptions, tuple[int, ...]]


def portrait_jobs(options: SynthesisOptions, out: Path) -> list[Job]:
    """What ``render_dataset`` renders: each portrait, its file in ``out``, the options and the seed.

    Raises:
        DataError: sources are missing.
    """
    jobs = []
    for number, folder in enumerate(options.folders):
        for portrait in find_portraits(Path(folder), options.hold_out):
            name = f"{number}_{portrait.path.stem}"
            jobs.append((portrait, out / f"{name}.npz", options, (options.seed, zlib.crc32(name.encode()))))
    if not jobs:
        raise DataError(f"No portraits were found in {', '.join(options.folders)}; give folders that hold images and labels.")
    return jobs


def render_dataset(options: SynthesisOptions, out: Path, workers: int = 2) -> list[Path]:
    """Renders every portrait into ``out`` and returns the files; what is there already is kept.

    Raises:
        DataError: sources are missing, or ``out`` holds views made with other options.
    """
    from tqdm import tqdm

    wanted = json.dumps({**asdict(options), "version": VERSION}, sort_keys=True, indent=1)
    stamp = out / "options.json"
    if stamp.exists() and stamp.read_text() != wanted:
        raise DataError(
            f"'{out}' holds views made with other options or by another version; delete that folder or choose another for the views."
        )
    jobs = portrait_jobs(options, out)
    with atomic_path(stamp) as t:
        t.write_text(wanted)
    todo = [job for job in jobs if not job[1].exists()]
    if todo:
        # Forked workers would inherit locks that threads of OpenCV or OpenMP hold at that moment.
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            for _ in tqdm(pool.map(_render_portrait, todo, chunksize=2), total=len(todo), desc="rendering", unit="portrait"):
                pass
    return [job[1] for job in jobs]


def _render_portrait(job: Job) -> None:
    portrait, out, options, seed = job
    cv2.setNumThreads(1)
    images, points = make_views(read_image(portrait.path), portrait.points, _mesh(options.mesh), options, np.random.default_rng(seed))
    encoded = [cv2.imencode(".jpg", v, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].ravel() for v in images]
    with atomic_path(out) as t:
        np.savez(t, images=np.concatenate(encoded), ends=np.cumsum([len(e) for e in encoded]), points=points)


@lru_cache(maxsize=1)
def _mesh(path: str) -> FaceMesh:
    return load_mesh(Path(path))
