"""What must hold of the files themselves."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import keyposs_trt

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
# Brackets keep these patterns from finding themselves.
LOCAL_PATH = re.compile(rb"/(?:home|root|work|Users|farm)/(?!someone\b)\w|[A-Z]:\\\\?Users")
REGISTRY = re.compile(rb"[p]ypi\.org|[p]ythonhosted|[r]egistry\.npmjs|[d]eb\.debian|[p]ypi\.nvidia|--[i]ndex-url|--[f]ind-links")
LARGEST = 3_000_000


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """Files of the repository: tracked, and new ones that git does not ignore."""
    try:
        listed = subprocess.run(
            ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True, check=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("git, or its record of the files, is not here")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_the_list_of_files_is_not_empty(files):
    assert ROOT / "pyproject.toml" in files
    assert len(files) > 50


def test_no_path_of_a_developers_machine_and_no_registry_host(files):
    found = [
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in files
        for match in (pattern.search(path.read_bytes()) for pattern in (LOCAL_PATH, REGISTRY))
        if match
    ]
    assert found == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (LOCAL_PATH, b"see /ho" + b"me/anna/x"),
        (LOCAL_PATH, b"'/wo" + b"rk/main'"),
        (REGISTRY, b"https://py" + b"pi.org/simple"),
        (REGISTRY, b"files.python" + b"hosted.org"),
    ],
)
def test_the_patterns_find_what_they_should(pattern, text):
    assert pattern.search(text)


def test_no_large_file(files):
    assert [str(p.relative_to(ROOT)) for p in files if p.stat().st_size > LARGEST] == []


def test_no_half_written_or_generated_file(files):
    unwanted = {".ckpt", ".pt", ".pth", ".pkl", ".plan", ".engine", ".so", ".o", ".whl", ".tmp", ".orig", ".rej"}
    assert [str(p.relative_to(ROOT)) for p in files if p.suffix in unwanted] == []


def test_licence_and_notice():
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()
    notice = (ROOT / "NOTICE").read_text()
    for shipped in ("BlazeFace", "NASA", "ICT-FaceKit", "Civil Services", "MediaPipe face mesh", "MobileNetV2"):
        assert shipped in notice
    for path in re.findall(r"\((\w+/[\w/.]+)[,)]", notice):
        assert (ROOT / path).exists()


def test_one_version_everywhere():
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert keyposs_trt.__version__ == stated
    assert version("keyposs-trt") == stated, "the installed package is old: install it again"
    assert f"## [{stated}]" in (ROOT / "CHANGELOG.md").read_text()


def test_pins_are_dependencies_and_within_their_ranges():
    """Each pin of constraints.txt is a direct dependency, and one that pyproject.toml allows."""
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    allowed = {(r := requirements.Requirement(line)).name: r.specifier for line in listed}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = requirements.Requirement(line)
            (exact,) = pin.specifier
            assert exact.operator == "=="
            assert exact.version in allowed[pin.name], f"{pin.name} {exact.version} is not allowed by pyproject.toml"


def test_files_named_in_the_makefile_exist():
    named = re.findall(r"(?:scripts|benchmarks|examples)/[\w./]+", (ROOT / "Makefile").read_text())
    assert len(named) >= 3
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_ci_runs_make_test():
    script = ROOT / ".ci/run"
    assert "make test" in script.read_text()
    assert script.stat().st_mode & 0o100, "git must record .ci/run as executable"
