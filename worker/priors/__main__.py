"""Whether a prior can be used: python -m worker.priors PATH

PATH is a prior's folder, an autoencoder's, or a .safetensors file, of which --into makes a folder.
"""

import argparse
import sys
from pathlib import Path

from worker.priors.check import check
from worker.priors.files import BadPrior
from worker.priors.single import ARCHITECTURES, lay_out


def main() -> int:
    """Read everything; 0 if it can be used, else 1 and why not."""
    parser = argparse.ArgumentParser(prog="python -m worker.priors", description="See whether a prior can be used.")
    parser.add_argument("path", type=Path, metavar="PATH")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="of a file: the folder to make")
    parser.add_argument("--architecture", choices=ARCHITECTURES, help="of a file: what it is (default: found out)")
    parser.add_argument("--config", type=Path, metavar="FOLDER", help="of a file: with the configurations to use")
    given = parser.parse_args()
    try:
        if given.into is not None:
            lay_out(given.path, given.into, given.architecture, given.config)
        check(given.into or given.path)
    except BadPrior as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
