"""``keyposs-trt dataset``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from cli_media import ROOT
from dataset_files import coco, face_points, picture, triples, wflw, wflw_line

from keyposs_trt.cli.main import main
from keyposs_trt.images import read_image


@pytest.fixture
def root(tmp_path):
    lines = [wflw_line(face_points(98, seed), "0--Parade/a.jpg") for seed in range(3)]
    return wflw(tmp_path / "wflw", {"train": [*lines, "1 2 3"], "test": [wflw_line(face_points(98, 9), "0--Parade/a.jpg", "0 0 0 0 1 0")]})


def test_what_is_printed(root, capsys):
    assert main(["dataset", str(root)]) == 0
    out, err = capsys.readouterr()
    lines = {line[:12].strip(): line[12:] for line in out.splitlines()}
    assert lines["data set"] == "WFLW (format wflw), scheme wflw, 98 points"
    assert lines["faces"] == "4 in 1 images"
    assert lines["subsets"] == "train 3, test 1, occlusion 1"
    assert lines["problems"] == "1 left out: 1 truncated"
    assert out.endswith("train.txt:4: 3 of 207 values (98 points, box, 6 flags, image)\n")
    assert err == ""


def test_sheet_and_json(root, tmp_path, capsys):
    sheet, found = tmp_path / "out/sheet.png", tmp_path / "found.json"
    command = ["dataset", str(root), "--sheet", str(sheet), "--sheet-faces", "2", "--json", str(found), "--scheme", "300w"]
    assert main(command) == 0
    assert read_image(sheet).shape == (226, 412, 3)
    assert [p.name for p in sheet.parent.iterdir()] == ["sheet.png"]
    tree = json.loads(found.read_text())
    assert (tree["faces"], tree["scheme"], tree["sheet"]["faces"]) == (4, "300w", 2)
    assert tree["problem_counts"] == {"truncated": 1}
    assert "sheet.png, 2 faces" in capsys.readouterr().out


def test_json_alone_on_standard_output(root, capsys):
    assert main(["dataset", str(root), "--split", "test", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["faces"] == 1


def test_an_image_that_breaks_off_is_named_and_the_sheet_drawn(tmp_path, capsys):
    whole = picture(tmp_path / "b.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    path = coco(tmp_path / "x.json", [{"image_id": i, "keypoints": triples(face_points(29, i))} for i in (7, 8)])
    path.write_text(path.read_text().replace('"images": [', '"images": [{"id": 8, "file_name": "b.jpg"}, '))
    assert main(["dataset", str(path), "--sheet", str(tmp_path / "s.png")]) == 0
    out = capsys.readouterr().out
    assert "s.png, 1 faces" in out
    assert "record 1: The image" in out
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    assert main(["dataset", str(path), "--sheet", str(tmp_path / "t.png")]) == 1
    assert "None of the 2 images for the sheet can be read" in capsys.readouterr().err
    assert not (tmp_path / "t.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gone"], 1, "There is no data set 'gone'"),
        (["."], 1, "no data set of a known format"),
        (["{root}", "--on-problem", "refuse"], 1, "has 1 problem (1 truncated), first"),
        (["{root}", "--format", "wider"], 2, "no data set format 'wider'"),
        (["{root}", "--split", "val"], 2, "no split 'val'"),
        (["{root}", "--scheme", "lapa"], 2, "do not give those of 'lapa'"),
        (["{root}", "--sheet", "a.txt"], 2, "--sheet cannot write 'a.txt'"),
        (["{root}", "--sheet", "a.png", "--json", "a.png"], 2, "output of both"),
        (["{root}", "--json", "{root}"], 2, "both the data set and an output"),
    ],
)
def test_bad_input_is_one_sentence(root, tmp_path, monkeypatch, capsys, arguments, code, message):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(["dataset", *(a.format(root=root) for a in arguments)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("number", ["0", "x", "1001"])
def test_number_of_faces(root, number, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["dataset", str(root), "--sheet-faces", number])
    assert "whole number from 1 to 1000" in capsys.readouterr().err


@pytest.mark.shared
def test_genuine_files_as_a_command(shared_data, tmp_path):
    command = [
        sys.executable,
        "-m",
        "keyposs_trt.cli.main",
        "dataset",
        str(shared_data / "photos/wflw"),
        "--sheet",
        str(tmp_path / "s.jpg"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 in 2 images" in done.stdout
    assert read_image(tmp_path / "s.jpg").shape[1] == 616
