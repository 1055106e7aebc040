"""What stands in deploy/: the unit for systemd, its example of settings, the Dockerfiles; and what docs/jetson.md says of them."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jetson_trees import machine, orin_nano

from keyposs_trt.cli.main import build_parser
from keyposs_trt.findings import OK
from keyposs_trt.jetson import diagnosis
from keyposs_trt.video.web import parse_address

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs/jetson.md").read_text()
DOCKERFILES = sorted(DEPLOY.glob("Dockerfile.*"))


def read_unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """Sections, keys, and every value of a key in order."""
    sections: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
            continue
        key, equals, value = line.partition("=")
        assert equals, f"{path.name}: {line}"
        section.setdefault(key, []).append(value)
    return sections


def read_settings() -> dict[str, str]:
    lines = (DEPLOY / "keyposs-trt.env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def service() -> dict[str, list[str]]:
    return read_unit(DEPLOY / "keyposs-trt.service")["Service"]


def test_no_key_of_the_unit_is_set_twice_but_lists(service):
    assert {key for key, values in service.items() if len(values) > 1} == {"DeviceAllow"}


def test_the_unit_never_gives_up_but_on_mistakes(service):
    unit = read_unit(DEPLOY / "keyposs-trt.service")
    assert service["Restart"] == ["always"]
    assert float(service["RestartSec"][0]) >= 1
    assert unit["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert service["RestartPreventExitStatus"] == ["2"], "the exit code of UsageError"
    assert unit["Install"]["WantedBy"] == ["multi-user.target"]


def test_the_unit_stops_politely(service):
    assert service["KillSignal"] == ["SIGTERM"]
    assert int(service["TimeoutStopSec"][0]) >= 10, "time to finish a video file"


def test_the_unit_hears_the_words_that_the_program_says(service):
    """Of keyposs_trt/video/notify.py, which speaks from the main process."""
    assert service["Type"] == ["notify"]
    assert service["NotifyAccess"] == ["main"]
    assert int(service["WatchdogSec"][0]) >= 10


def test_the_unit_is_no_root_and_sees_cameras_and_gpu(service):
    assert service["User"] == service["Group"] == ["keyposs-trt"]
    assert set(service["SupplementaryGroups"][0].split()) == {"video", "render"}
    assert service["DevicePolicy"] == ["closed"]
    allowed = [value.split()[0] for value in service["DeviceAllow"]]
    assert {"char-video4linux", "char-drm", "char-nv*", "/dev/nvmap"} <= set(allowed)
    assert "PrivateDevices" not in service
    for key, value in (("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("ProtectHome", "yes"), ("CapabilityBoundingSet", "")):
        assert service[key] == [value]


def test_a_csi_camera_is_reached_through_tmp(service):
    assert service["PrivateTmp"] == ["no"]
    assert "DynamicUser" not in service, "it implies PrivateTmp"


def test_the_unit_writes_where_it_may(service):
    assert service["WorkingDirectory"] == [f"/var/lib/{service['StateDirectory'][0]}"]
    variables = dict(pair.split("=", 1) for pair in service["Environment"][0].split())
    assert variables["XDG_CACHE_HOME"] == f"/var/cache/{service['CacheDirectory'][0]}"
    assert variables["TMPDIR"] == f"/run/{service['RuntimeDirectory'][0]}"


def test_the_example_sets_what_the_unit_uses(service):
    command = service["ExecStart"][0]
    assert set(re.findall(r"\$(\w+)", command)) == set(read_settings())
    assert "${" not in command, "a name in braces is one argument, however many words it has"
    assert service["EnvironmentFile"] == ["/etc/keyposs-trt/keyposs-trt.env"]


def test_systemd_accepts_the_unit(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", (DEPLOY / "keyposs-trt.service").read_text(), flags=re.MULTILINE)
    unit = tmp_path / "keyposs-trt.service"
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "keyposs-trt" in line]
    assert (done.returncode, ours) == (0, [])
    unit.write_text(text.replace("Restart=always", "Restart=perhaps"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert "perhaps" in done.stderr, "it would say what is wrong"


def test_the_back_off_is_for_newer_systemds_alone():
    service = read_unit(DEPLOY / "keyposs-trt.service.d/back-off.conf")["Service"]
    assert service == {"RestartSteps": ["6"], "RestartMaxDelaySec": ["120"]}
    assert "RestartSteps" not in (DEPLOY / "keyposs-trt.service").read_text()


def read_dockerfile(path: Path) -> list[tuple[str, str]]:
    """Instructions with their lines joined, comments left out."""
    text = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return [(name.upper(), rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


@pytest.fixture(params=DOCKERFILES, ids=lambda p: p.name)
def dockerfile(request: pytest.FixtureRequest) -> list[tuple[str, str]]:
    return read_dockerfile(request.param)


def stages(dockerfile: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, rest in dockerfile:
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, rest))
    return found


def test_there_are_dockerfiles():
    assert [path.name for path in DOCKERFILES] == ["Dockerfile.cpu", "Dockerfile.jetson"]


def test_instructions_are_known(dockerfile):
    known = {
        "ARG",
        "FROM",
        "SHELL",
        "RUN",
        "WORKDIR",
        "COPY",
        "ENV",
        "VOLUME",
        "USER",
        "STOPSIGNAL",
        "EXPOSE",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    }
    assert {name for name, _ in dockerfile} <= known


def test_base_images_have_a_tag(dockerfile):
    defaults = dict(rest.split("=", 1) for name, rest in dockerfile if name == "ARG" and "=" in rest)
    for name, rest in dockerfile:
        if name == "FROM":
            image = re.sub(r"\$\{(\w+)\}", lambda m: defaults[m[1]], rest.split()[0])
            assert re.search(r":(?!latest$)[\w.-]+$", image), image


def test_the_last_stage_has_a_user_a_health_check_and_no_compiler(dockerfile):
    last = stages(dockerfile)[-1]
    names = [name for name, _ in last]
    user = dict(last)["USER"]
    assert int(user.split(":")[0]) > 0
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    assert "/health'" in dict(last)["HEALTHCHECK"]
    assert dict(last)["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(dict(last)["ENTRYPOINT"]) == ["keyposs-trt"]
    assert json.loads(dict(last)["CMD"])[0] == "run"
    assert not re.search(r"\b(cmake|g\+\+|gcc)\b", " ".join(rest for name, rest in last if name == "RUN"))
    assert f"--uid {user}" in " ".join(rest for name, rest in last if name == "RUN")


def test_no_cache_is_left(dockerfile):
    for name, rest in dockerfile:
        if name == "RUN" and "apt-get" in rest:
            assert rest.startswith("apt-get update &&")
            assert "rm -rf /var/lib/apt/lists/*" in rest
            assert rest.count("apt-get install") == rest.count("--no-install-recommends") == 1
        if name == "RUN":
            assert rest.count("pip install") == rest.count("--no-cache-dir")
            assert "sudo" not in rest


def ignored(path: str) -> bool:
    """Docker's rule: the last pattern that fits decides, and a pattern for a folder is one for what is in it."""
    result = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        anywhere = line.removeprefix("!").startswith("**/")
        parts = path.split("/")
        heads = ["/".join(parts[: i + 1]) for i in range(len(parts))] + (parts if anywhere else [])
        if any(fnmatch.fnmatchcase(head, pattern) for head in heads):
            result = not line.startswith("!")
    return result


def test_what_is_copied_is_there_and_goes_to_the_builder(dockerfile):
    sources = [s for name, rest in dockerfile if name == "COPY" and "--from" not in rest for s in rest.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert not ignored(source)


def test_everything_else_stays_outside_the_builder():
    for path in (".git/config", ".venv/bin/python", "demo/a.jpg", "docs/jetson.md", "tests/test_deploy.py", "engines/a.plan", "deploy/x"):
        assert ignored(path)
    assert ignored("keyposs_trt/__pycache__/doctor.cpython-312.pyc")
    assert not ignored("keyposs_trt/models/face68-32.onnx")


def test_the_package_can_be_built_from_what_is_copied(dockerfile):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {"pyproject.toml", "CMakeLists.txt", "cmake", project["project"]["readme"], *project["project"]["license-files"]}
    needed |= set(project["tool"]["scikit-build"]["wheel"]["packages"].values())
    copied = {s for name, rest in dockerfile if name == "COPY" and "--from" not in rest for s in rest.split()[:-1]}
    assert needed <= copied


def test_the_jetson_image_sees_tensorrt_and_fits_its_driver():
    text = (DEPLOY / "Dockerfile.jetson").read_text()
    assert "venv --system-site-packages" in text
    arguments = dict(rest.split("=", 1) for name, rest in read_dockerfile(DEPLOY / "Dockerfile.jetson") if name == "ARG")
    assert arguments["BINDINGS"] == "cuda-bindings>=12.6,<13"
    assert arguments["ARCHITECTURE"] == "87"
    assert "not built or run by us yet" in text


def test_the_jetson_image_has_what_runs_and_builds_engines():
    """The extras of the page's own commands, and cuda-bindings of the driver beside them."""
    runs = " ".join(rest for name, rest in read_dockerfile(DEPLOY / "Dockerfile.jetson") if name == "RUN")
    extras = re.findall(r'"\.\[([\w,]+)\]" "\$\{BINDINGS\}"', runs)
    of_the_page = re.findall(r'pip install [^\n]*?\[([\w,]+)\]" "cuda-bindings', PAGE)
    assert extras == ["build,gpu"]
    assert of_the_page == ["build,gpu"] * 2


def port_of_the_health_check(dockerfile: list[tuple[str, str]]) -> int:
    last = dict(stages(dockerfile)[-1])
    ports = re.findall(r"http://127\.0\.0\.1:(\d+)/health", last["HEALTHCHECK"])
    assert ports == [last["EXPOSE"]]
    return int(ports[0])


def metrics_of(arguments: list[str]) -> tuple[str, int]:
    return parse_address(build_parser().parse_args(arguments).metrics or "no --metrics")


def examples(image: str) -> list[tuple[list[str], list[str]]]:
    """Docker's options and the program's arguments, for each ``docker run`` of ``keyposs-trt run`` in the file's head and on the page."""
    head = re.sub(r"^# ?", "", (DEPLOY / f"Dockerfile.{image}").read_text().partition("\nFROM ")[0], flags=re.MULTILINE)
    lines = [line.strip() for line in re.sub(r"\\\n\s*", " ", f"{head}\n{PAGE}").splitlines()]
    found: list[tuple[list[str], list[str]]] = []
    for words in (shlex.split(line) for line in lines if line.startswith("docker run ")):
        if f"keyposs-trt:{image}" in words:
            i = words.index(f"keyposs-trt:{image}")
            found.append((words[:i], words[i + 1 :]))
    return [(options, arguments) for options, arguments in found if arguments[0] == "run"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_examples_serve_what_the_health_check_asks(path):
    port = port_of_the_health_check(read_dockerfile(path))
    runs = examples(path.suffix[1:])
    assert runs
    for options, arguments in runs:
        host = "--network host" in " ".join(options)
        assert metrics_of(arguments) == ("127.0.0.1" if host else "0.0.0.0", port)
        assert host or options[options.index("-p") + 1] == f"127.0.0.1:{port}:{port}"


def test_an_image_that_runs_by_itself_can_be_asked_from_outside(dockerfile):
    arguments = json.loads(dict(stages(dockerfile)[-1])["CMD"])
    if "--help" not in arguments:
        assert metrics_of(arguments) == ("0.0.0.0", port_of_the_health_check(dockerfile))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_hadolint_finds_nothing(path):
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed, or not on PATH: make test puts it there")
    done = subprocess.run(["hadolint", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_links_of_the_page_lead_somewhere():
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]+))?\)", PAGE)
    assert len(links) > 5
    assert [link for link, _ in links if link and not (ROOT / "docs" / link).exists()] == []
    titles = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)}
    assert [anchor for link, anchor in links if not link and anchor not in titles] == []


def test_the_page_shows_what_doctor_says(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnosis, "_bindings_version", lambda: "")
    for f in diagnosis.diagnose(machine(tmp_path, orin_nano())):
        text = f"{f.state:<9} {f.part:<15} {f.found}\n".replace(str(tmp_path), "")
        if f.state != OK:
            text += f"{'':<25} -> {f.remedy}\n".replace(str(tmp_path), "")
        assert text in PAGE


COMMANDS = [line for line in re.sub(r"\\\n\s*", " ", PAGE).splitlines() if line.startswith("keyposs-trt ")]


def test_the_page_has_commands():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_page_are_good_usage(command):
    assert callable(build_parser().parse_args(shlex.split(command, comments=True)[1:]).run)


def test_settings_and_images_start_with_good_usage():
    settings = read_settings()
    lines = [["run", *shlex.split(settings["KEYPOSS_SOURCES"]), *shlex.split(settings["KEYPOSS_OPTIONS"])]]
    lines += [json.loads(rest) for path in DOCKERFILES for name, rest in read_dockerfile(path) if name == "CMD"]
    for arguments in lines:
        if "--help" not in arguments:
            assert callable(build_parser().parse_args(arguments).run)


@pytest.mark.parametrize(
    "words",
    [
        "has no IPluginV3",
        "is too old",
        "the NVIDIA driver does not start",
        "was built with",
        "Running an engine needs cuda-python",
        "is newer than the driver, which runs CUDA",
        "CUDA failed in",
        "cannot make an execution context for",
    ],
)
def test_sentences_in_the_table_of_errors_are_ours(words):
    sources = "".join(path.read_text() for folder in ("engine", "jetson") for path in (ROOT / "keyposs_trt" / folder).glob("*.py"))
    assert words in PAGE
    assert words in re.sub(r'"\s*\n\s*f?"', "", sources)


def test_calls_in_the_table_of_errors_are_ours():
    named = re.findall(r"CUDA failed in (\w+)", PAGE)
    calls = re.findall(r'_(?:made|call)\("(\w+)"', (ROOT / "keyposs_trt/engine/cuda_device.py").read_text())
    assert len(named) >= 2
    assert set(named) <= set(calls)
