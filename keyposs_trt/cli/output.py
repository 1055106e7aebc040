"""What the verbs share to speak to the user: where their text goes, and the sentence for a package that is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping


_PACKAGES = {"cv2": "opencv-python", "yaml": "pyyaml", "PIL": "pillow"}  # those whose name on an index is another than the module's


def missing_package(error: ModuleNotFoundError) -> str:
    """The sentence for a package that is not installed, with the remedy."""
    package = _PACKAGES.get(error.name or "", error.name)
    return f"The Python package '{error.name}' is not installed; install it with: pip install {package}"


def write_text(text: str, target: str | os.PathLike[str]) -> None:
    """Writes a file whole or not at all; ``-`` is standard output.

    Raises:
        OutputError: the file cannot be written.
    """
    from keyposs_trt.files import atomic_path

    if target == "-":
        sys.stdout.write(text)
        return
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def distinct_outputs(
    outputs: Mapping[str, str | os.PathLike[str] | None], inputs: Mapping[str | os.PathLike[str], str]
) -> Iterator[tuple[str, Path]]:
    """The files that will be written, as they are named, by option; options without a file, and standard output, are left out.

    Args:
        outputs: option -> the file it names.
        inputs: file that is read -> what it is, such as ``a model``.

    Raises:
        UsageError: a file is an input too, or is named by two options.
    """
    taken = {Path(file).resolve(): what for file, what in inputs.items()}
    for option, name in outputs.items():
        if not name or name == "-":
            continue
        file = Path(name).resolve()
        if file in taken:
            raise UsageError(f"'{name}' of {option} is {taken[file]} too; give another file.")
        taken[file] = f"that of {option}"
        yield option, Path(name)
