"""What can be asked for, and what it resolves to."""

import hashlib
import json

import pytest
from pydantic import ValidationError

from shared.errors import Invalid
from shared.masks import GaussianDistance
from shared.operators import Inpaint
from shared.spec import PRESETS, ExpansionSpec, ResolvedSpec, resolve, work_key


def asked(**spec: object) -> ExpansionSpec:
    return ExpansionSpec.model_validate({"dataset_id": "x", **spec})


def resolved(**spec: object) -> ResolvedSpec:
    return resolve(asked(**spec), prior_sha256="", native_size=128, multiple=16, images_side=128)


@pytest.mark.parametrize(("preset", "noise"), [("reference", 0.05), ("exact", 0.0), ("balanced", 0.0), ("fast", 0.0)])
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
    changed = resolved(sampler={"preset": preset, "eta": 0.25})
    assert changed == plain.model_copy(update={"eta": 0.25})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"sampler": {"preset": "reference", "steps": 30}}, "must divide 1000, and 30 do not"),
        ({"sampler": {"finish": -1}}, "greater than or equal to 0"),
        ({"sampler": {"finish": 201}}, "less than or equal to 200"),
        ({"sampler": {"preset": "reference", "enter": 0.5}}, "begins with noise: enter must be 1"),
        ({"sampler": {"preset": "exact", "enter": 0.5}}, "with enter 0.5 there are 500 steps at most, not 1000"),
        ({"sampler": {"enter": 0}}, "greater than 0"),
        ({"sampler": {"preset": "wild"}}, "'reference', 'exact'"),
        ({"canvas": {"long_side": 2049}}, "less than or equal to 2048"),
        ({"canvas": {"long_side": 31}}, "greater than or equal to 32"),
        ({"operator": {"noise": -0.1}}, "greater than or equal to 0"),
        ({"operator": {"noise": float("nan")}}, "finite number"),
        ({"operator": {"kind": "sharpen"}}, "'inpaint', 'gaussian_blur'"),
        ({"operator": "inpaint"}, "valid dictionary"),
        ({"operator": {"kind": "gaussian_blur", "mask": {}}}, "Extra inputs are not permitted"),
        ({"operator": {"kind": "gaussian_blur", "sigma": 0}}, "greater than or equal to 0.1"),
        ({"operator": {"kind": "gaussian_blur", "noise": 2}}, "less than or equal to 1"),
        ({"operator": {"kind": "motion_blur", "length": 1}}, "greater than or equal to 2"),
        ({"operator": {"kind": "motion_blur", "angle": 180}}, "less than 180"),
        ({"operator": {"kind": "downsample", "factor": 17}}, "less than or equal to 16"),
        ({"operator": {"kind": "jpeg", "quality": 0}}, "greater than or equal to 1"),
        (
            {"operator": {"kind": "jpeg"}, "sampler": {"preset": "reference"}},
            "covers the operator inpaint only, not jpeg",
        ),
    ],
)
def test_what_cannot_be_is_refused(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        asked(**spec)


def test_an_operator_without_a_kind_is_inpaint() -> None:
    assert asked(operator={"mask": {"sigma": 0.5}}).operator == Inpaint(mask=GaussianDistance(sigma=0.5))
    assert asked().operator == Inpaint()


@pytest.mark.parametrize(
    ("operator", "canvas", "message"),
    [
        ({"kind": "downsample", "factor": 5}, 128, "5 does not divide the canvas' side of 128"),
        ({"kind": "motion_blur", "length": 65}, 64, "65 pixels are more than a canvas of 64"),
        ({"kind": "jpeg"}, 100, "multiples of 8 pixels, not 100"),
    ],
)
def test_an_operator_that_does_not_fit_the_canvas_is_refused(
    operator: dict[str, object], canvas: int, message: str
) -> None:
    wanted = asked(operator=operator, canvas={"long_side": canvas})
    with pytest.raises(Invalid, match=message):
        resolve(wanted, prior_sha256="", native_size=128, multiple=1, images_side=128)


def test_whether_an_operator_fits_is_asked_of_the_whole_canvas_and_not_of_the_picture() -> None:
    wanted = asked(operator={"kind": "jpeg"}, canvas={"long_side": 100})
    assert resolve(wanted, prior_sha256="", native_size=128, multiple=16, images_side=128).long_side == 100


def test_a_resolved_spec_of_before_the_newer_fields_still_reads() -> None:
    newer = {"reference", "denoiser_gradient", "finish"}
    old = {name: value for name, value in resolved().model_dump(mode="json").items() if name not in newer}
    del old["operator"]["noise"]
    read = ResolvedSpec.model_validate(old)
    assert (read.reference, read.denoiser_gradient, read.finish) == (False, True, 0)
    assert not read.operator.noise


def test_an_older_job_that_pasted_does_so_all_the_way() -> None:
    old = resolved(sampler={"preset": "fast"}).model_dump(mode="json") | {"paste": True, "enter": 0.6}
    assert ResolvedSpec.model_validate(old).paste == 1


def test_where_no_pixels_are_hidden_balanced_pulls_more_gently_unless_told_otherwise() -> None:
    blur = {"kind": "gaussian_blur"}
    assert (resolved().omega, resolved(operator=blur).omega) == (2.5, 0.6)
    assert resolved(operator=blur, sampler={"omega": 3}).omega == 3
    assert resolved(operator=blur, sampler={"preset": "exact"}).omega == 1


def test_the_priors_own_size_is_noted_but_for_the_authors_way_which_knows_no_tiles() -> None:
    assert resolved(canvas={"long_side": 448}).native_size == 128
    assert resolved(sampler={"preset": "reference"}, canvas={"long_side": 448}).native_size == 0


def test_an_open_canvas_follows_the_images_but_for_the_authors_way() -> None:
    def side(**spec: object) -> int:
        about = {"native_size": 128, "multiple": 16, "images_side": 454}
        return resolve(asked(**spec), prior_sha256="", **about).long_side

    assert side() == side(sampler={"preset": "exact"}) == 448
    assert side(sampler={"preset": "reference"}) == 128
    for preset in ("fast", "reference"):
        assert side(sampler={"preset": preset}, canvas={"long_side": 64}) == 64


def test_what_was_resolved_before_there_was_grain_and_tiles_has_neither() -> None:
    old = resolved().model_dump(exclude={"grain", "native_size"})
    assert (ResolvedSpec.model_validate(old).grain, ResolvedSpec.model_validate(old).native_size) == (False, 0)
    assert resolved().grain
    assert not resolved(grain=False).grain


def test_a_work_key_is_the_hash_of_all_that_counts_as_one_list() -> None:
    spec = resolved()
    told = {name: value for name, value in spec.model_dump(mode="json").items() if value is not None}
    parts = [told, "b", "c", 2, 7]
    written = json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()
    key = work_key(spec, source_sha256="b", label_sha256="c", variant=2, seed=7)
    assert key == hashlib.sha256(written).hexdigest()
