"""``keyposs-trt inspect``: what a file is, and whether it runs here."""

from __future__ import annotations

import argparse
import json
import sys
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HELP = "say what a model, engine, manifest or checkpoint is, and whether it runs here"

_MANUAL = """\
Knows ONNX models, TensorRT plans with or without their manifest, manifests
(.plan.json), and checkpoints (.ckpt, .pt, .safetensors), told apart by content.
An ONNX model is run once on a black crop. A plan is checked against its manifest
(size, SHA-256) and against this machine (runtime version, GPU). A checkpoint is
read without running code that is in it.

exit code: 0 if the file could be explained, also where it does not run here;
           1 if it is missing, damaged or of an unknown kind
"""

_TITLES = {
    "runs_here": "runs here",
    "stored_as": "weights stored as",
    "written_by": "written by",
    "onnx_sha256": "SHA-256 of the ONNX",
    "plan_sha256": "SHA-256 of the plan",
}
_COLUMN, _WIDTH = 23, 120
_BLOCKS = ("spec", "manifest", "recipe", "metadata")  # always one line a key


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``inspect``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _MANUAL
    parser.add_argument("file", metavar="FILE", help="the file, or the short name of a shipped model such as face68-32")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the explanation."""
    from keyposs_trt.engine.inspect import inspect_file

    found = inspect_file(args.file)
    if args.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        # The verdict last, where the eye ends up.
        verdict = {key: found.pop(key) for key in ("runs_here", "reason") if key in found}
        for line in _lines({**found, **verdict}):
            sys.stdout.write(line + "\n")
    return 0


def _lines(values: dict[str, Any], indent: int = 0) -> Iterator[str]:
    """A nested dict as an indented table."""
    for key, value in values.items():
        title = " " * indent + _TITLES.get(key, key.replace("_", " "))
        if isinstance(value, dict) and (key in _BLOCKS or any(isinstance(v, dict) for v in value.values())):
            yield title
            yield from _lines(value, indent + 2)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield title
            for item in value:
                yield f"{'':<{indent + 2}}{_text(item)}"
        elif isinstance(value, dict | list):
            yield from wrap(f"{title:<{_COLUMN}}{_text(value)}", _WIDTH, subsequent_indent=" " * _COLUMN, break_long_words=False)
        else:  # texts stay whole: a path or a command is there to be copied
            yield f"{title:<{_COLUMN}}{_text(value)}"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        if set(value) == {"name", "type", "shape"}:
            return f"{value['name']}: {value['type']} [{', '.join(map(str, value['shape']))}]"
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "-"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ") if value >= 10_000 else str(value)
    return str(value)
