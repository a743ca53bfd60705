from typing import Any

import pytest
from pydantic import ValidationError

from shared.recipes import TrainingSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"recipe": "huge"},
        {"crop": 100},
        {"crop": 128, "image_side": 96},
        {"image_side": 100},
        {"hidden": 0.5},
        {"recipe": "ambient", "hidden": 1},
        {"denoiser_steps": 0},
        {"denoiser_rate": float("nan")},
        {"average": 1},
        {"steps": 5},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingSettings(**wrong)


def test_every_setting_is_described_and_has_a_default() -> None:
    assert all(field.description for field in TrainingSettings.model_fields.values())
    assert TrainingSettings().recipe == "small"
