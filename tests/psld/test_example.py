"""The example in docs/method.md is run as it stands there, with fewer steps."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samples.phantoms import draw

METHOD = Path(__file__).resolve().parents[2] / "docs" / "method.md"


def test_the_example_regrows_an_image_and_keeps_what_the_mask_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", METHOD.read_text(encoding="utf-8"), re.S)
    assert code.count("steps=40") == code.count("finish=20") == 1
    monkeypatch.chdir(tmp_path)
    draw(np.random.default_rng(0), 128, 128)[0].save("xray.png")
    exec(code.replace("steps=40", "steps=10"), {})  # noqa: S102  (our own page)
    with Image.open("xray.png") as before, Image.open("regrown.png") as after:
        old, new = (np.asarray(each.convert("L"), dtype=np.float64)[40:80, 50:90] for each in (before, after))
    assert after.size == (128, 128)
    assert np.abs(new - old).mean() < 12, np.abs(new - old).mean()
