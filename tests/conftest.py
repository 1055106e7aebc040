"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The research data beside the checkout: images, mesh, annotated photographs. Never committed."""
    path = Path(os.environ.get("KEYPOSS_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"the research data are not at '{path}'; set KEYPOSS_DATA to their folder")
    return path
