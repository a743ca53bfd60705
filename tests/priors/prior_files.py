"""Changes to the files of a prior's folder."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

WEIGHTS = "diffusion_pytorch_model.safetensors"


def edit(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rename(path: Path, new_name: dict[str, str]) -> None:
    """Replace parts of the names of the weights in a safetensors file."""
    weights = {}
    for name, values in load_file(path).items():
        for old, new in new_name.items():
            name = name.replace(old, new)  # noqa: PLW2901 - several parts of one name
        weights[name] = values
    save_file(weights, path, metadata={"format": "pt"})
