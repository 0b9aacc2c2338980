"""Line plots as SVG: the figures of a benchmark over what was varied, with the spread of the rounds as whiskers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 190, 46, 52
# Told apart by people who see colours differently, too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f7f7f")
FONT = 'font-family="sans-serif" font-size="13"'
STEPS = (1, 2, 2.5, 5, 10)
TICKS = 5


@dataclass(frozen=True, slots=True)
class Point:
    """One figure, and the least and greatest of its rounds."""

    middle: float
    least: float
    greatest: float


def step(greatest: float) -> float:
    """Give the distance of the ticks of an axis from 0 to `greatest`: round, and some five of them."""
    if greatest <= 0:
        return 1.0
    magnitude = 10.0 ** math.floor(math.log10(greatest / TICKS))
    return next(magnitude * each for each in STEPS if magnitude * each * TICKS >= greatest * (1 - 1e-9))


def lines(title: str, *, across: str, up: str, at: Sequence[str], series: Mapping[str, Sequence[Point | None]]) -> str:
    """Give an SVG document with a line for each series, a point for each name in `at`; None leaves one out.

    `across` and `up` say what the axes are. Raises ValueError where a series has another number of points.
    """
    if any(len(points) != len(at) for points in series.values()):
        raise ValueError("a series has a point, or None, for each place")
    every = [point for points in series.values() for point in points if point is not None]
    distance = step(max((point.greatest for point in every), default=1.0))
    top = distance * max(1, math.ceil(max((point.greatest for point in every), default=1.0) / distance - 1e-9))

    def x(place: int) -> float:
        return LEFT + (place + 0.5) * (WIDTH - LEFT - RIGHT) / max(1, len(at))

    def y(figure: float) -> float:
        return HEIGHT - BOTTOM - figure / top * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 24, title, weight="bold"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, across, anchor="middle"),
        _text(LEFT, TOP - 6, up),
    ]
    for number in range(round(top / distance) + 1):
        height = y(number * distance)
        parts.append(_line(LEFT, height, WIDTH - RIGHT, height, "#dddddd"))
        parts.append(_text(LEFT - 8, height + 4, f"{number * distance:g}", anchor="end"))
    parts += [_text(x(place), HEIGHT - BOTTOM + 20, name, anchor="middle") for place, name in enumerate(at)]
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        placed = [(x(place), point) for place, point in enumerate(points) if point is not None]
        path = " ".join(f"{left:.1f},{y(point.middle):.1f}" for left, point in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for left, point in placed:
            parts.append(_line(left, y(point.least), left, y(point.greatest), colour))
            parts.append(f'<circle cx="{left:.1f}" cy="{y(point.middle):.1f}" r="3.5" fill="{colour}"/>')
        parts.append(_line(WIDTH - RIGHT + 14, TOP + 22 * number, WIDTH - RIGHT + 34, TOP + 22 * number, colour))
        parts.append(_text(WIDTH - RIGHT + 40, TOP + 22 * number + 4, name))
    return "\n".join([*parts, "</svg>", ""])


def write(path: Path, document: str) -> Path:
    """Write a plot and give its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document)
    return path


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    attributes = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f"<text {attributes}>{escape(text)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="1.5"/>'
