"""Whether the values in a manifest are of the kinds that it promises: the file may have been edited."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from keyposs_trt.engine.versions import BACKENDS, COMPATIBILITIES
from keyposs_trt.graph.contract import FORMAT_VERSION, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

# What JSON must give for a field, by the field's annotation.
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, NoneType),
    "int": (int,),
    "int | None": (int, NoneType),
    "float": (int, float),
    "dict[str, float]": (dict,),
    "dict[str, str] | None": (dict, NoneType),
    "dict[str, dict[str, int]]": (dict,),
    "dict[str, Any] | None": (dict, NoneType),
    "dict[str, int] | None": (dict, NoneType),
    "tuple[str, ...]": (list,),
    "tuple[int, int, int]": (list,),
    "ModelSpec": (dict,),
}


def checked_values(manifest: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a manifest with their Python types.

    Raises:
        ValueError: a value is of a wrong kind, or makes no sense.
        ModelError: the spec makes no sense.
    """
    _check_kinds(manifest, values)
    spec, plan, batch, targets, layers = (values[name] for name in ("spec", "plan", "batch", "targets", "layers"))
    kinds, types = values["compatibility"], values["engine_types"]
    spec_of_plan = ModelSpec.from_record(spec)
    _check_kinds(ModelSpec, spec_of_plan.__dict__)
    for ok, what in (
        (spec_of_plan.format_version == FORMAT_VERSION, f"the spec has format version {spec_of_plan.format_version}, not {FORMAT_VERSION}"),
        (plan not in ("", "..") and Path(plan).name == plan, f"plan is {plan!r}, not a file name"),
        (values["runtime"] in BACKENDS, f"runtime is {values['runtime']!r}, not one of {', '.join(BACKENDS)}"),
        (values["workspace"] is None or values["workspace"] > 0, f"workspace is {values['workspace']!r}, not a number of bytes"),
        (len(batch) == 3 and all(type(n) is int and n > 0 for n in batch), f"batch is {batch!r}, not three positive numbers"),
        (targets and all(isinstance(t, str) for t in targets), f"targets is {targets!r}, not a list of names"),
        (_is_plugin(values["plugin"], spec_of_plan.decoder), f"plugin is {values['plugin']!r}, not a name, version and sha256"),
        (all(kind in COMPATIBILITIES for kind in kinds), f"compatibility is {kinds!r}, not a list of {', '.join(COMPATIBILITIES)}"),
        (types is None or _counts(types), f"engine_types is {types!r}, not numbers by data type"),
        (all(_counts(by_type) for by_type in layers.values()), f"layers is {layers!r}, not numbers by layer and data type"),
    ):
        if not ok:
            raise ValueError(what)
    return {**values, "spec": spec_of_plan, "batch": tuple(batch), "targets": tuple(targets), "compatibility": tuple(kinds)}


def _check_kinds(of: type[Any], values: Mapping[str, Any]) -> None:
    """Compares values with the annotations of the fields; bool is an int in Python, but nothing here is one."""
    for f in fields(of):
        value = values[f.name]
        if isinstance(value, bool) or not isinstance(value, _KINDS[str(f.type)]):
            raise ValueError(f"{f.name} is {value!r}, not of the type {f.type}")


def _is_plugin(plugin: Any, decoder: str) -> bool:
    if plugin is None:
        return decoder != "plugin"
    return set(plugin) == {"name", "version", "sha256"} and all(isinstance(v, str) for v in plugin.values())


def _counts(types: Any) -> bool:
    return isinstance(types, dict) and all(type(n) is int for n in types.values())
