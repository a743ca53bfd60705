"""Make images of an archive again, and say what became of it: `python -m worker.verify ARCHIVE --items 12,15`."""

import argparse
import json
import platform
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

import torch

from shared import priors
from shared.errors import RegrowError
from shared.formats.zips import Limits, SafeZip
from shared.settings import Settings
from shared.spec import ENGINE_VERSION
from worker import device, memory
from worker.priors.arithmetic import PRECISIONS, Arithmetic
from worker.priors.cache import PriorCache
from worker.priors.check import load_autoencoder
from worker.priors.diffusers import BUILTIN, load
from worker.remake import MANIFEST, Finding, Here, Impossible, Verdict, Verifier

# It is our own, and may be larger than what is taken from others.
_LIMITS = Limits(members=10_000_000, bytes=2**50, member_bytes=2**32, directory_bytes=2**32)


def this_machine(wanted: str, prior: Path | None, settings: Settings) -> Here:
    """What is here. Raises NotConfigured where the device is not there."""
    chosen = device.choose(wanted)
    folders = {**priors.installed(settings.priors), priors.BUILTIN: BUILTIN}
    hashes: dict[Path, str] = {}

    def find(name: str) -> tuple[Path, str]:
        folder = prior or folders.get(name)
        if folder is None:
            raise Impossible(f"there is no prior {name!r} here: name its folder with --prior, or set REGROW_PRIORS")
        if folder not in hashes:
            hashes[folder] = priors.describe(name, folder).sha256
        return folder, hashes[folder]

    @lru_cache(maxsize=1)
    def computing_in(dtype: str) -> PriorCache:
        if dtype not in PRECISIONS:
            raise Impossible(f"it was computed in {dtype}, which this Regrow does not know")
        how = Arithmetic(PRECISIONS[dtype], channels_last=chosen.type == "cuda")
        return PriorCache(
            partial(load, arithmetic=how), partial(load_autoencoder, arithmetic=how), memory=memory.of(chosen)
        )

    made_by = {
        "engine": ENGINE_VERSION,
        "regrow": version("regrow"),
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "python": platform.python_version(),
        "device": device.describe(chosen),
        "compiled": False,
        "batch": 1,
    }
    return Here(made_by, find, computing_in, str(chosen))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 where all is equal or within tolerance, 5 where something is not, 2 for a wrong archive."""
    args = _parser().parse_args(argv)
    findings = []
    try:
        here = this_machine(args.device, args.prior, Settings())
        with SafeZip(args.archive, _LIMITS) as archive:
            verifier = Verifier(archive, here, args.originals)
            rows = verifier.rows()
            wanted = set(args.items.split(",")) if args.items else {str(row.get("item")) for row in rows}
            for row in (row for row in rows if str(row.get("item")) in wanted):
                findings.append(verifier.verify(row))
                if not args.json:
                    sys.stdout.write(in_words(findings[-1]) + "\n")
                    sys.stdout.flush()
    except (OSError, KeyError, ValueError, RegrowError) as error:
        said = f"it has no {MANIFEST}" if isinstance(error, KeyError) else str(error)
        sys.stderr.write(f"{args.archive}: {said}\n")
        return 2
    counts = Counter(finding.verdict for finding in findings)
    summary = {str(verdict): counts[verdict] for verdict in Verdict}
    if args.json:
        found = {"of": len(rows), "counts": summary, "here": here.made_by, "items": [asdict(each) for each in findings]}
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        said = ", ".join(f"{count} {verdict}" for verdict, count in summary.items() if count)
        sys.stdout.write(f"{len(findings)} of {len(rows)} images: {said or 'none'}\n")
    return 5 if counts[Verdict.DIFFERENT] or counts[Verdict.IMPOSSIBLE] or not findings else 0


def in_words(finding: Finding) -> str:
    """A finding for people."""
    apart = f" (rms {finding.rms:g}, largest {finding.largest:g} of 255)" if finding.rms else ""
    return "\n".join([f"{finding.file}: {finding.verdict}{apart}", *(f"  {why}" for why in finding.why)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker.verify", description="Make images of an archive again.")
    parser.add_argument("archive", type=Path)
    parser.add_argument("--items", default="", help="only these, with commas between them")
    parser.add_argument("--originals", type=Path, help="a folder of originals, each under its hash")
    parser.add_argument("--prior", type=Path, help="the prior's folder, if it is not installed here")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or auto (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
