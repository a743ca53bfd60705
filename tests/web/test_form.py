"""A form made of the spec: what is filled in comes out as the spec has it. No browser is needed."""

from typing import Any

import pytest
from pydantic import ValidationError

from api.web import form
from shared.spec import ExpansionSpec

FORM = form.of(ExpansionSpec)
ENTRIES = list(FORM.values())


def every(entries: Any) -> list[form.Field]:
    found = []
    for entry in entries:
        if isinstance(entry, form.Field):
            found.append(entry)
        elif isinstance(entry, form.Group):
            found += every(entry.fields)
        else:
            found += [entry.chosen, *every(entry.groups.values())]
    return found


def defaults() -> dict[str, list[str]]:
    """A form sent as it came."""
    return {field.name: field.default.split(",") for field in every(ENTRIES)} | {"dataset_id": ["d"]}


def spec(**sent: str) -> ExpansionSpec:
    filled = defaults() | {name.replace("__", "."): [text] for name, text in sent.items()}
    return ExpansionSpec.model_validate(form.read(ENTRIES, filled))


def test_every_field_of_the_spec_is_there_and_explained() -> None:
    assert set(FORM) == set(ExpansionSpec.model_fields)
    fields = every(ENTRIES)
    assert {"operator.inpaint.mask.random.share", "sampler.gamma", "output.image_format"} <= {f.name for f in fields}
    assert not [field.name for field in fields if not field.help]


def test_a_form_that_is_sent_as_it_came_asks_for_nothing_but_the_defaults() -> None:
    assert form.read(ENTRIES, defaults()) == {"dataset_id": "d"}
    assert spec() == ExpansionSpec(dataset_id="d")


def test_ranges_and_choices_are_those_of_the_model() -> None:
    by_name = {field.name: field for field in every(ENTRIES)}
    variants, mu = by_name["variants"], by_name["operator.inpaint.mask.gaussian_distance.mu"]
    assert (variants.kind, variants.low, variants.high, variants.default) == ("integer", 1, 100, "2")
    assert (mu.low, mu.high, mu.slider) == (-2, 2, (-1, 1))
    assert by_name["blend"].choices == ("boxes", "known", "none")
    assert by_name["max_images"].default == ""
    assert by_name["sampler.denoiser_gradient"].kind == "boolean"


def test_what_is_filled_in_comes_out() -> None:
    made = spec(variants="5", grain="false", sampler__gamma="0.25", name="Wrists", canvas__long_side="256")
    assert (made.variants, made.grain, made.sampler.gamma, made.name) == (5, False, 0.25, "Wrists")
    assert made.canvas.long_side == 256


def test_only_the_numbers_of_the_kind_that_is_chosen_count() -> None:
    sent = {"operator__inpaint__mask__kind": "random", "operator__inpaint__mask__random__share": "0.4"}
    made = spec(**sent, operator__inpaint__mask__gaussian_distance__sigma="0.9")
    assert made.operator.model_dump()["mask"]["kind"] == "random"
    assert made.operator.model_dump()["mask"]["share"] == 0.4
    blurred = spec(operator__kind="gaussian_blur", operator__gaussian_blur__sigma="3")
    assert (blurred.operator.kind, blurred.operator.model_dump()["sigma"]) == ("gaussian_blur", 3.0)


def test_what_is_no_number_is_refused_at_the_name_of_its_field() -> None:
    with pytest.raises(ValidationError) as caught:
        spec(operator__inpaint__mask__gaussian_distance__sigma="wide", variants="0")
    names = {field.name for field in every(ENTRIES)}
    places = {".".join(map(str, each["loc"])) for each in caught.value.errors()}
    assert places == {"operator.inpaint.mask.gaussian_distance.sigma", "variants"}
    assert places <= names
    assert {form.written(ENTRIES, where) for where in places} == {"operator.mask.sigma", "variants"}
    assert form.written(ENTRIES, "operator.mask.kind") == "operator.mask.kind"


@pytest.mark.parametrize(
    "wanted",
    [
        {"variants": 7, "splits": ["train", "valid"], "sampler": {"preset": "fast", "steps": 30}},
        {"operator": {"kind": "inpaint", "mask": {"kind": "box", "smallest": 0.3}}, "reuse": False},
        {"operator": {"kind": "jpeg", "quality": 40}, "blend": "none", "max_images": 3},
    ],
)
def test_a_form_filled_in_like_a_job_asks_for_the_same(wanted: dict[str, Any]) -> None:
    asked = ExpansionSpec.model_validate({"dataset_id": "d", **wanted})
    filled = form.texts(ENTRIES, asked.model_dump(mode="json"))
    assert ExpansionSpec.model_validate(form.read(ENTRIES, filled)) == asked
