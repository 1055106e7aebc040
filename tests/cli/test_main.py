"""The command line around its verbs: what it imports, how it fails, and what signals do."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from cli_media import ROOT

import keyposs_trt
from keyposs_trt import errors
from keyposs_trt.cli import main as module
from keyposs_trt.cli.main import VERBS, main

HEAVY = "torch tensorrt tensorrt_rtx_bindings onnx onnxruntime cv2 lightning timm scipy numba"


def verb(monkeypatch: pytest.MonkeyPatch, body: object) -> None:
    """Makes ``keyposs-trt run`` do something else."""
    monkeypatch.setattr("keyposs_trt.cli.run.run", body)


def raising(error: BaseException) -> object:
    def run(args: object) -> int:
        raise error

    return run


@pytest.mark.parametrize("arguments", [["--help"], *([v, "--help"] for v in VERBS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom keyposs_trt.cli.main import main\n"
        f"try: main({arguments!r})\nexcept SystemExit as e: assert e.code == 0\n"
        f"sys.exit(' '.join(sorted({set(HEAVY.split())!r} & sys.modules.keys())) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: keyposs-trt")


def test_every_verb_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    out = capsys.readouterr().out
    assert done.value.code == 0
    for name in VERBS:
        assert re.search(rf"^    {name}\s", out, re.M)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"keyposs-trt {keyposs_trt.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run"], ["run", "a.jpg", "--no-such-option"], ["run", "a.jpg", "--mod", "x"]])
def test_usage_errors_exit_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "code"), [(errors.InputError, 1), (errors.ModelError, 1), (errors.UsageError, 2)])
def test_an_error_is_one_sentence(
    kind: type[errors.KeypossError], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb(monkeypatch, raising(kind("It is broken; mend it.")))
    assert main(["run", "x"]) == code
    assert capsys.readouterr() == ("", "error: It is broken; mend it.\n")


@pytest.mark.parametrize("arguments", [["--debug", "run", "x"], ["run", "x", "--debug"]])
def test_debug_shows_the_traceback(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    verb(monkeypatch, raising(errors.InputError("Broken.")))
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("error: Broken.\n")


@pytest.mark.parametrize(("module", "package"), [("cv2", "opencv-python"), ("tqdm", "tqdm")])
def test_a_package_that_is_missing(module: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    verb(monkeypatch, raising(ModuleNotFoundError(f"No module named '{module}'", name=module)))
    assert main(["run", "x"]) == 1
    assert capsys.readouterr().err == f"error: The Python package '{module}' is not installed; install it with: pip install {package}\n"


def test_what_nobody_expected(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    verb(monkeypatch, raising(ValueError("two\nlines")))
    assert main(["run", "x"]) == 1
    assert capsys.readouterr().err == "error: unexpected ValueError: two lines; run again with --debug to see where.\n"
    verb(monkeypatch, raising(RuntimeError()))
    assert main(["run", "x"]) == 1
    assert "RuntimeError: no message" in capsys.readouterr().err


def test_the_code_of_the_verb_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    verb(monkeypatch, lambda args: 7)
    assert main(["run", "x"]) == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_interrupt_once_and_let_files_be_closed(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = []

    def run(args: object) -> int:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
            steps.append("not interrupted")
        finally:
            os.kill(os.getpid(), number)  # an impatient second time, while files are being closed
            time.sleep(0.01)
            steps.append("closed")
        return 0

    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    verb(monkeypatch, run)
    assert main(["run", "x"]) == 1
    assert capsys.readouterr().err == "interrupted\n"
    assert steps == ["closed"]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_interrupt_counts_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE", 0.0)
    steps = []

    def run(args: object) -> int:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
            steps.append("waited")
        return 0

    verb(monkeypatch, run)
    assert main(["run", "x"]) == 1
    assert steps == []


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as under nohup
    try:

        def run(args: object) -> int:
            os.kill(os.getpid(), signal.SIGTERM)
            return 0

        verb(monkeypatch, run)
        assert main(["run", "x"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_reader_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # so that the text goes out after the verb is done
    code = (
        "import sys\nfrom keyposs_trt.cli import main, run\n"
        "run.run = lambda args: sys.stdout.write('a line') * 0\nsys.exit(main.main(['run', 'x']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # as `| true` does
    assert process.wait(60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()
