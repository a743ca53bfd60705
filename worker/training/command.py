"""What the commands that train have in common: their arguments, what is read of them, and how they end."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from shared.errors import Conflict, RegrowError, told
from worker.priors.diffusers import BUILTIN
from worker.training.sources import Source, sources

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Asked(Generic[S]):
    """What a command was told: its arguments, the settings among them, and the pictures that it was given."""

    args: argparse.Namespace
    settings: S
    sources: list[Source]
    state: Path
    """The folder of the training."""

    @property
    def about(self) -> dict[str, Any]:
        """What a card is to say of the pictures."""
        return {"licence": self.args.licence, "sources": sorted({source.sha256 for source in self.sources})}


def parser(prog: str, description: str, settings: type[BaseModel]) -> argparse.ArgumentParser:
    """With pictures, an output and all settings; a command adds what is its own."""
    made = argparse.ArgumentParser(prog=prog, description=description)
    made.add_argument(
        "pictures",
        type=Path,
        nargs="+",
        metavar="DATASET.zip|FOLDER",
        help="a data set, of which train is used, or images",
    )
    made.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="where the result is to be")
    made.add_argument("--state", type=Path, metavar="FOLDER", help="of the training (default: OUT.training)")
    made.add_argument("--licence", default="", metavar="TEXT", help="of the pictures, for the card")
    made.add_argument("--device", type=torch.device, default="cpu", help="cpu, cuda, cuda:1 (default: %(default)s)")
    for name, field in settings.model_fields.items():
        said = field.description or ""
        if "Left out:" not in said:
            said += f" (default: {field.default})"
        made.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="X", help=said.replace("%", "%%"))
    return made


def read(parser: argparse.ArgumentParser, settings: type[S], argv: Sequence[str] | None) -> Asked[S]:
    """Read and check the arguments. Exits with 2 for bad ones, pictures that cannot be read among them."""
    args = parser.parse_args(argv)
    numbers = {name: getattr(args, name) for name in settings.model_fields if getattr(args, name) is not None}
    state = args.state or args.output.with_name(args.output.name + ".training")
    try:
        if args.output.exists():
            raise Conflict(f"{args.output} exists, and is not written over.")
        made = settings(**numbers)
        return Asked(args, made, [source for path in args.pictures for source in sources(path)], state)
    except ValidationError as error:
        parser.error("; ".join(f"{each.where} {each.what}".strip() for each in told(error.errors())))
    except (OSError, RegrowError) as error:
        parser.error(str(error))


def prior(named: str) -> Path:
    """The folder of a prior; that of the built-in one is called `builtin`."""
    return BUILTIN if named == "builtin" else Path(named)


def ended(parser: argparse.ArgumentParser, work: Callable[[], str]) -> int:
    """Do the work, say what it has to say, and return 0; 1 if it failed."""
    try:
        said = work()
    except (OSError, RegrowError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    sys.stderr.write(f"{said}\n")
    return 0
