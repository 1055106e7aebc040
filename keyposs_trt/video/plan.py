"""What a pipeline is given, made plain: its sources, who reads which of them, and who opens their sinks."""

from __future__ import annotations

from collections import deque
from os import PathLike, fspath
from typing import TYPE_CHECKING

from keyposs_trt.errors import UsageError
from keyposs_trt.video.contract import Source
from keyposs_trt.video.sources import expand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyposs_trt.video.contract import Sink
    from keyposs_trt.video.delivery import SinkFactory


def sources_of(source: str | PathLike[str] | Source | Sequence[str | PathLike[str] | Source]) -> list[Source]:
    """Names stand for what they expand to, each source once; ready ``Source`` objects are taken as they are.

    Raises:
        UsageError: there is none, or one that makes no sense.
        InputError: a source of that name is not there.
    """
    several = [source] if isinstance(source, (str, PathLike, Source)) else list(source)
    if not several:
        raise UsageError("There is no source; give at least one.")
    found: list[Source] = []
    seen: set[Source] = set()
    for one in several:
        new = [one] if isinstance(one, Source) else [s for s in expand(fspath(one)) if s not in seen]
        found += new
        seen.update(new)
    return found


def feeds_of(sources: Sequence[Source], at_once: int) -> list[deque[tuple[int, Source]]]:
    """The sources of each lane, with their numbers: a lane for each that may never end, one for all pictures, and a few, ``at_once`` at
    most, that share the videos."""
    numbered = list(enumerate(sources))
    pictures = deque(n for n in numbered if n[1].kind == "image")
    videos = deque(n for n in numbered if n[1].kind == "video")
    endless = [deque([n]) for n in numbered if n[1].kind not in ("image", "video")]
    return [*endless, *[pictures] * bool(pictures), *[videos] * min(len(videos), at_once)]


def no_sinks(*_: object) -> Sequence[Sink]:
    """The sinks of a source whose results nobody writes."""
    return ()


def sink_factory(sink: Sink | SinkFactory | None, sources: int) -> SinkFactory:
    """Opens the sinks of a source, whatever a pipeline was given for that.

    Raises:
        UsageError: one sink for several sources.
    """
    if sink is None:
        return no_sinks
    if callable(sink):
        return sink
    if sources > 1:
        raise UsageError(f"One sink cannot take {sources} sources; give a function that opens the sinks of each.")
    return lambda *_: (sink,)
