"""``keyposs-trt doctor``: what this machine has and what to do about what is missing."""

from __future__ import annotations

import argparse
import sys

HELP = "say what this machine has for the toolkit, and what to do about what is missing"

_MANUAL = """\
Each line is one part of the machine:
  ok         it is there; the shipped model and detector were run once
  missing    it is not, and landmarks cannot be found on the CPU without it
  optional   it is not, or not as it could be, and need not be

On a Jetson there are lines of the board too: JetPack, power mode, clocks, heat, memory, TensorRT, cameras. Nothing is installed or changed.

exit code: 0 if landmarks can be found on the CPU, 1 if a part for that is missing
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``doctor``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _MANUAL
    parser.add_argument("--json", action="store_true", help="print JSON: cpu_path_works, and parts with part, state, found, remedy")


def run(args: argparse.Namespace) -> int:
    """Prints the findings."""
    from keyposs_trt.doctor import OK, cpu_path_works, diagnose, to_json

    findings = diagnose()
    works = cpu_path_works(findings)
    if args.json:
        sys.stdout.write(to_json(findings))
        return 0 if works else 1
    for f in findings:
        sys.stdout.write(f"{f.state:<9} {f.part:<15} {f.found}\n")
        if f.state != OK and f.remedy:
            sys.stdout.write(f"{'':<25} -> {f.remedy}\n")
    verdict = "Landmarks can be found on this machine's CPU." if works else "Parts for the CPU path are missing: see the lines above."
    sys.stdout.write(f"\n{verdict}\n")
    return 0 if works else 1
