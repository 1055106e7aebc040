"""Who may import whom: the floors that CONTRIBUTING.md draws."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Parts that are not listed do not exist: a new one must be given its floor here and in CONTRIBUTING.md.
FLOORS = {
    "cli": 5,
    "video": 4,
    "evaluation": 4,
    "bench": 4,
    "training": 4,
    "calibration": 4,
    "doctor": 4,
    "landmarker": 3,
    "detection": 3,
    "drawing": 3,
    "contact_sheet": 3,
    "engine": 2,
    "graph": 2,
    "datasets": 2,
    "decode": 1,
    "schemes": 1,
    "models": 1,
    "geometry": 1,
    "crop": 1,
    "landmarks": 1,
    "metrics": 1,
    "plots": 1,
    "images": 1,
    "jetson": 1,
    "errors": 0,
    "findings": 0,
    "files": 0,
    "quiet": 0,
}
# Neighbours on one floor: the first may import the second.
ALLOWED = {
    ("landmarker", "detection"),
    ("contact_sheet", "drawing"),
    ("bench", "video"),
    ("engine", "graph"),
    ("training", "calibration"),
    ("crop", "geometry"),
    ("files", "errors"),
}
MODULES = sorted(
    path
    for folder in ("keyposs_trt", "training", "calibration")
    for path in (ROOT / folder).rglob("*.py")
    if path != ROOT / "keyposs_trt/__init__.py"
)


def part_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "keyposs_trt" else parts[0]


def imported_parts(path: Path) -> set[str]:
    """Parts of the package that a module imports when it runs, wherever in it; imports for type checkers alone do not count."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("keyposs_trt.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_from_the_floors_below(path):
    part = part_of(path)
    assert part in FLOORS, f"give '{part}' a floor"
    wrong = {
        other
        for other in imported_parts(path) - {part}
        if other in FLOORS and FLOORS[other] >= FLOORS[part] and (part, other) not in ALLOWED
    }
    assert wrong == set()
