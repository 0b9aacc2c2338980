"""The README's tables out of the kept results: `python -m bench.tables` prints them."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def tables() -> str:
    """Give both tables as Markdown, with machine, date and the disk's flush time."""
    audit, modes = _read("audit"), _read("modes")
    return "\n\n".join([_place(audit, modes), _audit(audit), _modes(modes)])


def _read(name: str) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return results


def _place(results: dict[str, Any], others: dict[str, Any]) -> str:
    return (
        f"Measured on {results['date']} ({results['machine']}, shared with the load generator; Python"
        f" {results['python']}; one flush of the disk takes {results['flush_ms']:.2f} ms): medians of"
        f" {results['rounds']} and {others['rounds']} alternating rounds, ratios taken round by round, least and"
        " greatest in brackets."
    )


def _audit(results: dict[str, Any]) -> str:
    rows = ["| callers | audited, durable | p50 / p99 | unaudited | ratio |", "|---|---|---|---|---|"]
    for callers, figures in results["callers"].items():
        audited, plain = figures["audited"], figures["unaudited"]
        rows.append(
            f"| {callers} | {audited['median']:.0f}/s | {audited['p50_ms']:.1f} / {audited['p99_ms']:.1f} ms"
            f" | {plain['median']:.0f}/s | {_ratio(figures['ratio'])} |"
        )
    return "\n".join(rows)


def _modes(results: dict[str, Any]) -> str:
    names = list(next(iter(results["callers"].values())))
    rows = [f"| callers | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for callers, found in results["callers"].items():
        cells = [f"{found[name]['median']:.0f}/s: {_ratio(found[name]['ratio'])}" for name in names]
        rows.append(f"| {callers} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _ratio(ratio: list[float]) -> str:
    middle, least, greatest = ratio
    return f"{middle:.2f} ({least:.2f}-{greatest:.2f})"


if __name__ == "__main__":
    print(tables())
