"""What can be asked for, and what it resolves to."""

import pytest
from pydantic import ValidationError

from shared.spec import PRESETS, ExpansionSpec, ResolvedSpec, resolve


def asked(**spec: object) -> ExpansionSpec:
    return ExpansionSpec.model_validate({"dataset_id": "x", **spec})


def resolved(**spec: object) -> ResolvedSpec:
    return resolve(asked(**spec), prior_sha256="", native_size=128, multiple=16)


@pytest.mark.parametrize(("preset", "noise"), [("reference", 0.05), ("exact", 0.0), ("balanced", 0.0)])
def test_the_measurements_noise_is_the_presets_unless_given(preset: str, noise: float) -> None:
    assert resolved(sampler={"preset": preset}).operator.noise == noise
    assert resolved(sampler={"preset": preset}, operator={"noise": 0.3}).operator.noise == 0.3


@pytest.mark.parametrize("preset", PRESETS)
def test_a_resolved_spec_has_the_numbers_of_its_preset_and_what_was_asked_beside(preset: str) -> None:
    plain = resolved(sampler={"preset": preset})
    assert (plain.steps, plain.gamma, plain.reference) == (
        PRESETS[preset].steps,
        PRESETS[preset].gamma,
        preset == "reference",
    )
    assert plain.preset == f"{preset}@{PRESETS[preset].version}"
    changed = resolved(sampler={"preset": preset, "gamma": 7})
    assert changed == plain.model_copy(update={"gamma": 7.0})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"sampler": {"preset": "reference", "steps": 30}}, "must divide 1000, and 30 do not"),
        ({"sampler": {"preset": "wild"}}, "'reference', 'exact'"),
        ({"operator": {"noise": -0.1}}, "greater than or equal to 0"),
        ({"operator": {"noise": float("nan")}}, "finite number"),
    ],
)
def test_what_cannot_be_is_refused(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        asked(**spec)


def test_a_resolved_spec_of_before_the_newer_fields_still_reads() -> None:
    newer = {"reference"}
    old = {name: value for name, value in resolved().model_dump(mode="json").items() if name not in newer}
    del old["operator"]["noise"]
    read = ResolvedSpec.model_validate(old)
    assert not read.reference
    assert not read.operator.noise
