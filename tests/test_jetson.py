from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jetson_trees import GSTREAMER, Tree, agx_orin, machine, orin_nano, thor, xavier

from keyposs_trt.findings import OK, OPTIONAL, Finding
from keyposs_trt.jetson import Machine, describe_release, diagnose, read_board
from keyposs_trt.jetson import diagnosis as diagnosis_module
from keyposs_trt.jetson.board import Board
from keyposs_trt.jetson.diagnosis import bounded
from keyposs_trt.jetson.machine import ask_program
from keyposs_trt.jetson.power import parse_nvpmodel, power_finding, read_power_mode
from keyposs_trt.jetson.software import bindings_finding, tensorrt_finding

BOARDS = {"orin_nano": orin_nano, "agx_orin": agx_orin, "thor": thor, "xavier": xavier}


@pytest.fixture(autouse=True)
def without_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis_module, "_bindings_version", lambda: "")


def found(root: Path, tree: Tree, **other: object) -> dict[str, Finding]:
    return {f.part: f for f in diagnose(machine(root, tree, **other))}


@pytest.mark.parametrize("name", BOARDS)
def test_every_line_has_a_remedy_where_something_is_wrong_and_fits_the_table(name, tmp_path):
    findings = diagnose(machine(tmp_path, BOARDS[name]()))
    parts = ["Jetson", "JetPack", "Power mode", "Clocks", "Throttling", "Shared memory", "Camera plugins", "Device rights", "Cameras"]
    assert [f.part for f in findings] == parts + ["System TensorRT"] * (name != "xavier"), "what engines need counts where they can run"
    for f in findings:
        assert f.state in (OK, OPTIONAL)
        assert bool(f.remedy) == (f.state != OK)
        assert f.found
        assert "\n" not in f.found + f.remedy
        assert len(f.part) <= 15


def test_other_machines_have_no_lines(tmp_path):
    assert diagnose(Machine(root=tmp_path)) == []
    pi = Tree({"proc/device-tree/model": b"Raspberry Pi 5\0", "proc/device-tree/compatible": b"raspberrypi,5-model-b\0brcm,bcm2712\0"})
    assert diagnose(machine(tmp_path, pi)) == []


def test_orin_nano(tmp_path):
    f = found(tmp_path, orin_nano())
    assert f["Jetson"].found == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super (tegra234, GPU sm_87)"
    assert f["JetPack"] == Finding("JetPack", OK, "6.2 (Jetson Linux 36.4.3)")
    assert f["Power mode"].found == "25W, mode 1; others: 0 15W, 2 MAXN_SUPER, 3 7W (sudo nvpmodel -m NUMBER)"
    assert f["Clocks"].state == OPTIONAL
    assert f["Clocks"].found == "follow the load: CPU 730 to 1344 MHz, GPU 306 to 918 MHz"
    assert "sudo jetson_clocks" in f["Clocks"].remedy
    assert f["Throttling"] == Finding("Throttling", OK, "none; hottest: tj-thermal 51 °C")
    assert (
        f["Shared memory"].found == "5.4 of 7.4 GiB free, swap 3.7 GiB, in compressed memory alone (zram), contiguous 253 of 256 MiB free"
    )
    assert f["Camera plugins"].found == "gst-launch-1.0, gdppay, rtspsrc, nvarguscamerasrc, nvv4l2decoder, nvvidconv"
    assert f["Device rights"].found == "in the groups video, render"
    assert f["Cameras"].found == "/dev/video0 vi-output, imx219 9-0010"


def test_agx_orin_under_jetson_clocks(tmp_path):
    f = found(tmp_path, agx_orin())
    assert f["JetPack"].found == "6.1 (Jetson Linux 36.4.0)"
    assert f["Power mode"].found.startswith("MAXN, mode 0;")
    assert f["Clocks"] == Finding("Clocks", OK, "held by jetson_clocks: CPU 2202 MHz, GPU 1300 MHz")
    assert f["Cameras"].found == "/dev/video0 HD Pro Webcam C920, /dev/video2, /dev/video10"


def test_one_part_that_follows_the_load_is_enough(tmp_path):
    tree = agx_orin()
    tree.files["sys/devices/system/cpu/cpu7/cpufreq/scaling_min_freq"] = "729600\n"
    assert found(tmp_path, tree)["Clocks"].found == "follow the load: CPU 730 to 2202 MHz, GPU 1300 MHz"


def test_thor(tmp_path):
    f = found(tmp_path, thor(), python=(3, 12))
    assert f["Jetson"].found.endswith("(tegra264, GPU sm_110)")
    assert f["JetPack"] == Finding("JetPack", OK, "7.2 (Jetson Linux 39.2.0)")
    assert f["Clocks"].found == "follow the load: CPU 972 to 2601 MHz, GPU 315 to 1692 MHz"
    assert f["Throttling"].found.startswith("over-current or under-voltage events since the start: oc3 1; hottest: gpu-thermal")
    assert f["Shared memory"].found.endswith("swap 8.0 GiB, contiguous 253 of 256 MiB free")
    assert "nvarguscamerasrc" in f["Camera plugins"].found
    assert f["Camera plugins"].remedy.endswith(" nvidia-l4t-camera nvidia-l4t-gstreamer")
    assert f["Cameras"].state == OPTIONAL


def test_xavier_is_not_supported_and_says_why(tmp_path):
    jetpack = found(tmp_path, xavier())["JetPack"]
    assert jetpack.state == OPTIONAL
    assert jetpack.found == (
        "JetPack 5.1.2 (Jetson Linux 35.4.1) is not supported: TensorRT 8.5 has no IPluginV3, and engines need TensorRT 10.3 or newer"
    )
    assert "no newer one than JetPack 5" in jetpack.remedy
    assert "CPU" in jetpack.remedy


@pytest.mark.parametrize(
    ("release", "package", "state", "words"),
    [
        ("36 (release), REVISION: 3.0", "6.0+b106", OPTIONAL, "JetPack 6.0 (Jetson Linux 36.3.0) is not supported: TensorRT 8.6"),
        ("36 (release), REVISION: 4.0", "6.1+b123", OK, "6.1"),
        ("36 (release), REVISION: 5.0", "6.2.2+b24", OK, "6.2.2"),
        ("38 (release), REVISION: 2.2", "7.0-b128", OK, "7.0"),
        ("35 (release), REVISION: 4.1", "5.1.2-b104", OPTIONAL, "TensorRT 8.5"),
        ("41 (release), REVISION: 1.0", "8.0", OK, "8.0"),
        ("36 (release), REVISION: 4.3", "", OPTIONAL, "nvidia-jetpack is not installed"),
        ("strange", "", OPTIONAL, "unknown version"),
    ],
)
def test_which_jetpack_is_new_enough(release, package, state, words, tmp_path):
    tree = orin_nano()
    tree.files["etc/nv_tegra_release"] = f"# R{release}, GCID: 1, BOARD: generic\n"
    tree.files["var/lib/dpkg/status"] = f"Package: nvidia-jetpack\nStatus: install ok installed\nVersion: {package}\n" if package else ""
    jetpack = found(tmp_path, tree)["JetPack"]
    assert jetpack.state == state
    assert words in jetpack.found


def test_in_a_container_the_packages_tell_the_release(tmp_path):
    tree = orin_nano()
    del tree.files["etc/nv_tegra_release"]
    board = read_board(machine(tmp_path, tree))
    assert board is not None
    assert (board.linux, board.jetpack, board.generation) == ((36, 4, 3), "6.2", 6)


def test_a_removed_package_does_not_count(tmp_path):
    status = "Package: nvidia-jetpack\nStatus: deinstall ok config-files\nVersion: 6.2\n"
    assert describe_release("# R36 (release), REVISION: 4.3, x", status).endswith("not installed")


def test_nvpmodel_is_asked_where_its_files_do_not_tell(tmp_path):
    tree = orin_nano()
    del tree.files["var/lib/nvpmodel/status"]
    tree.files["usr/sbin/nvpmodel"] = ""
    asked: list[list[str]] = []

    def answer(command: list[str]) -> str:
        asked.append(command)
        return "NVPM WARN: something\nNV Power Mode: MAXN_SUPER\n2\n"

    assert read_power_mode(machine(tmp_path, tree, ask=answer))[0] == 2
    assert asked == [["nvpmodel", "-q"]], "only the question is ever put"


def test_before_the_first_choice_the_default_of_the_board_holds(tmp_path):
    tree = orin_nano()
    del tree.files["var/lib/nvpmodel/status"]
    assert power_finding(machine(tmp_path, tree)).found.startswith("25W, mode 1;")


def test_a_board_that_hides_its_power_mode(tmp_path):
    f = power_finding(machine(tmp_path, Tree({"usr/sbin/nvpmodel": ""}), ask=lambda command: "permission denied"))
    assert (f.state, f.remedy) == (OPTIONAL, "look with: sudo nvpmodel -q")


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Power Mode: MAXN_SUPER\n2\n", ("MAXN_SUPER", 2)),
        ("NVPM VERB: Config file: /etc/nvpmodel.conf\nNV Power Mode: MODE_30W_ALL\n3\n", ("MODE_30W_ALL", 3)),
        ("NV Power Mode: 15W\n", ("", None)),
        ("", ("", None)),
    ],
)
def test_output_of_nvpmodel(text, mode):
    assert parse_nvpmodel(text) == mode


@pytest.mark.parametrize("brake", ["cpu-throttle-alert", "cpufreq-cpu0", "devfreq-17000000.gpu"])
def test_clocks_that_are_lowered_for_heat(brake, tmp_path):
    tree = orin_nano()
    tree.files |= {"sys/class/thermal/cooling_device9/type": f"{brake}\n", "sys/class/thermal/cooling_device9/cur_state": "3\n"}
    f = found(tmp_path, tree)["Throttling"]
    assert f.state == OPTIONAL
    assert brake in f.found
    assert "cool the board" in f.remedy


def test_a_turning_fan_is_no_throttling(tmp_path):
    tree = Tree({"sys/class/thermal/cooling_device0/type": "pwm-fan\n", "sys/class/thermal/cooling_device0/cur_state": "4\n"})
    tree.files |= orin_nano().files
    assert found(tmp_path, tree)["Throttling"].state == OK


def test_little_memory(tmp_path):
    tree = orin_nano()
    tree.files["proc/meminfo"] = "MemTotal:        7802872 kB\nMemAvailable:     611152 kB\n"
    tree.files["proc/swaps"] = "Filename\tType\tSize\tUsed\tPriority\n"
    f = found(tmp_path, tree)["Shared memory"]
    assert (f.state, f.found) == (OPTIONAL, "0.6 of 7.4 GiB free, no swap")
    assert "swap file" in f.remedy


def test_tensorrt_that_the_environment_does_not_see(tmp_path):
    f = found(tmp_path, orin_nano())["System TensorRT"]
    assert f.state == OPTIONAL
    packages = tmp_path / "usr/lib/python3.10/dist-packages"
    assert f.found == f"10.3.0 in {packages}, which the environment /opt/keyposs-trt/venv does not see"
    assert f.remedy.startswith("/usr/bin/python3.10 -m venv --system-site-packages /opt/keyposs-trt/venv ")
    assert tensorrt_finding(machine(tmp_path, orin_nano(), path=("", str(packages)))).state == OK


def test_the_remedy_opens_an_environment_to_the_systems_packages_and_keeps_its_own(tmp_path):
    """What the finding above tells users to run: with this Python, as the system's."""

    def run(*arguments: str | Path) -> str:
        return subprocess.run([*map(str, arguments)], check=True, capture_output=True, text=True).stdout

    environment, inside = tmp_path / "venv", "import sys; print(any(p.endswith('dist-packages') or p == sys.argv[1] for p in sys.path))"
    site = run(sys.executable, "-c", "import sys, sysconfig; print(sysconfig.get_path('purelib', vars={'base': sys.base_prefix}))").strip()
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin/python"
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()) / "mine.py"
    own.write_text("")
    assert run(python, "-c", inside, site).strip() == "False"
    run(sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", environment)
    assert run(python, "-c", inside, site).strip() == "True"
    assert own.exists()


def test_tensorrt_of_another_python(tmp_path):
    f = found(tmp_path, orin_nano(), python=(3, 12))["System TensorRT"]
    assert "is for python3.10, and this is Python 3.12" in f.found
    assert "/usr/bin/python3.10 -m venv --system-site-packages DIR" in f.remedy


def test_no_tensorrt(tmp_path):
    tree = orin_nano()
    tree.files = {name: text for name, text in tree.files.items() if "tensorrt" not in name}
    assert "python3-libnvinfer" in found(tmp_path, tree)["System TensorRT"].remedy


@pytest.mark.parametrize("name", [n for n in GSTREAMER if n.endswith(".so")])
def test_a_camera_plugin_that_is_missing(name, tmp_path):
    tree = orin_nano()
    del tree.files[name]
    f = found(tmp_path, tree)["Camera plugins"]
    assert f.state == OPTIONAL
    assert re.search(r"sudo apt install (nvidia-l4t|gstreamer1.0)-", f.remedy)


def test_without_gst_launch(tmp_path):
    tree = orin_nano()
    del tree.files["usr/bin/gst-launch-1.0"]
    assert "gstreamer1.0-tools" in found(tmp_path, tree)["Camera plugins"].remedy


@pytest.mark.parametrize(("groups", "absent"), [({1000}, "video,render"), ({44}, "render"), ({104, 7}, "video")])
def test_a_user_without_rights(groups, absent, tmp_path):
    f = found(tmp_path, orin_nano(), groups=frozenset(groups))["Device rights"]
    assert f.state == OPTIONAL
    assert f.remedy == f'sudo usermod -aG {absent} "$USER", then log in anew'
    assert found(tmp_path, orin_nano(), groups=frozenset(groups), user=0)["Device rights"].found == "root"


@pytest.mark.parametrize(
    ("linux", "version", "state"), [((36, 4, 3), "13.0.1", OPTIONAL), ((36, 4, 3), "12.6.2", OK), ((39, 2, 0), "13.2.0", OK), ((), "x", OK)]
)
def test_cuda_bindings(linux, version, state):
    f = bindings_finding(Board("", "tegra234", linux), version)
    assert f.state == state
    assert not f.remedy or f.remedy == "pip install 'cuda-bindings>=12.6,<13'"


def test_cuda_bindings_have_a_line_where_they_are_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnosis_module, "_bindings_version", lambda: "13.0.1")
    assert found(tmp_path, orin_nano())["CUDA bindings"].state == OPTIONAL


def test_a_probe_that_hangs_is_not_waited_for():
    release = threading.Event()

    def hang() -> Finding:
        release.wait()
        return Finding("Clocks", OK, "late")

    f = bounded("Clocks", hang, patience=0.05)
    release.set()
    assert (f.part, f.state) == ("Clocks", OPTIONAL)
    assert "no answer" in f.found
    assert f.remedy


@pytest.mark.parametrize(
    "error", [PermissionError("not yours"), ValueError(), ZeroDivisionError("x"), TypeError("of\nNone"), MemoryError()]
)
def test_a_probe_that_fails_is_a_line(error):
    def fail() -> Finding:
        raise error

    f = bounded("Cameras", fail)
    assert (f.state, bool(f.remedy)) == (OPTIONAL, True)
    assert f.found == f"cannot be told ({' '.join(str(error).split()) or type(error).__name__})"


def test_programs_that_are_missing_or_hang_say_nothing(monkeypatch):
    assert ask_program(["no-such-program-here"]) == ""
    monkeypatch.setattr("keyposs_trt.jetson.machine._LONGEST_ANSWER", 0.05)
    assert ask_program([sys.executable, "-c", "import time; time.sleep(60)"]) == ""


def test_folders_in_the_place_of_files(tmp_path):
    tree = orin_nano()
    for name in tree.files:
        if not re.search(r"device-tree|dpkg|nv_tegra", name):
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
    tree.files = {name: text for name, text in tree.files.items() if re.search(r"device-tree|dpkg|nv_tegra", name)}
    findings = diagnose(machine(tmp_path, tree))
    assert len(findings) == 10
    assert all(f.found for f in findings)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_garbage_in_any_file_never_raises(tmp_path, data):
    tree = data.draw(st.sampled_from([orin_nano, thor]))()
    names = sorted(tree.files)
    for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=12, unique=True)):
        tree.files[name] = data.draw(st.binary(max_size=60) | st.sampled_from([b"", b"-1", b"9" * 5000, b"pmode:99999999999", b"nan"]))
    root = tmp_path / str(len(list(tmp_path.iterdir())))
    for f in diagnose(machine(root, tree, ask=lambda command: "")):
        assert bool(f.remedy) == (f.state != OK)
        assert "cannot be told" not in f.found


def test_nothing_that_changes_the_machine_is_named_in_code():
    """The package opens files for reading, and the only program it runs is nvpmodel with its question."""
    folder = Path(diagnosis_module.__file__).parent
    source = "".join(path.read_text() for path in folder.glob("*.py"))
    assert re.findall(r"\.ask\((.*?)\)\)?", source) == ['["nvpmodel", "-q"]']
    assert not re.search(r"write_|\.open\(\"[wa]|os\.(system|chmod|remove)|Popen", source)
    assert source.count("subprocess.run") == 1
