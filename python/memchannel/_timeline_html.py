"""A trace as a page for notebooks: no network, and without JavaScript still a picture."""

from __future__ import annotations

import html
import itertools
import time
from typing import TYPE_CHECKING

from memchannel._activity import activities
from memchannel._timeline import COLORS, LABELS, OTHER_TASK, Bar, Row, arrows, row_name, rows, short_time

if TYPE_CHECKING:
    from memchannel._trace import Trace

__all__ = ["timeline_html"]

MOST_BARS = 1_000
"""Of a kind in one row: each takes about 200 bytes of the notebook's file."""
_numbers = itertools.count()
_WIDTH = 1000  # of the whole time, in the picture's own units
_ROW, _BAR, _THIN = 26, 20, 8

# Zooming changes what part of the picture the view box shows: no bar is touched.
_SCRIPT = """\
(() => {
  const root = document.getElementById("@ID@");
  if (!root) return;
  const [svg, axis, told] = ["svg", ".axis", ".told"].map(name => root.querySelector(name));
  const full = @WIDTH@, height = @HEIGHT@, seconds = @SECONDS@;
  let left = 0, width = full;
  const time = s => {
    if (!s) return "0 s";
    const [size, unit] = s >= 1 ? [1, "s"] : s >= 1e-3 ? [1e3, "ms"] : [1e6, "\\u00b5s"];
    return (s * size).toPrecision(4) + " " + unit;
  };
  const show = () => {
    width = Math.min(full, Math.max(full * 1e-6, width));
    left = Math.min(full - width, Math.max(0, left));
    svg.setAttribute("viewBox", `${left} 0 ${width} ${height}`);
    axis.querySelectorAll("span").forEach((mark, i, all) => {
      mark.textContent = time((left + width * i / (all.length - 1)) / full * seconds);
    });
  };
  const place = event => {
    const box = svg.getBoundingClientRect();
    return (event.clientX - box.left) / box.width;
  };
  svg.addEventListener("wheel", event => {
    event.preventDefault();
    const at = place(event), fixed = left + at * width;
    width *= Math.exp(event.deltaY * 0.002);
    width = Math.min(full, Math.max(full * 1e-6, width));
    left = fixed - at * width;
    show();
  }, {passive: false});
  let grip = null;
  svg.addEventListener("pointerdown", event => { grip = left + place(event) * width; });
  window.addEventListener("pointerup", () => { grip = null; });
  svg.addEventListener("pointermove", event => {
    const title = event.target.querySelector && event.target.querySelector("title");
    if (event.target !== svg && title) told.textContent = title.textContent;
    if (grip === null) return;
    left = grip - place(event) * width;
    show();
  });
  svg.addEventListener("dblclick", () => { left = 0; width = full; show(); });
  show();
})();
"""


def _position(ns: int, duration: int) -> float:
    return _WIDTH * ns / duration


def _rectangle(bar: Bar, number: int, top: int, duration: int) -> str:
    height = _THIN if bar.kind == "for owner" else _BAR
    color = OTHER_TASK if bar.kind == "task" and number % 2 else COLORS[bar.kind]
    left, right = _position(bar.begin, duration), _position(bar.end, duration)
    return (
        f'<rect class="{bar.kind.replace(" ", "-")}" x="{left:.7g}" width="{right - left:.7g}" '
        f'y="{top + (_ROW - height) / 2:g}" height="{height}" fill="{color}">'
        f"<title>{html.escape(bar.text)}</title></rect>"
    )


def _picture(trace: Trace, drawn: list[Row], duration: int) -> str:
    shapes = []
    top = {}
    for position, row in enumerate(drawn):
        top[row.interpreter] = position * _ROW
        shapes += [_rectangle(bar, number, position * _ROW, duration) for number, bar in enumerate(row.bars)]
    for send, recv in arrows(trace):
        begin = _position(send.begin, duration)
        end = _position(max(send.begin, recv.end), duration)
        text = f"message: {recv.messages} received, {recv.nbytes} bytes, channel {recv.channel}"
        shapes.append(
            f'<line x1="{begin:.7g}" y1="{top[send.interpreter] + _ROW / 2:g}" x2="{end:.7g}" '
            f'y2="{top[recv.interpreter] + _ROW / 2:g}" stroke="#444" stroke-opacity="0.6" '
            f'vector-effect="non-scaling-stroke"><title>{html.escape(text)}</title></line>'
        )
    height = _ROW * len(drawn)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none" '
        f'style="width:100%;height:{height}px;background:#f6f6f6;cursor:grab;touch-action:none">'
        f"{''.join(shapes)}</svg>"
    )


def _legend() -> str:
    return " ".join(
        f'<span style="border-left:1em solid {COLORS[kind]};padding:0 1em 0 .3em">{text}</span>'
        for kind, text in LABELS.items()
    )


def timeline_html(trace: Trace) -> str:
    """Draw a timeline that the wheel zooms, dragging moves and a double click shows whole again."""
    duration = max(1, round(trace.seconds * 1e9))
    drawn = rows(trace, activities(trace), MOST_BARS)
    identity = f"memchannel-trace-{time.time_ns():x}-{next(_numbers)}"
    names = "".join(
        f'<div style="height:{_ROW}px;line-height:{_ROW}px;white-space:nowrap">'
        f"{row_name(row.interpreter)}</div>"
        for row in drawn
    )
    marks = "".join(f"<span>{short_time(duration * part / 4)}</span>" for part in range(5))
    lost = f", {trace.dropped} after the limit dropped" if trace.dropped else ""
    script = (
        _SCRIPT.replace("@ID@", identity)
        .replace("@WIDTH@", str(_WIDTH))
        .replace("@HEIGHT@", str(_ROW * len(drawn)))
        .replace("@SECONDS@", repr(duration / 1e9))
    )
    return (
        f'<div id="{identity}" class="memchannel-trace" '
        'style="font-size:12px;color:#222;background:#fff;padding:6px">'
        f"<div>{short_time(duration)}, {len(trace.events)} events{lost}. {_legend()}</div>"
        f'<div style="display:flex;gap:8px;margin:4px 0"><div>{names}</div><div style="flex:1;min-width:0">'
        f"{_picture(trace, drawn, duration)}"
        f'<div class="axis" style="display:flex;justify-content:space-between">{marks}</div></div></div>'
        '<div class="told" style="min-height:1.4em">wheel: zoom; drag: move; double click: all; '
        "point at a bar for what it is</div>"
        f"<script>{script}</script></div>"
    )
