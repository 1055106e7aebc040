"""What is said of the machine."""

from __future__ import annotations

import platform

import pytest

from keyposs_trt.bench import machine as module
from keyposs_trt.bench.machine import Machine, cpu_name, this_machine

X86 = "processor\t: 0\nmodel name\t: AMD EPYC 7B13  64-Core Processor \nprocessor\t: 1\nmodel name\t: other\n"
ARM = "processor\t: 0\nBogoMIPS\t: 62.50\n"


@pytest.mark.parametrize(
    ("cpuinfo", "board", "name"),
    [(X86, "", "AMD EPYC 7B13 64-Core Processor"), (ARM, "NVIDIA Jetson Orin Nano\0", "NVIDIA Jetson Orin Nano")],
)
def test_name_of_the_processor(cpuinfo, board, name):
    assert cpu_name(cpuinfo, board) == name


def test_a_processor_without_a_name(monkeypatch):
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert cpu_name(ARM, "") == "riscv64"
    monkeypatch.setattr(platform, "machine", lambda: "")
    assert cpu_name("", "") == "unknown"


def test_this_machine(monkeypatch):
    found = this_machine()
    assert found.cpu
    assert 1 <= found.usable <= found.cores
    assert Machine(**found.to_json()) == found

    def no_load():
        raise OSError

    monkeypatch.setattr(module.os, "getloadavg", no_load)
    assert this_machine().load is None


def test_in_words():
    facts = {"cpu": "X", "load": 0.5, "system": "Linux x86_64", "python": "3.12.1"}
    assert str(Machine(cores=4, usable=2, **facts)) == "X, 4 cores (2 usable), load 0.5, Linux x86_64"
    assert str(Machine(cores=1, usable=1, **{**facts, "load": None})) == "X, 1 core, Linux x86_64"
