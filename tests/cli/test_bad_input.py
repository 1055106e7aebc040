"""Bad input, bad output, bad models, interruptions: one sentence, the right exit code, nothing half-written left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from cli_media import ASTRONAUT, FACE, astronaut, frames_of, leftovers, start, write_video
from model_zoo import tiny_model, tiny_spec
from PIL import Image

from keyposs_trt.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def sentence(err: str) -> str:
    """The one line of standard error, which must be a sentence with a remedy."""
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(".")
    assert "Traceback" not in line
    return line


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


# Pictures that are fine, however odd.


def save(path: Path, kind: str) -> Path:
    """The photograph as a file of some kind."""
    image = Image.fromarray(astronaut()[..., ::-1])
    path = path.with_name(f"{kind}.{'jpg' if kind in ('cmyk', 'turned') else 'png'}")
    if kind == "turned":
        exif = Image.Exif()
        exif[0x112] = 6  # to be shown turned a quarter to the right
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=95)
    elif kind == "16-bit":
        cv2.imwrite(str(path), astronaut().astype(np.uint16) * 257)
    else:
        image.convert({"grey": "L", "RGBA": "RGBA", "cmyk": "CMYK", "palette": "P"}[kind]).save(path)
    return path


@pytest.mark.parametrize("kind", ["grey", "16-bit", "RGBA", "cmyk", "palette", "turned"])
def test_pictures_of_odd_kinds_give_the_same_face(
    kind: str, model: Path, tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    picture = save(tmp_path / "x", kind)
    assert main(["run", str(picture), "-o", str(out), "--json", "-", "--model", str(model)]) == 0
    (face,) = json.loads(capfd.readouterr().out)["faces"]
    x1, y1, x2, y2 = face["box"]
    assert FACE[0] < (x1 + x2) / 2 < FACE[2]
    assert FACE[1] < (y1 + y2) / 2 < FACE[3]
    assert cv2.imread(str(out / picture.name)).shape == (512, 512, 3)


def test_a_picture_of_one_pixel(model: Path, tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "dot.png"), np.zeros((1, 1, 3), np.uint8))
    assert main(["run", str(tmp_path / "dot.png"), "-o", str(out), "--model", str(model)]) == 0
    assert capfd.readouterr() == (f"{tmp_path / 'dot.png'}: no face -> {out / 'dot.png'}\n", "")
    assert cv2.imread(str(out / "dot.png")).shape == (1, 1, 3)
    assert main(["run", str(tmp_path / "dot.png"), "--no-detect", "--json", "-", "--model", str(model)]) == 0
    assert len(json.loads(capfd.readouterr().out)["faces"]) == 1


def test_no_face(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((300, 400, 3), 120, np.uint8))
    assert main(["run", str(tmp_path / "wall.png"), "--json", "-", "--model", str(model)]) == 0
    assert json.loads(capfd.readouterr().out)["faces"] == []


def test_fifty_faces(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tile = cv2.resize(astronaut()[:280, 90:370], (160, 160), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "crowd.png"), np.tile(tile, (5, 10, 1)))
    assert main(["run", str(tmp_path / "crowd.png"), "--json", "-"]) == 0
    faces = json.loads(capfd.readouterr().out)["faces"]
    assert 48 <= len(faces) <= 50
    tiles = {(int((f["box"][0] + f["box"][2]) // 320), int((f["box"][1] + f["box"][3]) // 320)) for f in faces}
    assert len(tiles) == len(faces)  # each in a tile of its own


# Sources that cannot be used.


def zero_size_png() -> bytes:
    import struct
    import zlib

    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)


BAD = {
    "empty.jpg": b"",
    "cut.jpg": ASTRONAUT.read_bytes()[:-1000],
    "cut.png": cv2.imencode(".png", astronaut())[1].tobytes()[:-5000],
    "letter.jpg": b"Dear reader, this is no picture.",
    "zero.png": zero_size_png(),
    "empty.mp4": b"",
    "letter.mp4": b"Dear reader, this is no video. " * 50,
    "unknown": b"Dear reader, this is nothing at all.",
}


@pytest.mark.parametrize("name", ["missing.jpg", "missing.mp4", "missing", *BAD])
def test_a_source_that_cannot_be_read(name: str, model: Path, tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / name
    if name in BAD:
        source.write_bytes(BAD[name])
    assert main(["run", str(source), "-o", str(out), "--json", str(tmp_path / "x.jsonl"), "--model", str(model)]) == 1
    said, err = capfd.readouterr()
    assert str(source) in sentence(err)
    assert said == ""
    assert files(out) == leftovers(tmp_path) == []
    assert not (tmp_path / "x.jsonl").exists()


def test_an_empty_folder_and_a_pattern_without_a_match(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for source in (tmp_path, tmp_path / "*.jpg"):
        assert main(["run", str(source)]) == 1
        assert str(source) in sentence(capfd.readouterr().err)
    assert main(["run", "gopher://camera.local/stream"]) == 2
    assert "gopher://" in sentence(capfd.readouterr().err)


def test_a_camera_that_is_not_there(model: Path, out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "61", "-o", str(out), "--model", str(model)]) == 1
    assert "Camera '61' cannot be opened" in sentence(capfd.readouterr().err)
    assert files(out) == []


def test_the_others_go_on(model: Path, tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, data in BAD.items():
        (tmp_path / name).write_bytes(data)
    sources = [str(tmp_path / "none.jpg"), *(str(tmp_path / name) for name in BAD), str(ASTRONAUT)]
    lines = tmp_path / "x.jsonl"
    assert main(["run", *sources, "-o", str(out), "--json", str(lines), "--model", str(model)]) == 1
    said, err = capfd.readouterr()
    assert said == f"{ASTRONAUT}: 1 face -> {out / 'astronaut.jpg'}\n1 JSON line -> {lines}\n"
    assert len(err.splitlines()) == 1 + len(BAD)
    assert all(line.startswith("error: ") for line in err.splitlines())
    assert files(out) == ["astronaut.jpg"]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "corrupt"])
def test_what_could_be_read_of_a_video_is_kept(
    damage: str, model: Path, tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = write_video(tmp_path / "clip.avi", 30)
    data = bytearray(clip.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2 :] = np.random.default_rng(0).integers(0, 255, len(data) - len(data) // 2, np.uint8).tobytes()
    clip.write_bytes(data)
    lines = tmp_path / "x.jsonl"
    assert main(["run", str(clip), "-o", str(out / "kept.mp4"), "--json", str(lines), "--model", str(model)]) == 1
    said, err = capfd.readouterr()
    kept = frames_of(out / "kept.mp4")
    assert 10 <= kept <= 20
    assert f"breaks off after {kept} of 30 frames" in sentence(err)
    assert f"{kept} frames" in said
    assert [json.loads(line)["frame"] for line in lines.read_text().splitlines()] == list(range(kept))
    assert files(out) == ["kept.mp4"]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("source", ["99999999999", "x" * 300, "x" * 300 + ".mp4"])
def test_numbers_and_names_out_of_range(source: str, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", source, "--model", str(model)]) == 1
    assert source in sentence(capfd.readouterr().err)
    assert main(["run", str(ASTRONAUT), "--model", "x" * 300]) == 1
    assert "There is no model" in sentence(capfd.readouterr().err)


# Outputs that cannot be written. Below a regular file and in /proc not even root can write.


@pytest.mark.parametrize("option", ["-o", "--json"])
@pytest.mark.parametrize("place", ["file/below/x.jpg", "file/x.jpg", "/proc/x.jpg"])
def test_an_output_that_cannot_be_written(option: str, place: str, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    target = tmp_path / place  # an absolute place stays as it is
    assert main(["run", str(ASTRONAUT), option, str(target), "--model", str(model)]) == 1
    said, err = capfd.readouterr()
    assert "Cannot write" in sentence(err)
    assert said == ""
    assert files(tmp_path) == ["file"]


def test_an_output_that_is_something_else(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert main(["run", str(ASTRONAUT), "-o", str(tmp_path / "notes.txt"), "--model", str(model)]) == 2
    assert "no known picture or video format" in sentence(capfd.readouterr().err)
    assert main(["run", str(ASTRONAUT), "--json", str(tmp_path / "notes.txt" / "x.jsonl"), "--model", str(model)]) == 1
    assert "notes.txt" in sentence(capfd.readouterr().err)
    assert (tmp_path / "notes.txt").read_text() == "x"


# Models that cannot be used.


def foreign(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def other_version(path: Path) -> None:
    import onnx

    tiny_model(path)
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, tiny_spec().to_metadata() | {"keyposs.format_version": "99"})
    onnx.save(model, str(path))


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("missing.onnx", lambda path: None, "no model"),
        ("empty.onnx", lambda path: path.write_bytes(b""), "empty.onnx"),
        ("letter.onnx", lambda path: path.write_bytes(b"Dear reader, this is no model."), "letter.onnx"),
        ("cut.onnx", lambda path: path.write_bytes(tiny_model(path).read_bytes()[:-3000]), "cut.onnx"),
        ("foreign.onnx", foreign, "without keyposs metadata"),
        ("version.onnx", other_version, "version 99"),
        ("photo.jpg", lambda path: path.write_bytes(ASTRONAUT.read_bytes()), "photo.jpg"),
        ("folder", lambda path: path.mkdir(), "folder"),
    ],
)
def test_a_model_that_cannot_be_used(
    name: str, make: object, words: str, tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / name)  # type: ignore[operator]
    lines = tmp_path / "x.jsonl"
    assert main(["run", str(ASTRONAUT), "-o", str(out), "--json", str(lines), "--model", str(tmp_path / name)]) == 1
    said, err = capfd.readouterr()
    assert words in sentence(err)
    assert said == ""
    assert files(out) == leftovers(tmp_path) == []
    assert not lines.exists()


# Through a process of its own.


def test_the_real_command(model: Path, tmp_path: Path, out: Path) -> None:
    (tmp_path / "cut.png").write_bytes(BAD["cut.png"])  # libpng writes to the terminal of its own accord
    process = start("run", tmp_path / "cut.png", ASTRONAUT, "-o", out, "--json", "-", "--model", model)
    said, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert json.loads(said)["source"] == str(ASTRONAUT)
    first, second = err.splitlines()
    assert "cut.png" in sentence(first)
    assert second == f"{ASTRONAUT}: 1 face -> {out / 'astronaut.jpg'}"


@pytest.mark.parametrize("lines", ["-", "x.jsonl", None])
def test_a_name_that_is_not_utf8(lines: str | None, model: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    source, out = tmp_path / name, tmp_path / "out"
    source.write_bytes(ASTRONAUT.read_bytes())
    json_to = {None: [], "-": ["--json", "-"]}.get(lines, ["--json", tmp_path / "x.jsonl"])
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    process = start("run", source, tmp_path / f"no{name}", "-o", out, *json_to, "--model", model, env=environment)
    said, err = process.communicate(timeout=120)
    assert process.returncode == 1  # for the second source, which is not there
    told = (err if lines == "-" else said + err).splitlines()
    assert f"{tmp_path}/caf\\udce9.jpg: 1 face -> {out}/caf\\udce9.jpg" in told
    assert f"error: There is no image '{tmp_path}/nocaf\\udce9.jpg'; check the path." in told
    if lines:
        (line,) = (said if lines == "-" else (tmp_path / "x.jsonl").read_text()).splitlines()
        assert json.loads(line)["source"] == str(source)
    assert [p.name for p in out.iterdir()] == [name]


def default_signals() -> None:
    """Whoever starts the tests may ignore Ctrl-C; the command must not inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_in_a_video(number: int, model: Path, tmp_path: Path) -> None:
    frames = 6_000  # of one colour: quickly written, and far too many to be done before the signal
    clip, out, lines = tmp_path / "clip.avi", tmp_path / "out.mp4", tmp_path / "out.jsonl"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 25, (32, 32))
    for _ in range(frames):
        writer.write(np.zeros((32, 32, 3), np.uint8))
    writer.release()
    process = start("run", clip, "-o", out, "--json", lines, "--no-detect", "--model", model, preexec_fn=default_signals)
    for _ in range(600):  # until the first lines are there, aside
        if any(p.stat().st_size > 5000 for p in tmp_path.glob(".out.*.jsonl")) or process.poll() is not None:
            break
        time.sleep(0.05)
    os.kill(process.pid, number)
    said, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert err == "interrupted; what was finished until then is kept.\n"
    kept = [json.loads(line)["frame"] for line in lines.read_text().splitlines()]
    assert 0 < len(kept) < frames
    assert kept == list(range(len(kept)))
    assert abs(frames_of(out) - len(kept)) <= 1  # the signal may fall between the two
    assert f"-> {out}\n" in said
    (told,) = re.findall(rf"^(\d+) JSON lines -> {lines}$", said, re.MULTILINE)
    assert abs(int(told) - len(kept)) <= 1
    assert files(tmp_path) == ["clip.avi", "out.jsonl", "out.mp4"]


def test_a_reader_that_goes_away_in_a_video(model: Path, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.avi", 300)
    process = start("run", clip, "-o", tmp_path / "out.mp4", "--json", "-", "--no-detect", "--model", model)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 1
    assert "error" not in process.stderr.read()
    process.stderr.close()
    assert 0 < frames_of(tmp_path / "out.mp4") < 300
    assert leftovers(tmp_path) == []
