"""The commands for the machine that has the data: what takes up space, what may go, a copy of the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from regrow.options import AsJson, Data, Yes, printed, seconds
from regrow.outcome import Exit, fail, service_installed
from regrow.progress import size

_DAY = 86400.0
_MOST_NAMED = 20


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (storage, prune, backup):
        app.command()(command)


def storage(data: Data = None, as_json: AsJson = False) -> None:
    """Show what takes up space. On the machine that has the data."""
    with _here():
        from regrow import keeping

        with keeping.opened(data) as house:
            printed(keeping.storage(house), _table, as_json)


def prune(
    *,
    archives: Annotated[
        bool, typer.Option("--archives", help="Zips of finished jobs. Who asks for one has it built again.")
    ] = False,
    uploads: Annotated[
        bool, typer.Option("--uploads", help="Uploads in pieces that are not whole, and that nobody goes on with.")
    ] = False,
    strays: Annotated[
        bool, typer.Option("--strays", help="Stored files that nothing in the database names: remains of the killed.")
    ] = False,
    older_than: Annotated[str, typer.Option(metavar="AGE", help="Only what is older: 90m, 12h, 30d, 4w.")] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    yes: Yes = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Remove what takes up space and can be had again, or is nobody's. On the machine that has the data."""
    chosen = {"archives": archives, "uploads": uploads, "strays": strays}
    if not any(chosen.values()):
        fail(Exit.USAGE, "Say what may go: --archives, --uploads or --strays.")
    if as_json and not (dry_run or yes):
        fail(Exit.USAGE, "With --json nothing is asked: say --dry-run or --yes too.")
    age = seconds(older_than, "--older-than")
    with _here():
        from regrow import keeping

        with keeping.opened(data) as house:
            seen: dict[Any, list[dict[str, Any]]] = {
                which: keeping.look(house, which, age)  # type: ignore[arg-type]
                for which, wanted in chosen.items()
                if wanted
            }
            answer = {**seen, "dry_run": dry_run, "waiting": 0}
            if not (dry_run or yes) and any(seen.values()):
                typer.echo(_pruned(answer | {"dry_run": True}), err=True)
                typer.confirm("Remove all this?", abort=True, err=True)
            if not dry_run:
                for which, each in seen.items():
                    keeping.prune(house, which, age, each)
                answer["waiting"] = keeping.empty_trash(house)
            printed(answer, _pruned, as_json)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="Where the copy goes.")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Copy the database, also while the service runs. The stored files are to be copied after it."""
    with _here():
        from regrow import keeping

        printed(keeping.backup(data, file), _backed_up, as_json)


@contextmanager
def _here() -> Iterator[None]:
    """What is refused is said in a sentence, and so is a machine that has only the client."""
    with service_installed():
        from regrow.preconditions import Refused
    try:
        yield
    except Refused as error:
        fail(Exit.USAGE, str(error))


def _table(found: dict[str, Any]) -> str:
    beside = {name: found[name] for name in ("database", "backups", "logs", "broker") if found[name]}
    rows = [(name, each) for name, each in (found["storage"] | beside).items() if each["files"]]
    lines = [f"{name:<10}{each['files']:>9} files  {size(each['bytes']):>9}" for name, each in rows]
    strays = found["storage"]["strays"]["files"]
    hint = ["Strays: `regrow prune --strays --dry-run` tells which."] if strays else []
    return "\n".join([f"Data in {found['data']}", *lines, f"{size(found['free'])} are free", *hint])


def _pruned(found: dict[str, Any]) -> str:
    return "\n".join(_lines(found))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    verb = "would go" if found["dry_run"] else "are gone"
    for which in ("archives", "uploads", "strays"):
        if which not in found:
            continue
        each = found[which]
        yield f"{len(each)} {which} of {size(sum(one['bytes'] for one in each))} {verb}"
        for one in each[:_MOST_NAMED]:
            age = f"  {one['age'] / _DAY:.1f} days old" if "age" in one else ""
            yield f"  {one['name']}  {size(one['bytes'])}{age}"
        if len(each) > _MOST_NAMED:
            yield f"  and {len(each) - _MOST_NAMED} more (--json names all)"
    if found["waiting"]:
        yield f"{found['waiting']} deleted files wait until no dataset is being checked"


def _backed_up(found: dict[str, Any]) -> str:
    return (
        f"Backup   {found['backup']} ({size(found['bytes'])})\n"
        f"It holds the database alone. Copy {found['storage']} now, after it: what the rows name is there then."
    )
