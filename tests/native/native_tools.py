"""What the native tests share: commands, folders, what CMake built."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "plugins/multilateration"


class Build(NamedTuple):
    folder: Path  # of CMake's products for plugins/multilateration
    log: str

    @property
    def library(self) -> Path:
        return self.folder / "libkeyposs_multilateration_plugin.so"

    @property
    def harness(self) -> Path:
        return self.folder / "keyposs_multilateration_harness"


def run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def first_with(file: str, folders: list[str | Path | None]) -> Path | None:
    return next((Path(folder) for folder in folders if folder and (Path(folder) / file).is_file()), None)


def gpu_architecture() -> str | None:
    """``86`` for a GPU of compute capability 8.6; None where there is no GPU."""
    try:
        asked = run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"])
    except OSError:
        return None
    return asked.stdout.split()[0].replace(".", "") if asked.returncode == 0 and asked.stdout.strip() else None
