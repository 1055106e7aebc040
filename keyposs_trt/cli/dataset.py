"""``keyposs-trt dataset``: what an annotated data set holds, what is wrong with it, and how its faces look."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyposs_trt.cli.output import write_text
from keyposs_trt.errors import DataError, InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from keyposs_trt.datasets import Dataset, Face

HELP = "say what an annotated data set holds, and draw a sheet of its faces"

_MANUAL = """\
PATH is the folder of WFLW, 300W, COFW, AFLW, COCO-WholeBody-Face or LaPa as they
are published, a folder in it, one annotation file, JSON in mmpose's layout, a folder
of views that keyposs-trt train rendered, or of portraits with a teacher's points.
docs/datasets.md says how the folders must look.

Every annotation is checked. Those that cannot be used (a missing image, a truncated
line, a wrong number of points, a value that is no number, a point far outside the
image, a duplicate) are counted by kind; --json lists them all.

exit code: 0 if there are faces that can be used; 1 if there are none, or problems are
           refused; 2 if the command makes no sense
"""

_SHOWN = 5  # problems in full


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``dataset``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _MANUAL
    add = parser.add_argument
    add("path", metavar="PATH", help="the data set's folder, or an annotation file")
    add("--format", metavar="F", help="wflw, 300w, cofw, aflw, coco-wholebody-face, lapa, mmpose, views or teacher (default: found out)")
    add("--scheme", metavar="S", help="give the points in this landmark scheme (default: the data set's own)")
    add("--split", metavar="S", help="one part alone, such as train or test (default: all)")
    add("--sheet", metavar="FILE", help="draw annotated crops of faces taken evenly from all: .png, .jpg, ...")
    add("--sheet-faces", metavar="N", type=_count, default=48, help="faces on the sheet (default: 48)")
    add("--json", metavar="FILE|-", help="write what was found as JSON; - is standard output, and nothing else is printed there")
    add("--on-problem", choices=("skip", "refuse"), default="skip", help="leave out what cannot be used, or fail (default: skip)")


def run(args: argparse.Namespace) -> int:
    """Reads, prints, draws."""
    from keyposs_trt.datasets import open_dataset
    from keyposs_trt.datasets.summary import summarise

    _check_outputs(args)
    dataset = open_dataset(args.path, args.format, args.scheme, args.split, args.on_problem)
    found = summarise(dataset)
    if args.sheet:
        found["sheet"] = {"file": args.sheet, **_draw(dataset, args.sheet, args.sheet_faces)}
    if args.json:
        write_text(json.dumps(found, indent=2) + "\n", args.json)
    if args.json != "-":
        for line in _lines(found):
            sys.stdout.write(line + "\n")
    return 0


def _check_outputs(args: argparse.Namespace) -> None:
    """Refuses outputs that cannot be, before minutes of reading."""
    from keyposs_trt.images import WRITABLE_SUFFIXES

    if args.sheet and Path(args.sheet).suffix.lower() not in WRITABLE_SUFFIXES:
        raise UsageError(f"--sheet cannot write '{args.sheet}': sheets are {', '.join(sorted(WRITABLE_SUFFIXES))}; choose one of these.")
    outputs = [Path(p).resolve() for p in (args.sheet, args.json) if p and p != "-"]
    if Path(args.path).resolve() in outputs:
        raise UsageError(f"'{args.path}' is both the data set and an output; give another file.")
    if len(set(outputs)) != len(outputs):
        raise UsageError(f"'{args.json}' is the output of both --sheet and --json; give two names.")


def _draw(dataset: Dataset, path: str, number: int) -> dict[str, Any]:
    """Draws the sheet; the faces on it, and the images that could not be read after all."""
    import numpy as np

    from keyposs_trt.contact_sheet import contact_sheet
    from keyposs_trt.images import write_image

    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(number, len(dataset))).round().astype(int))
    tiles: list[NDArray[np.uint8]] = []
    damaged: list[str] = []
    for face in (dataset.faces[i] for i in chosen.tolist()):
        try:
            tiles.append(_tile(face, dataset.scheme))
        except (InputError, DataError) as e:
            damaged.append(f"{face.where}: {e}")
    if not tiles:
        raise DataError(f"None of the {len(damaged)} images for the sheet can be read; the first: {damaged[0]}")
    write_image(path, contact_sheet(tiles))
    return {"faces": len(tiles), "damaged": damaged}


def _tile(face: Face, scheme: str) -> NDArray[np.uint8]:
    import numpy as np

    from keyposs_trt.contact_sheet import draw_tile

    points = face.points if face.labelled is None else np.where(face.labelled[:, None], face.points, np.nan).astype(np.float32)
    hidden = None if face.visibility is None else ~face.visibility
    return draw_tile(face.read_image(), points, scheme, face.image_name, hidden, face.box)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    from keyposs_trt.schemes import load_scheme

    points = len(load_scheme(found["scheme"]))
    yield _line("data set", f"{found['name']} (format {found['format']}), scheme {found['scheme']}, {points} points")
    yield _line("faces", f"{found['faces']} in {found['images']} images")
    if found["subsets"]:
        yield _line("subsets", ", ".join(f"{name} {count}" for name, count in found["subsets"].items()))
    yield _line("face size", _spread(found["face_size"], "the longer side of the box around the points"))
    yield _line("image size", _spread(found["image_size"], "the longer side"))
    yield _line("boxes", f"annotated for {found['boxes']} faces" if found["boxes"] else "none annotated")
    if found["hidden_points"] is not None:
        yield _line("hidden", f"{100 * found['hidden_points']:.1f} % of the points")
    if found["unlabelled_points"]:
        yield _line("unlabelled", f"{100 * found['unlabelled_points']:.1f} % of the points")
    if found["faces_beyond_image"]:
        yield _line("beyond", f"{found['faces_beyond_image']} faces have a point outside the image, which is kept")
    if "sheet" in found:
        yield _line("sheet", f"{found['sheet']['file']}, {found['sheet']['faces']} faces")
        for text in found["sheet"]["damaged"][:_SHOWN]:
            yield _line("", text)
    yield from _problem_lines(found)


def _problem_lines(found: dict[str, Any]) -> Iterator[str]:
    problems = found["problems"]
    if not problems:
        yield _line("problems", "none")
        return
    counts = ", ".join(f"{count} {kind}" for kind, count in found["problem_counts"].items())
    yield _line("problems", f"{len(problems)} left out: {counts}")
    for problem in problems[:_SHOWN]:
        yield _line("", f"{problem['where']}: {problem['text']}")
    if len(problems) > _SHOWN:
        yield _line("", f"... and {len(problems) - _SHOWN} more; --json FILE lists all")


def _line(title: str, text: str) -> str:
    return f"{title:<12}{text}"


def _spread(values: dict[str, float], what: str) -> str:
    return f"{values['smallest']:g} to {values['largest']:g} pixels, median {values['median']:g} ({what})"


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 to 1000")
    return value
