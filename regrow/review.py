"""The commands that say what people think of new images, and have the archive built without some of them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow import DEFAULT_URL, report
from regrow.options import AsJson, JobId, Key, Server, printed
from regrow.outcome import Exit, fail, talking

if TYPE_CHECKING:
    from regrow.answers import Filter, FilterOutlook, Tally

_Items = Annotated[list[int], typer.Argument(metavar="ITEM...", help="The items, by their numbers.")]
_NAMES = {"write_report": "report"}
_RULE = re.compile(r"\s*([a-z_]+)\s*([<>])\s*(-?[0-9.]+(?:e-?[0-9]+)?)\s*")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (accept, reject, undecide, pack, write_report):
        app.command(name=_NAMES.get(command.__name__))(command)


def accept(job: JobId, items: _Items, server: Server = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Accept new images of a job."""
    with talking(server, key) as regrow:
        printed(regrow.judge(job, items, "accept"), _tally, as_json)


def reject(
    job: JobId,
    items: _Items,
    *,
    reason: Annotated[str | None, typer.Option(help="Why; the archive says so.")] = None,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Reject new images of a job: archives that are built from then on are without them."""
    with talking(server, key) as regrow:
        printed(regrow.judge(job, items, "reject", reason), _tally, as_json)


def undecide(job: JobId, items: _Items, server: Server = DEFAULT_URL, key: Key = None, as_json: AsJson = False) -> None:
    """Take back what was said of new images."""
    with talking(server, key) as regrow:
        printed(regrow.judge(job, items, None), _tally, as_json)


def pack(
    job: JobId,
    *,
    drop: Annotated[
        list[str] | None, typer.Option(metavar="RULE", help='What to leave out, such as "psnr_kept < 25"; repeatable.')
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be left out.")] = False,
    server: Server = DEFAULT_URL,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Build the archive of a finished job anew, without what was rejected or is filtered out."""
    filters = [_filter(rule) for rule in drop or []]
    with talking(server, key) as regrow:
        if dry_run:
            printed(regrow.preview_filters(job, filters), _outlook, as_json)
            return
        regrow.pack(job, filters)
        printed(regrow.wait_job(job), lambda answer: report.job(answer, []), as_json)


def write_report(
    job: JobId,
    out: Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="Where it goes: a .html or .md.")],
    server: Server = DEFAULT_URL,
) -> None:
    """Save the report on what a job has made (.html), or a paragraph for a paper with its numbers (.md)."""
    if out.suffix.lower() not in (".html", ".md"):
        fail(Exit.USAGE, f"{out.name} is no name of a .html or .md")
    with talking(server) as regrow:
        out.write_bytes(regrow.report(job) if out.suffix.lower() == ".html" else regrow.methods(job).encode())
    print(f"Report   {out}")


def _filter(rule: str) -> "Filter":
    found = _RULE.fullmatch(rule)
    if found is None:
        fail(Exit.USAGE, f'{rule!r} is no rule. One is "psnr_kept < 25" or "box_tell > 1.5": what is so is left out.')
    measure, sign, bound = found.groups()
    return {"measure": measure, "min": float(bound)} if sign == "<" else {"measure": measure, "max": float(bound)}


def _tally(tally: "Tally") -> str:
    return "{accepted:,} accepted, {rejected:,} rejected, {undecided:,} undecided".format(**tally)


def _outlook(seen: "FilterOutlook") -> str:
    lines = [f"Would drop {seen['dropped']:,} of {seen['total']:,}; {seen['rejected']:,} are rejected anyway."]
    lines += [
        f"  {each['class_name'] or '(no label)'}: {each['dropped']:,} of {each['images']:,}"
        for each in seen["by_class"]
    ]
    return "\n".join(lines)
