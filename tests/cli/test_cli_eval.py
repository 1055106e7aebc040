"""``keyposs-trt eval``."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import pytest
from cli_media import ROOT
from dataset_files import aflw, coco, face_points, picture, pts, triples, wflw, wflw_line
from model_zoo import tiny_model

from keyposs_trt.cli.main import main
from keyposs_trt.datasets import open_dataset
from keyposs_trt.evaluation import evaluate, labelled_faces
from keyposs_trt.evaluation.locator import decoder_names
from keyposs_trt.images import read_image
from keyposs_trt.landmarker import Landmarker


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.fixture
def root(tmp_path):
    flags = ("0 0 0 0 0 0", "0 0 0 0 1 0", "1 0 0 0 1 0")
    lines = [wflw_line(face_points(98, seed), "0--Parade/a.jpg", text) for seed, text in enumerate(flags)]
    return wflw(tmp_path / "wflw", {"train": [wflw_line(face_points(98, 9), "0--Parade/a.jpg")], "test": [*lines, "1 2 3"]})


def evaluated(*arguments):
    return main(["eval", *map(str, arguments), "--threads", "1"])


def test_table_and_json(model, root, tmp_path, capsys):
    out = tmp_path / "out/found.json"
    assert evaluated(model, "--data", root, "--split", "test", "--decoder", "model", "argmax", "--norm", "box", "--json", out) == 0
    text, err = capsys.readouterr()
    assert err == ""
    lines = text.splitlines()
    assert "boxes       around the labelled points x 1.25" in lines
    assert "flip test   no" in lines
    assert "data set    WFLW (format wflw), compared in scheme 300w" in lines
    assert "unusable    1 annotations" in text
    tree = json.loads(out.read_text())
    assert [p.name for p in out.parent.iterdir()] == ["found.json"]
    assert [(r["decoder"], r["subset"], r["faces"]) for r in tree["results"]] == [
        (d, s, n) for d in ("model", "argmax") for s, n in (("all", 3), ("test", 3), ("occlusion", 2), ("pose", 1))
    ]
    with Landmarker.load(model, detector=None, threads=1) as landmarker:
        report = evaluate(landmarker, labelled_faces(open_dataset(root, scheme="300w", split="test")))
    share = [f["nme"]["model"]["box"] * f["norms"]["box"] for f in tree["per_face"]]
    assert evaluated(model, "--data", root, "--split", "test", "--json", "-") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["results"][0]["nme"] == pytest.approx(report.nme)
    for face, pixels in zip(again["per_face"], share, strict=True):
        assert face["nme"]["model"]["inter_ocular"] * face["norms"]["inter_ocular"] == pytest.approx(pixels)
    row = next(line.split() for line in lines if line.split()[:3] == ["argmax", "box", "occlusion"])
    found = next(r for r in tree["results"] if (r["decoder"], r["subset"]) == ("argmax", "occlusion"))
    expected = [f"{100 * found[k]:.2f}" for k in ("nme", "fr_0.08", "fr_0.1", "auc_0.1")]
    assert row == ["argmax", "box", "occlusion", "2", *expected]


def test_a_table_of_several_models(model, root, tmp_path, capsys):
    """The largest heatmaps first; each model as it is measured alone."""
    large = str(tiny_model(tmp_path / "large.onnx", heatmap_size=64))
    common = ("--data", root, "--decoder", "model", "argmax", "--norm", "box", "inter_ocular")
    assert evaluated(model, large, *common, "--table", tmp_path / "out/t.md", "--json", tmp_path / "out/t.json") == 0
    text = capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["t.json", "t.md"]
    tree = json.loads((tmp_path / "out/t.json").read_text())
    alone = []
    for path in (large, model):
        assert evaluated(path, *common, "--json", "-") == 0
        alone.append(json.loads(capsys.readouterr().out))
    assert tree["models"] == alone[::-1]
    assert tree["table"]["columns"] == [{"model": large, "heatmap_size": 64}, {"model": model, "heatmap_size": 32}]
    assert (tree["table"]["norm"], tree["table"]["subset"]) == ("box", "all")
    nme = {d: [next(r["nme"] for r in t["results"] if r["decoder"] == d) for t in alone] for d in ("model", "argmax")}
    assert tree["table"]["nme"] == nme
    assert nme["model"][0] != nme["model"][1]
    percent = {d: [f"{100 * v:.2f}" for v in values] for d, values in nme.items()}
    assert [line.split() for line in text.splitlines()[-3:]] == [["decoder", "64", "32"], *([d, *v] for d, v in percent.items())]
    rows = [f"| {d} | {' | '.join(v)} |" for d, v in percent.items()]
    assert (tmp_path / "out/t.md").read_text().splitlines() == ["| decoder | 64 | 32 |", "| --- | ---: | ---: |", *rows]


def test_models_of_one_size_are_named_in_the_table(model, root, tmp_path, capsys):
    other = shutil.copy(model, tmp_path / "other.onnx")
    assert evaluated(model, other, "--data", root) == 0
    assert capsys.readouterr().out.splitlines()[-2] == f"decoder  {model} (32)  {other} (32)"


def test_models_of_several_schemes(model, root, tmp_path, capsys):
    other = tiny_model(tmp_path / "98.onnx", points=98, scheme="wflw")
    assert evaluated(model, other, "--data", root) == 2
    assert "compared by the points of 300w, wflw; choose one scheme with --scheme" in capsys.readouterr().err
    assert evaluated(model, other, "--data", root, "--scheme", "300w", "--json", "-") == 0
    assert [m["data"]["scheme"] for m in json.loads(capsys.readouterr().out)["models"]] == ["300w", "300w"]


def test_two_processes(model, tmp_path, capsys):
    """Five faces, the image of one of them cut off: the same record as by one process."""
    path = tmp_path / "300w"
    for number in range(5):
        pts(path / "ibug" / f"{number}.pts", face_points(68, number))
    broken = path / "ibug/3.jpg"
    broken.write_bytes(broken.read_bytes()[:-40])
    records = []
    for processes in (1, 2):
        assert evaluated(model, "--data", path, "--decoder", "model", "dark", "--processes", processes, "--json", "-") == 0
        out, err = capsys.readouterr()
        assert err == ""
        records.append(json.loads(out))
    assert records[0] == records[1]
    assert (records[1]["faces"], len(records[1]["left_out"])) == (4, 1)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(model, root, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert evaluated(model, "--data", root, "--json", "-") == 0
    assert "0/4" in sys.stderr.getvalue()
    assert json.loads(capsys.readouterr().out)["faces"] == 4  # the bar is not in the output


def test_help_names_every_decoder(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["eval", "--help"])
    out = capsys.readouterr().out
    listed = out.split("decoders: ")[1].split("All but")[0]
    assert [name.strip(" (.)\n") for name in listed.replace("(the model's own)", "").split(",")] == decoder_names()


def test_no_annotated_boxes(model, tmp_path, capsys):
    path = coco(tmp_path / "x.json", [{"image_id": 7, "keypoints": triples(face_points(68))}])
    picture(tmp_path / "a.jpg")
    assert evaluated(model, "--data", path, "--boxes", "annotated") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: None of the 1 faces")
    assert err.endswith("the box as annotated is missing or smaller than a pixel; choose another with --boxes.\n")


def test_pictures(model, root, tmp_path, capsys):
    ced, worst = tmp_path / "out/ced.png", tmp_path / "out/worst.jpg"
    assert evaluated(model, "--data", root, "--flip-test", "--boxes", "annotated", "--ced", ced, "--worst", worst) == 0
    out = capsys.readouterr().out
    assert "boxes       as annotated x 1.25" in out
    assert "flip test   yes" in out
    assert read_image(ced).shape == (675, 900, 3)
    assert read_image(worst).shape == (448, 616, 3)  # 4 faces: 3 across, 2 down
    assert sorted(p.name for p in ced.parent.iterdir()) == ["ced.png", "worst.jpg"]


def test_without_matplotlib(model, root, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert evaluated(model, "--data", root, "--ced", "a.png") == 1
    assert capsys.readouterr().err == "error: --ced needs matplotlib, which is not installed: pip install matplotlib.\n"


def test_an_image_that_breaks_off_is_counted(model, root, capsys):
    image = root / "WFLW_images/0--Parade/a.jpg"
    lines = root / "WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_train.txt"
    shutil.copy(image, image.with_name("b.jpg"))
    lines.write_text(lines.read_text().replace("a.jpg", "b.jpg"))
    whole = image.read_bytes()
    image.with_name("b.jpg").write_bytes(whole[: len(whole) // 2])
    assert evaluated(model, "--data", root) == 0
    out = capsys.readouterr().out
    assert "faces       3\n" in out
    assert "left out    1: 1 unreadable image" in out
    assert "train.txt:1: The image" in out
    image.write_bytes(whole[: len(whole) // 2])
    assert evaluated(model, "--data", root) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: None of the 4 faces")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gone", "--data", "{root}"], 1, "There is no model 'gone'"),
        (["{root}/a.pth", "--data", "{root}"], 2, "published checkpoint; say how it was trained with --sigma and --grid"),
        (["face68-32", "--data", "{root}", "--sigma", "2"], 2, "Leave out --sigma and --grid"),
        (["{root}/a.plan", "--data", "{root}", "--decoder", "wls"], 2, "gives no heatmaps"),
        (["{model}", "--data", "gone"], 1, "There is no data set 'gone'"),
        (["{model}", "--data", "{root}", "--decoder", "wsl"], 2, "no decoder 'wsl'"),
        (["{model}", "--data", "{root}", "--norm", "iod"], 2, "no norm 'iod'"),
        (["{model}", "--data", "{root}", "--scheme", "cofw"], 2, "'cofw'"),
        (["{model}", "--data", "{root}", "--scheme", "wflw"], 2, "cannot be compared with those of 'wflw'"),
        (["{model}", "--data", "{root}", "--split", "val"], 2, "no split 'val'"),
        (["{model}", "--data", "{root}", "--ced", "a.txt"], 2, "--ced cannot write 'a.txt'"),
        (["{model}", "--data", "{root}", "--worst", "a.txt"], 2, "--worst cannot write 'a.txt'"),
        (["{model}", "--data", "{root}", "--worst", "a.png", "--ced", "a.png"], 2, "give another file"),
        (["{model}", "--data", "{root}", "--json", "{model}"], 2, "is a model too"),
        (["{model}", "{model}", "--data", "{root}"], 2, "The model '{model}' is named twice"),
        (["{model}", "--data", "{root}", "--heatmap", "16"], 2, "has heatmaps of 32, not 16"),
        (["{model}", "--data", "{root}", "--heatmap", "32", "32"], 2, "The heatmap size '32' is named twice"),
        (["{model}", "face68-32", "--data", "{root}", "--ced", "a.png"], 2, "--ced draws one model"),
        (["{model}", "--data", "{root}", "--heatmap", "32", "16", "--worst", "a.png"], 2, "--worst draws one model"),
        (["{model}", "--data", "{root}", "--table", "a.md", "--json", "a.md"], 2, "is that of --table too"),
    ],
)
def test_bad_input_is_one_sentence(model, root, tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a.pth", "a.plan"):
        (root / name).write_bytes(b"x")
    assert evaluated(*(a.format(root=root, model=model) for a in arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message.format(model=model) in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["wflw"]


@pytest.mark.parametrize("option", [("--threads", "0"), ("--box-scale", "0"), ("--box-scale", "x"), ("--boxes", "teacher")])
def test_numbers_that_make_no_sense(model, root, option, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["eval", model, "--data", str(root), *option])
    assert option[0] in capsys.readouterr().err


@pytest.mark.shared
@pytest.mark.parametrize("name", ["300w", "wflw"])
def test_genuine_photographs_as_a_command(shared_data, tmp_path, name):
    command = [sys.executable, "-m", "keyposs_trt.cli.main", "eval", "face68-32", "--data", str(shared_data / "photos" / name)]
    options = ["--threads", "1", "--decoder", "model", "wls", "lls", "--json", "-", "--worst", str(tmp_path / "w.png")]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {(r["decoder"], r["subset"]): r for r in json.loads(done.stdout)["results"]}
    assert all(0 < r["nme"] < 0.15 for r in rows.values())
    assert rows["model", "all"]["nme"] == pytest.approx(rows["wls", "all"]["nme"], abs=1e-4)
    assert read_image(tmp_path / "w.png").shape[0] >= 226


@pytest.mark.shared
def test_the_unseen_set(shared_data, capsys):
    """What benchmarks/accuracy.py measures, as a command."""
    assert evaluated("face68-32", "--data", shared_data, "--format", "teacher", "--split", "unseen", "--json", "-") == 0
    tree = json.loads(capsys.readouterr().out)
    assert {r["subset"]: r["faces"] for r in tree["results"]} == {"all": 73, "unseen": 73, "headshots": 53, "portraits": 20}
    assert 0.015 < tree["results"][0]["nme"] < 0.03


@pytest.mark.shared
def test_boxes_of_the_detector(shared_data, capsys):
    assert evaluated("face68-32", "--data", shared_data / "photos/300w", "--boxes", "detector", "--json", "-") == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["boxes"]["source"] == "detector"
    assert (tree["faces"], tree["missed"]) == (2, 0)
    assert tree["results"][0]["nme"] < 0.15


def test_the_subsets_of_300w(model, tmp_path, capsys):
    for number, folder in enumerate(("helen/testset", "lfpw/testset", "ibug")):
        pts(tmp_path / "300w" / folder / f"{number}.pts", face_points(68, number))
    assert evaluated(model, "--data", tmp_path / "300w", "--split", "full", "--json", "-") == 0
    tree = json.loads(capsys.readouterr().out)
    rows = {r["subset"]: r for r in tree["results"]}
    counts = {"all": 3, "full": 3, "common": 2, "challenge": 1, "helen": 1, "lfpw": 1, "ibug": 1}
    assert {name: row["faces"] for name, row in rows.items()} == counts
    by_place = {f["where"].split("300w/")[1].split("/")[0]: f["nme"]["model"]["inter_ocular"] for f in tree["per_face"]}
    assert rows["challenge"]["nme"] == pytest.approx(by_place["ibug"])
    assert rows["common"]["nme"] == pytest.approx((by_place["helen"] + by_place["lfpw"]) / 2)


def test_aflw_by_the_annotated_box(tmp_path, capsys):
    path = tiny_model(tmp_path / "19.onnx", points=19, scheme="aflw")
    assert evaluated(path, "--data", aflw(tmp_path / "aflw"), "--json", "-") == 0
    tree = json.loads(capsys.readouterr().out)
    assert (tree["norms"], tree["norm_box"]) == (["box"], "annotated")
    assert {f["norms"]["box"] for f in tree["per_face"]} == {64.0}
