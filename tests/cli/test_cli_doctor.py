from __future__ import annotations

import json

import pytest

from keyposs_trt import doctor
from keyposs_trt.cli.main import main
from keyposs_trt.doctor import MISSING, OK, OPTIONAL, Finding

FINE = [Finding("Python", OK, "3.12"), Finding("TensorRT", OPTIONAL, "not installed", "install JetPack")]


@pytest.mark.parametrize(
    ("more", "code", "verdict"), [([], 0, "can be found"), ([Finding("OpenCV", MISSING, "none", "pip")], 1, "are missing")]
)
def test_table_verdict_and_exit_code(monkeypatch, capsys, more, code, verdict):
    monkeypatch.setattr(doctor, "diagnose", lambda: FINE + more)
    assert main(["doctor"]) == code
    out = capsys.readouterr().out
    assert verdict in out
    assert "ok        Python          3.12\n" in out
    assert "-> install JetPack\n" in out


def test_json(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "diagnose", lambda: FINE)
    assert main(["doctor", "--json"]) == 0
    assert [p["part"] for p in json.loads(capsys.readouterr().out)["parts"]] == ["Python", "TensorRT"]
