"""What a calibration run did, as JSON and as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keyposs_trt.calibration.macs import multiply_adds
from keyposs_trt.graph import expand_weights
from keyposs_trt.graph.placement import weighted_nodes
from keyposs_trt.graph.qdq import network_of

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from keyposs_trt.calibration.sensitivity import Decision
    from keyposs_trt.graph.calibration_file import Calibration


def to_record(
    calibration: Calibration,
    model: onnx.ModelProto,
    quantised: onnx.ModelProto,
    output: Path,
    ranges: Path,
    cache: str | None,
    decision: Decision | None,
) -> dict[str, Any]:
    """Everything that was done, ready for JSON; ``quantised`` is the model made, written to ``output`` already."""
    graph = network_of(model).graph
    layers = _int8_layers(quantised.graph)
    kept = [n.name for n in weighted_nodes(graph) if n.name not in layers]
    macs = multiply_adds(graph)
    total = sum(macs.values())
    size = len(expand_weights(model).SerializeToString())
    return {
        "model": calibration.model,
        "output": str(output),
        "calibration": str(ranges),
        "cache": cache,
        "method": calibration.method,
        "percentile": calibration.percentile,
        "source": calibration.source,
        "samples": calibration.samples,
        "set_sha256": calibration.set_sha256,
        "layers_int8": len(layers),
        "layers_kept": kept,
        "int8_share": sum(macs.get(n, 0) for n in layers) / total if total else None,
        "bytes": output.stat().st_size,
        "bytes_fp32": size,
        "accuracy": calibration.accuracy,
        "decision": None if decision is None else decision.to_record(),
    }


def _int8_layers(graph: onnx.GraphProto) -> list[str]:
    """The weighted operators that take dequantised input: what was done, whoever placed the nodes."""
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return [node.name for node in weighted_nodes(graph) if node.input[0] in dequantised]


def to_lines(record: dict[str, Any]) -> list[str]:
    """What was done for a reader."""
    kept = len(record["layers_kept"])
    method = record["method"] + (f" {record['percentile']:g}" if record["percentile"] is not None else "")
    share = "" if record["int8_share"] is None else f", {100 * record['int8_share']:.1f} % of the multiply-adds"
    lines = [
        f"{record['output']}  {record['bytes'] / 1e6:.2f} MB, {100 * record['bytes'] / record['bytes_fp32']:.0f} % of FP32",
        f"{record['calibration']}  {method} over {record['samples']} crops of {record['source']}",
        f"{record['layers_int8']} layers in INT8{share}; {kept} in FP16",
    ]
    found = record["accuracy"]
    if found:
        cost = 100 * (found["nme_int8"] - found["nme_fp32"])
        lines.append(
            f"NME {100 * found['nme_int8']:.3f} %, FP32 {100 * found['nme_fp32']:.3f} %: "
            f"{cost:+.3f} points on {found['faces']} faces of {found['data']}"
        )
    lines.append(f"Next: keyposs-trt build {record['output']} --precision int8")
    return lines
