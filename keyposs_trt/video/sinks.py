"""Names of the files that results go to: they cannot clash with each other, nor hit a source."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from keyposs_trt.errors import OutputError, UsageError
from keyposs_trt.files import file_mode, is_special, replaced_by, temporary_beside
from keyposs_trt.images import IMAGE_SUFFIXES, WRITABLE_SUFFIXES
from keyposs_trt.video.sources import VIDEO_SUFFIXES
from keyposs_trt.video.video_writer import CODECS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from keyposs_trt.video.contract import Source

_LONGEST = 80  # characters of a name made of an address


def plan_outputs(sources: Sequence[Source], out: str) -> list[Path]:
    """A picture or video file to write for each source.

    One source may name its file; otherwise ``out`` is a folder, which is made. Names are those of the sources, as far as their
    format can be written (else .png or .mp4); a second ``face.jpg`` becomes ``face-2.jpg``.

    Raises:
        UsageError: ``out`` is a file where a folder is needed, has a suffix that cannot be written, or an input would be overwritten.
        OutputError: the folder cannot be made, or a folder, FIFO or device has the name of a file.
    """
    target, mode = Path(out), file_mode(out)
    suffix = target.suffix.lower()
    is_file_name = suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not stat.S_ISDIR(mode) and not out.endswith("/")
    if is_file_name and len(sources) > 1:
        raise UsageError(f"'{out}' names one file, but there are {len(sources)} sources; give a folder.")
    if stat.S_ISREG(mode) and not is_file_name:
        raise UsageError(f"'{out}' is a file of no known picture or video format; give a folder, or a name such as out.jpg or out.mp4.")
    if not mode and re.fullmatch(r"\.[a-z]{1,5}", suffix) and not is_file_name and not out.endswith("/"):
        known = ", ".join(sorted(WRITABLE_SUFFIXES | set(CODECS)))
        raise UsageError(f"'{out}' is of no known picture or video format; there are {known}, and '{out}/' is a folder.")
    if is_file_name:
        wanted = sorted(WRITABLE_SUFFIXES if sources[0].kind == "image" else CODECS)
        if suffix not in wanted:
            raise UsageError(
                f"Cannot write '{out}' from the {sources[0].kind} '{sources[0].name}'; the name may end in {', '.join(wanted)}."
            )
        plan = [target]
    else:
        plan = _names_in(target, sources, _picture_suffix)
    _check(plan, sources, f"-o '{out}'")
    return plan


def plan_records(sources: Sequence[Source], folder: str) -> list[Path]:
    """A file of JSON lines in a folder for each source, named as ``plan_outputs`` does; the folder is made.

    Raises:
        UsageError: an input would be overwritten.
        OutputError: the folder cannot be made, or a folder, FIFO or device has the name of a file.
    """
    plan = _names_in(Path(folder), sources, lambda _: ".jsonl")
    _check(plan, sources, f"--json '{folder}'")
    return plan


def names_folder(target: str) -> bool:
    """Whether JSON lines for this name go into a folder: it is one, or ends in ``/``."""
    return target.endswith("/") or stat.S_ISDIR(file_mode(target))


def check_record_file(
    target: str, sources: Sequence[Source], others: Sequence[Path], option: str = "--json", also: str = "both -o and --json"
) -> None:
    """Makes sure that a file of JSON hits neither a source nor another output; ``option`` names it, ``also`` names what both are.

    Raises:
        UsageError: it does.
    """
    path = Path(target)
    if is_special(path):
        return
    if (name := _files_of(sources).get(_identity(path))) is not None:
        raise UsageError(f"{option} would overwrite the source '{name}'; give another file.")
    if _identity(path) in {_identity(other) for other in others}:
        raise UsageError(f"'{target}' is the output of {also}; give two names.")


def stem_of(source: Source) -> str:
    """A name for the results of a source: safe in a file system, and without the user, the password and the query of an address.

    ``rtsp://user:secret@cam1/stream?x=1`` becomes ``rtsp-cam1-stream``, camera 0 ``camera0``, ``clips/walk.mp4`` ``walk``.
    """
    scheme, is_address, rest = source.name.partition("://")
    if is_address and source.kind not in ("image", "video"):
        # From the last @ on: no part of a password is left, whatever signs are in it.
        place = re.split(r"[?#]", rest.rpartition("@")[2], maxsplit=1)[0].strip("/")
        host, slash, path = place.partition("/")
        name = f"{scheme}-{host}{slash}{re.sub(r'[.][A-Za-z0-9]{1,5}$', '', path)}"
        return re.sub(r"[^A-Za-z0-9._]+", "-", name)[:_LONGEST].strip("-.") or source.kind
    name = Path(source.name)
    if source.kind in ("image", "video"):
        return name.stem
    tail = re.sub(r"[^A-Za-z0-9._]+", "-", name.name).strip("-.")
    return tail if tail.startswith(source.kind) else f"{source.kind}{tail}"


def _names_in(folder: Path, sources: Sequence[Source], suffix_of: Callable[[Source], str]) -> list[Path]:
    taken: set[str] = set()
    plan = []
    for source in sources:
        stem, suffix = stem_of(source), suffix_of(source)
        free, n = stem + suffix, 1
        while free.lower() in taken:  # case does not tell names apart on every file system
            n += 1
            free = f"{stem}-{n}{suffix}"
        taken.add(free.lower())
        plan.append(folder / free)
    return plan


def _picture_suffix(source: Source) -> str:
    own = Path(source.name).suffix
    if source.kind == "image":
        return own if own.lower() in WRITABLE_SUFFIXES else ".png"
    return own if source.kind == "video" and own.lower() in CODECS else ".mp4"


def _check(plan: Sequence[Path], sources: Sequence[Source], what: str) -> None:
    inputs = _files_of(sources)
    for path in plan:
        if (name := inputs.get(_identity(path))) is not None:
            raise UsageError(f"The result would overwrite the source '{name}'; give another file or folder than {what}.")
    _make_folder(plan[0].parent)
    for path in plan:
        replaced_by(path)


def _files_of(sources: Sequence[Source]) -> dict[object, str]:
    return {_identity(Path(s.name)): s.name for s in sources if s.kind in ("image", "video")}


def _identity(path: Path) -> object:
    """Equal for two names of one file."""
    try:
        stat = path.stat()
    except OSError:
        return path.resolve()
    return stat.st_dev, stat.st_ino


def _make_folder(folder: Path) -> None:
    """Fails now rather than after the work: makes the folder and writes a byte in it."""
    for place in (folder, *folder.parents):
        if (mode := file_mode(place)) and not stat.S_ISDIR(mode):
            raise OutputError(f"Cannot write to folder '{folder}': '{place}' is a file, no folder; give another path.")
    probe = temporary_beside(folder / "probe")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"0")
    except OSError as e:
        raise OutputError(f"Cannot write to folder '{folder}': {e.strerror or e}; choose a folder you may write to, with room left.") from e
    finally:
        if stat.S_ISDIR(file_mode(folder)):
            probe.unlink(missing_ok=True)
