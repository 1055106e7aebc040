"""Writes small data sets in the formats they are published in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHT = 120, 100


def face_points(count: int, seed: int = 0) -> np.ndarray:
    """[L, 2] points inside a picture of ``picture``, to a thousandth of a pixel."""
    return np.random.default_rng(seed).uniform((30, 20), (90, 80), (count, 2)).round(3)


def picture(path: Path, width: int = WIDTH, height: int = HEIGHT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(30, 220, width, dtype=np.uint8)
    assert cv2.imwrite(str(path), np.dstack([np.tile(ramp, (height, 1))] * 3))
    return path


def wflw_line(points: np.ndarray, name: str, flags: str = "0 0 0 0 0 0", box: tuple[int, ...] = (28, 18, 92, 82)) -> str:
    return " ".join([*(f"{v:.6f}" for v in points.ravel()), *map(str, box), flags, name])


def wflw(root: Path, lines: dict[str, list[str]]) -> Path:
    """WFLW's folders; the image 0--Parade/a.jpg is there."""
    picture(root / "WFLW_images/0--Parade/a.jpg")
    folder = root / "WFLW_annotations/list_98pt_rect_attr_train_test"
    folder.mkdir(parents=True)
    for split, texts in lines.items():
        (folder / f"list_98pt_rect_attr_{split}.txt").write_text("\n".join(texts) + "\n")
    return root


def pts(path: Path, points: np.ndarray, suffix: str = ".jpg") -> Path:
    """A .pts file as 300W's are, from points counted from 0, and its image."""
    picture(path.with_suffix(suffix))
    rows = "\n".join(f"{x + 1:.6f} {y + 1:.6f}" for x, y in points)
    path.write_text(f"version: 1\nn_points:  {len(points)}\n{{\n{rows}\n}}\n")
    return path


def cofw(path: Path, split: str, number: int = 3) -> Path:
    """A MATLAB 7.3 file: 512 bytes of MATLAB's, then HDF5; the last picture is grey."""
    import h5py

    images, phis, boxes = ("IsTr", "phisTr", "bboxesTr") if split == "train" else ("IsT", "phisT", "bboxesT")
    points = np.stack([face_points(29, seed) for seed in range(number)]) + 1
    hidden = np.zeros((number, 29))
    hidden[0, :3] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        references = file.create_dataset(images, (1, number), dtype=h5py.ref_dtype)
        for i in range(number):
            colour = np.zeros((HEIGHT, WIDTH, 3), np.uint8)  # as MATLAB holds it: rows, columns, RGB
            colour[10, 20] = (200, 100, 50)
            stored = colour[..., 0].T if i == number - 1 else colour.transpose()
            references[0, i] = file.create_dataset(f"#refs#/{i}", data=np.ascontiguousarray(stored)).ref
        file[phis] = np.concatenate([points[..., 0], points[..., 1], hidden], 1).T
        file[boxes] = np.tile([[31.0], [21.0], [60.0], [50.0]], (1, number))
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
    return path


def aflw(root: Path, number: int = 5, **changes: object) -> Path:
    """AFLW's file, with the order of its faces turned round."""
    from scipy.io import savemat

    points = np.stack([face_points(19, seed) for seed in range(number)])
    names = np.empty((number, 1), object)
    for i in range(number):
        names[i, 0] = f"{i % 2}/image{i:05}.jpg"
        picture(root / "data/flickr" / names[i, 0])
    mask = np.ones((number, 19))
    mask[0, 4] = 0
    arrays = {
        "bbox": np.tile([28.0, 92.0, 18.0, 82.0], (number, 1)),
        "data": np.concatenate([points[..., 0], points[..., 1]], 1),
        "mask_new": mask,
        "nameList": names,
        "ra": np.arange(number, 0, -1)[None].astype(np.float64),
    }
    savemat(root / "AFLWinfo_release.mat", {**arrays, **changes})
    return root


def lapa(root: Path, split: str, stem: str, points: np.ndarray) -> Path:
    picture(root / split / "images" / f"{stem}.jpg")
    rows = "\n".join(f"{x:.3f} {y:.3f}" for x, y in points)
    file = root / split / "landmarks" / f"{stem}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{len(points)}\n{rows}\n")
    return file


def coco(path: Path, annotations: list[dict], image: str = "a.jpg") -> Path:
    """A file in COCO's layout with one image, of the id 7."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": [{"id": 7, "file_name": image}], "annotations": annotations}))
    return path


def triples(points: np.ndarray, flag: object = 1) -> list[float]:
    """[x, y, flag] * L."""
    return np.c_[points, np.broadcast_to(flag, len(points))].astype(float).ravel().tolist()


def jpeg(width: int = WIDTH, height: int = HEIGHT, grey: int = 90) -> np.ndarray:
    """[bytes] uint8: a JPEG file of one grey."""
    return cv2.imencode(".jpg", np.full((height, width, 3), grey, np.uint8))[1].ravel()


def views(path: Path, number: int = 3, **changes: np.ndarray) -> Path:
    """A file of rendered views as ``training.synthesis.generate`` writes it, and the options beside it; view i has the grey 50 + 20 i."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "options.json").write_text(json.dumps({"views": number, "size": WIDTH}))
    encoded = [jpeg(grey=50 + 20 * i) for i in range(number)]
    arrays = {
        "images": np.concatenate(encoded),
        "ends": np.cumsum([len(e) for e in encoded]),
        "points": np.stack([face_points(68, seed) for seed in range(number)]).astype(np.float32),
    }
    np.savez(path, **{**arrays, **changes})
    return path


def teacher(folder: Path, files: list[str], **changes: np.ndarray) -> Path:
    """A folder of portraits with a teacher's mesh of 478 points."""
    for name in files:
        picture(folder / name)
    meshes = [np.c_[face_points(478, seed), np.zeros(478)] for seed in range(len(files))]
    arrays = {"names": np.array(files), "points": np.array(meshes, np.float32), "spread": np.zeros((len(files), 478), np.float32)}
    np.savez(folder / "mediapipe478.npz", **{**arrays, **changes})
    return folder
