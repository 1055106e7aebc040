"""A comparison as one HTML file that needs nothing else: no script, no link, pictures inside."""

from __future__ import annotations

import base64
import math
from html import escape
from typing import TYPE_CHECKING, Any

from keyposs_trt.evaluation.compare_plots import plot_curves, plot_latency, plot_nme, worst_sheets
from keyposs_trt.evaluation.compare_record import columns, layer_numbers, layered, to_tree, worst_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyposs_trt.evaluation.comparison import Comparison

_STYLE = """\
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; margin: 0 auto; padding: 1rem; max-width: 78rem; }
h1 { font-size: 1.4rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.wide { overflow-x: auto; border: 1px solid #ddd; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .85rem; }
th, td { padding: .35rem .6rem; text-align: left; border-bottom: 1px solid #e6e6e6; white-space: nowrap; }
thead th { background: #f4f4f4; }
td.n, th.n { text-align: right; }
td.v { white-space: normal; min-width: 9rem; font-weight: 600; }
tr.pass td.v { background: #e2f3e5; color: #10501c; } tr.fail td.v { background: #fbdcdc; color: #8a0f0f; }
tr.error td.v { background: #fdebd0; color: #7a4100; } tr.reference td.v { background: #eee; color: #444; }
.facts th { background: none; width: 8rem; vertical-align: top; } .facts td { white-space: normal; }
figure { margin: 0 0 1.5rem; } img { max-width: 100%; height: auto; } figcaption { color: #555; font-size: .85rem; }
.met { font-weight: 700; padding: .5rem .8rem; border-radius: 6px; } .met.yes { background: #e2f3e5; } .met.no { background: #fbdcdc; }
li { margin: .25rem 0; }
"""


def to_html(found: Comparison) -> str:
    """The report.

    Raises:
        BackendError: matplotlib is not installed.
    """
    tree = to_tree(found)
    wrong = sum(not row.verdict.met for row in found.rows)
    word = "Every row passes." if not wrong else f"{wrong} of {len(found.rows)} rows do not pass."
    parts = [
        f"<h1>Comparison of {len({row.model for row in found.rows})} models on {escape(tree['data']['name'])}</h1>",
        f'<p class="met {"no" if wrong else "yes"}">{word}</p>',
        _facts(found, tree),
        "<h2>Verdicts</h2>",
        _table(found),
        f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in tree['notes'])}</ul>",
        *_plots(found),
        *_layers(found),
        "<h2>Worst faces side by side</h2>",
        "<p>Annotated points are green, those of the model red, with a yellow line between the two. Of each model: the two faces with the "
        "largest NME, then the two whose landmarks move most; a column for each precision.</p>",
        *(_picture(data, "jpeg", title, title) for title, data in worst_sheets(found)),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>keyposs-trt compare: {escape(tree['data']['name'])}</title><style>{_STYLE}</style>"
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _facts(found: Comparison, tree: dict[str, Any]) -> str:
    machine, data, gates = tree["machine"], tree["data"], found.options.gates
    facts = {
        "date": tree["created"].replace("T", " ").replace("+00:00", " UTC"),
        "tool": tree["tool"],
        "machine": f"{machine['cpu']}, {machine['gpu'] or 'no NVIDIA GPU'}, {machine['system']}, Python {machine['python']}",
        "data set": f"{data['name']} (format {data['format']}), {data['faces']} faces, scheme {data['scheme']}",
        "boxes": found.boxes,
        "norm": found.norm,
        "limits": "; ".join((_limits("NME over FP32, points", gates.increase), _limits("drift p99, pixels", gates.drift))),
    }
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in facts.items())
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _limits(what: str, limits: dict[str, float]) -> str:
    return f"{what}: {', '.join(f'{k} {v:g}' for k, v in limits.items()) or 'none'}"


def _table(found: Comparison) -> str:
    heads, rows = columns(found)
    texts = (*range(4), len(heads) - 2, len(heads) - 1)
    lines = []
    for row, cells in zip(found.rows, rows, strict=True):
        kinds = ["v" if i == len(heads) - 1 else "" if i in texts else "n" for i in range(len(heads))]
        lines.append(f'<tr class="{row.verdict.kind}">{"".join(map(_cell, cells, kinds))}</tr>')
    top = "".join(f'<th class="{"" if i in texts else "n"}">{escape(head)}</th>' for i, head in enumerate(heads))
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _cell(text: str, kind: str) -> str:
    return f'<td class="{kind}">{escape(text)}</td>'


def _plots(found: Comparison) -> list[str]:
    first = found.options.decoders[0]
    parts = ["<h2>Accuracy by precision and resolution</h2>"]
    best = [row for row in found.rows if not math.isnan(row.nme)]
    caption = f"Above: mean NME of each model. Below: what a precision costs over FP32 on the same {best[0].faces} faces, with the limits."
    parts.append(_picture(plot_nme(found), "png", "NME by precision and resolution", caption))
    parts.append("<h2>Cumulative error distribution</h2>")
    parts.append(_picture(plot_curves(found), "png", "CED curves", f"Share of faces with an NME up to each value, decoder {first}."))
    parts.append("<h2>Accuracy against latency</h2>")
    latency = plot_latency(found)
    if latency is None:
        parts.append("<p>No time was measured; --latency times FP32 on the CPU, and engines where they run.</p>")
    else:
        parts.append(_picture(latency, "png", "NME against latency", "The model alone, one face in a call, on the machine named above."))
    return parts


def _layers(found: Comparison) -> list[str]:
    shown = layered(found)
    if not shown:
        return []
    parts = [
        "<h2>Layers that drift most</h2><p>Relative: root mean square of the difference over that of FP32, by Polygraphy's comparator.</p>"
    ]
    for row in shown:
        lines = [
            "".join(_cell(text, "") for text in (layer.layer, layer.operator)) + _numbers(layer_numbers(layer))
            for layer in worst_layers(row)
        ]
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        heads = "".join(f"<th>{head}</th>" for head in ("layer", "operator", "relative", "mean", "largest"))
        parts.append(f"<h3>{escape(row.model)}, {escape(row.precision)}</h3>")
        parts.append(f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>')
    return parts


def _numbers(cells: Sequence[str]) -> str:
    return "".join(_cell(text, "n") for text in cells)


def _picture(data: bytes, kind: str, name: str, caption: str) -> str:
    code = base64.b64encode(data).decode()
    return f'<figure><img alt="{escape(name)}" src="data:image/{kind};base64,{code}"><figcaption>{escape(caption)}</figcaption></figure>'
