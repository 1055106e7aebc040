"""Where the libraries that CMake builds are."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from keyposs_trt.errors import BackendError

_PACKAGE = Path(__file__).resolve().parent.parent


def find_native_library(file: str, variable: str) -> Path | None:
    """The library: what the environment variable names, or else that of the installed package, or the newest in the folder ``build`` of a
    checkout; None where there is none.

    Args:
        file: its name, such as ``libkeyposs_preprocess.so``.
        variable: of the environment.

    Raises:
        BackendError: the variable names a file that is not there.
    """
    named = os.environ.get(variable)
    if named:
        if not Path(named).is_file():
            raise BackendError(f"{variable} names '{named}', and there is no such file; correct it, or unset it.")
        return Path(named)
    # An editable install leaves the package's Python files in the checkout, and puts what was compiled where packages are installed.
    for package in (_PACKAGE, Path(sysconfig.get_path("platlib")) / _PACKAGE.name):
        if (package / "lib" / file).is_file():
            return package / "lib" / file
    checkout = _PACKAGE.parent
    if not (checkout / "CMakeLists.txt").is_file():
        return None
    return max((checkout / "build").rglob(file), key=lambda p: p.stat().st_mtime, default=None)
