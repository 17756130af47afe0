"""The results as a picture: grouped bars on a logarithmic scale, as an SVG file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 1000, 380, 60, 56, 40
COLORS = ("#9aa5b1", "#0b7285", "#1098ad", "#66d9e8", "#e8590c", "#f08c00", "#ae3ec9", "#868e96")


def _scale(value: float, low: float, high: float) -> float:
    """The height of a value, from the bottom up."""
    return (
        (math.log10(value) - math.log10(low)) / (math.log10(high) - math.log10(low)) * (HEIGHT - TOP - BOTTOM)
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", size: int = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{text}</text>'


def _grid(low: float, high: float) -> list[str]:
    parts = []
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y = HEIGHT - BOTTOM - _scale(10**power, low, high)
        line = f'x1="{LEFT}" x2="{WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}"'
        parts += [f'<line {line} stroke="#dee2e6"/>', _text(LEFT - 6, y + 4, f"{10**power:g} ns", "end")]
    return parts


def _legend(names: Sequence[str]) -> list[str]:
    parts = []
    for place, name in enumerate(names):
        x, y = LEFT + place * (WIDTH - LEFT) / len(names), HEIGHT - 14
        parts.append(
            f'<rect x="{x:.1f}" y="{y - 9}" width="10" height="10" fill="{COLORS[place % len(COLORS)]}"/>'
        )
        parts.append(_text(x + 14, y, name, "start"))
    return parts


def bars(path: Path, title: str, groups: Sequence[str], series: dict[str, Sequence[float]]) -> None:
    """Draw one group of bars for every name in `groups`. Values are nanoseconds."""
    values = [value for each in series.values() for value in each]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))
    group_width = (WIDTH - LEFT - 20) / len(groups)
    bar = group_width * 0.85 / len(series)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 16, title, "start", 13),
        *_grid(low, high),
    ]
    for at, name in enumerate(groups):
        x = LEFT + at * group_width
        parts.append(_text(x + group_width * 0.43, HEIGHT - BOTTOM + 16, name))
        for place, each in enumerate(series.values()):
            height = _scale(each[at], low, high)
            left, top = x + place * bar, HEIGHT - BOTTOM - height
            box = f'x="{left:.1f}" y="{top:.1f}" width="{bar * 0.9:.1f}" height="{height:.1f}"'
            parts.append(f'<rect {box} fill="{COLORS[place % len(COLORS)]}"/>')
            parts.append(_text(left + bar * 0.45, top - 3, f"{each[at]:.{int(each[at] < 10)}f}", size=8))
    path.write_text("\n".join([*parts, *_legend(list(series)), "</svg>", ""]), encoding="utf-8")
