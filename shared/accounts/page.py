"""report.html: one file that needs nothing else, no script and no network, and asks for neither."""

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from itertools import groupby

from shared import previews
from shared.accounts.facts import Account, Shown
from shared.accounts.graphs import balance, histogram
from shared.accounts.words import blended, day, hidden, number, outcome, sampled
from shared.measures import MEASURES
from shared.states import ItemState
from shared.storage import Storage

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2126;--soft:#5b6670;--paper:#fff;--panel:#f4f6f8;--line:#d8dee4;--bar:#3367a8;
--new:#9dbfe6;--out:#c9573f;--warn:#fff4d6;--edge:#d9a400}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8ec;--soft:#9aa6b2;--paper:#14181c;--panel:#1d2329;--line:#323b44;
--bar:#6ea6ea;--new:#2f5580;--out:#e07a5f;--warn:#362c10;--edge:#b98d12}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:66rem;padding:1.5rem 1rem 4rem;background:var(--paper);color:var(--ink);
font:1rem/1.55 system-ui,sans-serif}
h1{margin:0;font-size:1.7rem;overflow-wrap:anywhere}h2{margin:2.4rem 0 .6rem;font-size:1.2rem}
h3{margin:0;font-size:.95rem}p{margin:.5rem 0;max-width:46rem;overflow-wrap:anywhere}
.soft{color:var(--soft);font-size:.9rem}
aside{margin:1.2rem 0;padding:.7rem 1rem;background:var(--warn);border-left:4px solid var(--edge)}aside p{margin:0}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.8rem;margin:1.2rem 0}
dl div{padding:.6rem .8rem;background:var(--panel);border-radius:.4rem}dt{color:var(--soft);font-size:.85rem}
dd{margin:0;font-size:1.35rem;font-variant-numeric:tabular-nums}
.pairs{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));margin:.3rem 0 1rem}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:1rem}
figure,.measure{margin:0;padding:.7rem;background:var(--panel);border-radius:.4rem}
figure img{display:block;width:100%;height:auto}figcaption{font-size:.85rem;color:var(--soft);overflow-wrap:anywhere;
margin-top:.4rem}.measure .soft{margin:.2rem 0 .5rem;font-size:.8rem;line-height:1.35}
svg{display:block;width:100%;height:auto;overflow:visible}svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
svg .end,svg .name{text-anchor:end}svg .name{fill:var(--ink)}
.bar{fill:var(--bar)}.new{fill:var(--new)}.out{fill:var(--out)}
.median{stroke:var(--ink);stroke-dasharray:3 3}.axis{stroke:var(--line)}.balance{max-width:36rem}
table{border-collapse:collapse}td,th{padding:.25rem .9rem .25rem 0;text-align:left;vertical-align:top;
border-bottom:1px solid var(--line)}td:last-child{font-variant-numeric:tabular-nums}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; img-src data:; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
CONTENT_SECURITY_POLICY = f"{_POLICY}; frame-ancestors 'self'; sandbox"
"""For whoever serves the page: what it holds itself, which a page cannot say of frames."""
_SIDE = 240
_BANNER = (
    "This report shows pictures of the originals. Variants hold unaltered pixels of them, are derived from them and "
    "are not anonymous: treat the report and the archive with the same care as the originals. Everything was "
    "computed on machines of the service's operator; nothing was sent anywhere else."
)


def page(account: Account, storage: Storage, *, partial: bool = False) -> str:
    """The page. A picture whose file is gone is left out."""
    return "".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{escape(account.name)}: report</title><style>{_STYLE}</style></head><body><main>",
            *_parts(account, storage, partial=partial),
            "</main></body></html>\n",
        ]
    )


def _parts(account: Account, storage: Storage, *, partial: bool) -> Iterator[str]:
    yield f"<header><h1>{escape(account.name)}</h1>"
    yield f'<p class="soft">Expansion of {escape(account.dataset)}, {day(account.created_at)}'
    yield f"{', not over yet' if partial or account.finished_at is None else ''}. Job {account.job_id}"
    yield f"{f', revision {account.revision} of its archive' if account.revision else ''}.</p></header>"
    yield f'<aside role="note"><p>{_BANNER}</p></aside>'
    yield _figures(account)
    yield "<h2>What was made</h2>"
    yield _paragraph(f"{outcome(account)} 100 epochs of the originals = {account.epochs} of this set.")
    yield from (_paragraph(f"Note: {warning.replace('`', '')}") for warning in account.warnings)
    yield from _left_out(account)
    yield '<h2>Classes</h2><p class="soft">Labelled objects in the expanded splits: originals, and with variants.</p>'
    yield balance(account.balance)
    yield from _pictures(account, storage)
    yield from _measures(account)
    yield from _scores(account)
    yield "<h2>How it was made</h2>"
    yield from map(_paragraph, (hidden(account), sampled(account), blended(account)))
    yield from (_paragraph(_maker(maker, count)) for maker, count in account.makers)
    yield _paragraph(
        "manifest.jsonl in the archive has each image's seed, settings and hashes; methods.md is for a paper."
    )


def _figures(account: Account) -> str:
    counts = account.counts
    told = {
        "originals": account.originals,
        "new images": account.made,
        "used": account.kept,
        "rejected": account.rejected,
        "filtered out": account.filtered,
        "failed": counts.get(ItemState.FAILED, 0),
        "cancelled": counts.get(ItemState.CANCELLED, 0),
        "still to be made": counts.get(ItemState.PENDING, 0) + counts.get(ItemState.RUNNING, 0),
        "reused": account.reused,
    }
    always = {"originals", "new images", "used"}
    tiles = (f"<div><dt>{name}</dt><dd>{n:,}</dd></div>" for name, n in told.items() if n or name in always)
    return f"<dl>{''.join(tiles)}</dl>"


def _left_out(account: Account) -> Iterator[str]:
    if not account.reasons and not account.filters:
        return
    yield '<h2>What was left out, and why</h2><table><thead><tr><th scope="col">Why</th>'
    yield '<th scope="col">Images</th></tr></thead><tbody>'
    yield from (_row(f"rejected: {reason}", count) for reason, count in account.reasons)
    yield from (_row(f"filtered: {threshold}", count) for threshold, count in account.filters)
    yield "</tbody></table>"
    if len(account.filters) > 1:
        yield '<p class="soft">An image that several filters leave out counts with each.</p>'


def _pictures(account: Account, storage: Storage) -> Iterator[str]:
    if not account.shown or account.ranked_by is None:
        return
    measure = MEASURES[account.ranked_by]
    yield f"<h2>Best, median and worst</h2><p>By {measure.title}. The source is on the left, the new image on "
    yield "the right; labelled boxes are drawn.</p>"
    for rank, some in groupby(account.shown, key=lambda each: each.rank):
        yield f'<h3>{rank.capitalize()}</h3><div class="pairs">'
        yield from (_figure(each, account.ranked_by, storage) for each in some)
        yield "</div>"


def _figure(shown: Shown, measure: str, storage: Storage) -> str:
    try:
        data = base64.b64encode(previews.pair(storage, shown.made, _SIDE, labels=True)).decode()
    except FileNotFoundError:
        return ""
    name = escape(shown.made.path)
    return (
        f'<figure><img alt="{name} and its variant {shown.variant}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{name}, variant {shown.variant}: {number(measure, shown.value)}</figcaption></figure>"
    )


def _measures(account: Account) -> Iterator[str]:
    if not account.spreads:
        return
    yield '<h2>Measures</h2><p class="soft">Of all new images. The dashed line is the median'
    yield f'{"; red is what a filter leaves out" if account.filters else ""}.</p><div class="grid">'
    filters = {threshold.measure: threshold for threshold, _ in account.filters}
    for each in account.spreads:
        known = MEASURES[each.measure]
        yield f'<section class="measure"><h3>{known.title}: {number(each.measure, each.median)}</h3>'
        yield f'<p class="soft">{known.meaning}</p>{histogram(each, filters)}</section>'
    yield "</div>"


def _scores(account: Account) -> Iterator[str]:
    if account.scores:
        yield "<h2>Blinded reviews</h2>"
    for score in account.scores:
        yield _paragraph(
            f"A reader told {score.right} of {score.cards} right: {score.real_known} of {score.real} real images, and "
            f"{score.regrown_known} of {score.regrown} new ones. Guessing gives half."
        )


def _maker(maker: dict[str, str], count: int) -> str:
    parts = ", ".join(f"{name} {value}" for name, value in maker.items() if name != "prior_sha256")
    return f"{count:,} images: {parts}."


def _row(why: str, count: int) -> str:
    return f"<tr><td>{escape(why)}</td><td>{count:,}</td></tr>"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"
