"""``keyposs-trt VERB``: parses, runs the verb, and turns errors into one sentence and an exit code.

Exit codes: 0 done; 1 the job failed, was interrupted, or its reader went away; 2 the command makes no sense.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import time
import traceback
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING

from keyposs_trt import __version__
from keyposs_trt.cli.output import missing_package
from keyposs_trt.errors import KeypossError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VERBS = ("run", "dataset", "train", "eval", "export", "calibrate", "build", "compare", "bench", "inspect", "doctor")
GRACE = 2.0  # seconds in which more signals are ignored, so that an impatient second Ctrl-C does not stop the clearing up


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs; verb modules are cheap to import."""
    parser = argparse.ArgumentParser("keyposs-trt", description="Facial landmarks at the edge.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"keyposs-trt {__version__}")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        module = import_module(f"keyposs_trt.cli.{verb}")
        sub = verbs.add_parser(verb, help=module.HELP, description=_sentence(module.HELP), allow_abbrev=False)
        module.add_arguments(sub)
        # Without a default of its own, or it would undo a --debug before the verb.
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error comes from")
        sub.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
        argv: the arguments after the program's name; those of this process by default.

    Raises:
        SystemExit: from argparse, with code 2 for a usage error and 0 for ``--help`` and ``--version``.
    """
    _tolerate_names()
    args = build_parser().parse_args(argv)
    try:
        with _signals():
            code: int = args.run(args)
            sys.stdout.flush()
        return code
    except KeypossError as e:
        return _fail(f"error: {e}", e.exit_code, args.debug)
    except KeyboardInterrupt:
        return _fail("interrupted", 1, args.debug)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`). Python flushes standard output once more at exit: to nowhere.
        with suppress(OSError, ValueError):  # standard output may be no file at all
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as e:
        return _fail(f"error: {missing_package(e)}", 1, args.debug)
    except Exception as e:  # noqa: BLE001 (the last resort: users get a sentence, --debug the traceback)
        what = " ".join(str(e).split()) or "no message"
        return _fail(f"error: unexpected {type(e).__name__}: {what}; run again with --debug to see where.", 1, args.debug)


def _fail(sentence: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(sentence + "\n")
    return code


def _tolerate_names() -> None:
    r"""File names that the terminal's encoding does not know are written as ``\xe9``; JSON is ASCII and stays as it is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP act like Ctrl-C, so that files are closed; all become KeyboardInterrupt, once in ``GRACE`` seconds."""
    last = -GRACE

    def interrupt(*_: object) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= GRACE:
            last = now
            raise KeyboardInterrupt

    # A signal somebody ignores or handles already (nohup, a host program) is left alone.
    ours = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if hasattr(signal, "SIGHUP"):  # a terminal that is closed
        ours[signal.SIGHUP] = signal.SIG_DFL
    saved = {}
    try:
        for number, default in ours.items():
            if signal.getsignal(number) is default:
                saved[number] = signal.signal(number, interrupt)
    except ValueError:  # not the main thread: no handler can be set
        pass
    try:
        yield
    finally:
        for number, handler in saved.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
