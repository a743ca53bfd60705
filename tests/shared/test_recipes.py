from typing import Any

import pytest
from pydantic import ValidationError

from shared.recipes import MULTIPLE, TrainingSettings


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


@pytest.mark.parametrize(
    ("recipe", "steps", "rate", "crop"),
    [("small", 12_000, 3e-4, 96), ("lora", 1000, 1e-4, MULTIPLE), ("textual_inversion", 2000, 5e-3, MULTIPLE)],
)
def test_what_is_left_out_is_the_recipes_own_and_the_description_says_so(
    recipe: Any, steps: int, rate: float, crop: int
) -> None:
    made = TrainingSettings(recipe=recipe)
    assert (made.denoiser_steps, made.denoiser_rate, made.crop) == (steps, rate, crop)
    assert TrainingSettings(recipe=recipe, denoiser_steps=7).denoiser_steps == 7
    schema = TrainingSettings.model_json_schema()["properties"]["denoiser_steps"]
    assert "default" not in schema
    assert f"{steps:,}" in schema["description"]
