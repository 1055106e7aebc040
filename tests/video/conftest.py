from __future__ import annotations

import pytest

from keyposs_trt.video import pipeline as module


@pytest.fixture
def opens(monkeypatch):
    """Sources by name: what ``open_source`` gives, or raises."""
    table: dict[str, object] = {}

    def open_source(source, report=None):
        found = table[source.name]
        if isinstance(found, Exception):
            raise found
        return found(report) if callable(found) else found

    monkeypatch.setattr(module, "open_source", open_source)
    return table
