"""Explaining a file, with what holds of every explanation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from keyposs_trt.engine.inspect import inspect_file

if TYPE_CHECKING:
    from pathlib import Path


def explain(path: Path) -> dict[str, Any]:
    """The explanation, which must survive JSON unchanged but for tuples."""
    found = inspect_file(path)
    json.dumps(found)
    assert found["file"] == str(path)
    assert found["bytes"] == path.stat().st_size
    return found
