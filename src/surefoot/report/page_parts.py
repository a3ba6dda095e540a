"""Parts of the report: tables, warnings, adaptation by task, options, versions and pictures, as HTML."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import MaxNLocator

from surefoot.experiment import PRESETS, preset
from surefoot.experiment.serialise import flat_options
from surefoot.report.comparing import COLOURS
from surefoot.report.finished import FinishedRun, Group, shown_value

_REFUSED, _LAST = 0.1, 0.25
"""Share of refused steps that is worth a warning; share of the iterations, the last, that one looks at."""
_MAY_BE_UNKNOWN = {"return", "episode_length", "explained_variance", "steps_per_second"}
"""Metrics that are null without anything being wrong: before the first episode ends, where all returns are
alike, or after a resume."""
_DASHES = (None, [8, 4], [2, 3], [8, 3, 2, 3])
_MEDIA = {".png": "image/png", ".gif": "image/gif"}
ADVICE = {
    "not-finite": (
        "A loss or a metric was not finite",
        "Lower the learning rates, --rule.max-kl or --outer.max-kl, and look for rewards and observations "
        "that are not finite: surefoot check env.",
    ),
    "refused": (
        "Many steps were refused",
        "The direction is fitted to noise, or damped too little: raise --rule.damping (--outer.damping) to "
        "0.1, or take larger batches.",
    ),
    "variance": (
        "The baseline explains nothing",
        "Try --normalisation.observations, --normalisation.rewards, or another --estimation.baseline. (Where "
        "all returns are alike there is nothing to explain.)",
    ),
}
"""For each warning its title and what to do, as docs/guides/reading_a_run.md has it."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = (0,)) -> str:
    """A table of cells that are HTML already; columns in `text` are set to the left."""
    kinds = [' class="text"' if i in text else "" for i in range(len(head))]
    cells = "".join(f'<th scope="col"{kind}>{name}</th>' for name, kind in zip(head, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    content = f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{content}</div>'


def look(index: int) -> dict[str, Any]:
    """The colour of a group, as a variable of the page's style, and its dash, in pixels drawn and left out by
    turns: None is a solid line."""
    beyond, colour = divmod(index, len(COLOURS))
    return {"colour": f"--series-{colour + 1}", "dash": _DASHES[beyond % len(_DASHES)]}


def key(look: Mapping[str, Any], label: str) -> str:
    """A label with its colour and dash beside it."""
    colour, ends = f"var({look['colour']})", np.cumsum(look["dash"] or [1, 0])
    parts = [f"{'transparent' if i % 2 else colour} 0 {end}px" for i, end in enumerate(ends)]
    line = f"repeating-linear-gradient(90deg, {', '.join(parts)})"
    return f'<span class="key" style="background:{line}"></span>{escape(label)}'


def warnings_of(run: FinishedRun) -> Iterator[tuple[str, str]]:
    """The key of an advice, and what was seen, for each warning of a run."""
    rows = run.metrics
    unknown = sorted({name for row in rows for name, x in row.items() if x is None} - _MAY_BE_UNKNOWN)
    if unknown:
        yield "not-finite", ", ".join(unknown)
    accepted = [row["step_accepted"] for row in rows if row.get("step_accepted") is not None]
    refused = 1 - float(np.mean(accepted)) if accepted else 0.0
    if refused > _REFUSED:
        yield "refused", f"{refused:.0%} of {len(accepted)} steps"
    late = rows[-max(1, int(_LAST * len(rows))) :]
    explained = [row["explained_variance"] for row in late if row.get("explained_variance") is not None]
    if explained and np.mean(explained) <= 0:
        yield "variance", f"explained variance {np.mean(explained):.2f} in the last {len(late)} iterations"


def warnings_section(runs: Sequence[FinishedRun], notes: Sequence[str]) -> str:
    """All warnings, each with its advice."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for kind, seen in warnings_of(run):
            found.setdefault(kind, []).append(f"{run.path}: {seen}")
    parts = [f'<p class="warning">{escape(note)}</p>' for note in notes]
    for kind, seen in found.items():
        title, advice = ADVICE[kind]
        listed = "".join(f"<li>{escape(one)}</li>" for one in seen)
        parts.append(f'<div class="warning"><h3>{title}</h3><ul>{listed}</ul><p>{escape(advice)}</p></div>')
    return "".join(parts) or "<p>None.</p>"


def draw_tasks(
    before: Float[np.ndarray, " task"],
    after: Float[np.ndarray, "seed task"],
    look: Mapping[str, Any],
    label: str,
) -> str:
    """An SVG: for each task a line from its mean return before adaptation to that after it, and after it the
    range over seeds. A task's values are its tooltip."""
    middle = after.mean(axis=0)
    order = np.argsort(middle)
    width, height, left, foot = max(380, 14 * len(order) + 60), 220, 50, 190
    low, high = (float(f([f(before), f(after)])) for f in (np.min, np.max))
    scale = (foot - 15) / max(high - low, 1e-12)

    def y(value: float) -> float:
        return round(foot - (value - low) * scale, 1)

    marks = []
    for i, task in enumerate(order):
        x = left + 14 * i + 10
        a, b = float(before[task]), float(middle[task])
        ends = float(after[:, task].min()), float(after[:, task].max())
        tip = f"task {task}: {a:.2f} before, {b:.2f} after" + (
            f" ({ends[0]:.2f} to {ends[1]:.2f} over {len(after)} seeds)" if len(after) > 1 else ""
        )
        marks.append(
            f"<g><title>{tip}</title>"
            f'<line x1="{x}" x2="{x}" y1="{y(a)}" y2="{y(b)}" stroke-opacity=".45"/>'
            f'<line x1="{x}" x2="{x}" y1="{y(ends[0])}" y2="{y(ends[1])}" stroke-width="5" '
            f'stroke-opacity=".45"/><circle cx="{x}" cy="{y(a)}" r="2.5" fill="none"/>'
            f'<circle cx="{x}" cy="{y(b)}" r="3" stroke="none"/></g>'
        )
    ticks = "".join(
        f'<text x="{left - 6}" y="{y(v) + 4}" text-anchor="end">{v:g}</text>'
        f'<line class="axis" x1="{left}" x2="{width}" y1="{y(v)}" y2="{y(v)}"/>'
        for v in MaxNLocator(4).tick_values(low, high)
        if low <= v <= high
    )
    caption = f"{label}: return of each held-out task before (ring) and after adaptation (dot)"
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    foot_line = f'<text x="{left}" y="212">mean return of tasks, sorted by the one after adaptation</text>'
    colour = f"stroke:var({look['colour']}); fill:var({look['colour']})"
    tasks = f'<g style="{colour}">{"".join(marks)}</g>'
    drawing = f'<svg role="img" aria-label="{escape(caption)}" {size}>{ticks}{tasks}{foot_line}</svg>'
    below = f"<figcaption>{key(look, caption)}</figcaption>"
    return f'<figure><div class="scroll" tabindex="0">{drawing}</div>{below}</figure>'


def options_section(groups: Sequence[Group]) -> str:
    """For each group what differs from its preset and from the other groups; all options below it."""
    parts = []
    for group in groups:
        run = group.runs[0]
        name = run.config.preset
        usual = flat_options(preset(name)) if name in PRESETS else {}
        rows = []
        for option, value in run.options.items():
            differs = bool(usual) and repr(usual.get(option)) != repr(value)
            if differs or option in group.differences:
                origin = shown_value(usual.get(option)) if usual else "unknown"
                rows.append(
                    (escape(option), f"<strong>{escape(shown_value(value))}</strong>", escape(origin))
                )
        heading = f"<h3>{escape(group.label)}: {escape(name)}</h3>"
        same = "As the preset has it." if usual else "There is no preset to compare with."
        changed = table(("option", "value", "preset"), rows) if rows else f"<p>{same}</p>"
        whole = table(
            ("option", "value"), [(escape(k), escape(shown_value(v))) for k, v in run.options.items()]
        )
        parts.append(f"{heading}{changed}<details><summary>All options</summary>{whole}</details>")
    return "".join(parts)


def versions_section(runs: Sequence[FinishedRun]) -> str:
    """Versions, commit, machine and command of each run, where they do not repeat."""
    seen: dict[str, list[str]] = {}
    for run in runs:
        path = run.path / "provenance.json"
        try:
            (*_, entry) = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            entry = {}
        facts = {
            **entry.get("versions", {}),
            "commit": entry.get("commit") or "unknown",
            "machine": entry.get("machine", "unknown"),
            "cores": entry.get("cores", "unknown"),
            "devices": ", ".join(entry.get("devices", [])) or "unknown",
            "command": " ".join(entry.get("command", [])) or "unknown",
        }
        seen.setdefault(json.dumps(facts), []).append(str(run.path))
    parts = []
    for text, paths in seen.items():
        facts: Mapping[str, Any] = json.loads(text)
        rows = [(escape(name), escape(str(value))) for name, value in facts.items()]
        parts.append(f"<h3>{escape(', '.join(paths))}</h3>{table(('what', 'value'), rows, (0, 1))}")
    return "".join(parts)


def pictures_section(runs: Sequence[FinishedRun], budget: int) -> str:
    """Pictures of the runs, as many as fit into `budget` bytes of the page; the others are named."""
    parts, left_out, seen = [], [], set()
    for run in runs:
        beside = [run.path.parent / "seeds.png"] if run.path.name.startswith("seed") else []
        own = [run.path / name for name in ("adaptation.png", "learning.png", "timeline.png")]
        for path in [*beside, *own, *sorted((run.path / "videos").glob("*.gif"))]:
            if not path.is_file() or path in seen:
                continue
            seen.add(path)
            content = base64.b64encode(path.read_bytes()).decode()
            if len(content) > budget:
                left_out.append(str(path))
                continue
            budget -= len(content)
            source = f"data:{_MEDIA[path.suffix]};base64,{content}"
            parts.append(
                f'<figure><img src="{source}" alt="Picture of {escape(str(run.path))}" loading="lazy">'
                f"<figcaption>{escape(str(path))}</figcaption></figure>"
            )
    if left_out:
        listed = "".join(f"<li>{escape(path)}</li>" for path in left_out)
        parts.append(f"<p>Left out, for the page would be too large:</p><ul>{listed}</ul>")
    return "".join(parts) or "<p>None.</p>"
