"""Graphs as SVG, drawn by classes alone, so that a page that allows no inline style can show them."""

from collections.abc import Mapping
from html import escape

from shared.accounts.facts import Balance
from shared.accounts.words import number
from shared.filters import Spread, Threshold

_WIDTH, _HEIGHT = 288, 96
_ROW, _LABEL, _BARS = 26, 130, 300


def histogram(spread: Spread, filters: Mapping[str, Threshold]) -> str:
    """How a measure is spread; what a filter leaves out is drawn apart."""
    highest, step = max(spread.bins), _WIDTH / len(spread.bins)
    span = spread.highest - spread.lowest
    bars = []
    for place, count in enumerate(spread.bins):
        if not count:
            continue
        middle = spread.lowest + span * (place + 0.5) / len(spread.bins)
        threshold = filters.get(spread.measure)
        kind = "bar" if threshold is None or threshold.passes(middle) else "bar out"
        height = max(1.0, count / highest * _HEIGHT)
        bars.append(
            f'<rect class="{kind}" x="{place * step:.1f}" y="{_HEIGHT - height:.1f}" width="{step - 1:.1f}" '
            f'height="{height:.1f}"><title>{count:,} near {number(spread.measure, middle)}</title></rect>'
        )
    low, high = (number(spread.measure, value) for value in (spread.lowest, spread.highest))
    at = _WIDTH / 2 if not span else (spread.median - spread.lowest) / span * _WIDTH
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 20}" role="img" aria-label="from {low} to {high}, median '
        f'{number(spread.measure, spread.median)}">{"".join(bars)}'
        f'<line class="median" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{_HEIGHT}"/>'
        f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>'
        f'<text x="0" y="{_HEIGHT + 15}">{low}</text>'
        f'<text class="end" x="{_WIDTH}" y="{_HEIGHT + 15}">{high}</text></svg>'
    )


def balance(classes: Mapping[str, Balance]) -> str:
    """Labelled objects of each class, before and after."""
    most = max((each.after for each in classes.values()), default=0) or 1
    rows = []
    for place, (name, each) in enumerate(classes.items()):
        y = place * _ROW
        before, after = (value / most * _BARS for value in (each.before, each.after))
        rows.append(
            f'<text class="name" x="{_LABEL - 8}" y="{y + 16}">{escape(_short(name))}</text>'
            f'<rect class="bar new" x="{_LABEL}" y="{y + 4}" width="{after:.1f}" height="16"/>'
            f'<rect class="bar" x="{_LABEL}" y="{y + 4}" width="{before:.1f}" height="16"/>'
            f'<text x="{_LABEL + after + 6:.1f}" y="{y + 16}">{each.before:,} → {each.after:,}</text>'
        )
    said = "; ".join(f"{name}: {each.before} before, {each.after} after" for name, each in classes.items())
    height = max(1, len(classes)) * _ROW
    return (
        f'<svg class="balance" viewBox="0 0 {_LABEL + _BARS + 130} {height}" role="img" aria-label="{escape(said)}">'
        f"{''.join(rows)}</svg>"
    )


def _short(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"
