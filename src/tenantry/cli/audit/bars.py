"""Stacked bars as an SVG picture that needs nothing else, in light and in dark."""

from dataclasses import dataclass
from html import escape

_WIDTH, _LABEL, _ROW, _TOP = 900, 300, 26, 64
_FILL = 460
"""Pixels of the longest bar."""
# Told apart by people who see colours differently, too; in this order.
_COLOURS = ("#0072b2", "#d55e00", "#e69f00", "#cc79a7", "#56b4e9", "#009e73", "#999999")
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.title{font-size:16px;font-weight:600}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}}"
)
MAX_ROWS = 200


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: its name, and its parts by theirs."""

    name: str
    parts: dict[str, int]

    @property
    def total(self) -> int:
        """The whole length."""
        return sum(self.parts.values())


def bars(rows: list[Bar], *, title: str) -> str:
    """Draw rows, the first `MAX_ROWS` of them by their length, with a legend."""
    rows = sorted(rows, key=lambda row: -row.total)[:MAX_ROWS]
    totals = {name: sum(row.parts.get(name, 0) for row in rows) for row in rows for name in row.parts}
    names = sorted(totals, key=lambda name: -totals[name])
    colours = {name: _COLOURS[min(number, len(_COLOURS) - 1)] for number, name in enumerate(names)}
    scale = _FILL / max((row.total for row in rows), default=1)
    drawn = [_row(row, _TOP + number * _ROW, names, colours, scale) for number, row in enumerate(rows)]
    height = _TOP + len(rows) * _ROW + 16
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style>"
        f'<text class="title" x="12" y="24">{_text(title)}</text>{_legend(names, colours)}{"".join(drawn)}</svg>\n'
    )


def _legend(names: list[str], colours: dict[str, str]) -> str:
    parts, x = [], 12
    for name in names:
        parts.append(f'<rect x="{x}" y="38" width="12" height="12" fill="{colours[name]}"/>')
        parts.append(f'<text x="{x + 17}" y="49">{_text(name)}</text>')
        x += 34 + 8 * len(name)
    return "".join(parts)


def _row(row: Bar, y: int, names: list[str], colours: dict[str, str], scale: float) -> str:
    parts = [f'<text x="{_LABEL}" y="{y + 15}" text-anchor="end">{_text(row.name)}</text>']
    x = _LABEL + 10.0
    for name in names:
        if name in row.parts:
            width = row.parts[name] * scale
            parts.append(
                f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="16" fill="{colours[name]}">'
                f"<title>{_text(name)}: {row.parts[name]}</title></rect>"
            )
            x += width
    parts.append(f'<text x="{x + 6:.1f}" y="{y + 15}">{row.total}</text>')
    return "".join(parts)


def _text(value: str) -> str:
    shown = "".join(character if character.isprintable() else "\ufffd" for character in value)
    return escape(shown if len(shown) <= 40 else shown[:39] + "…")
