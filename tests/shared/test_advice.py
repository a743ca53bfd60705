"""What is said of a job's masks before anything runs."""

from dataclasses import replace
from typing import Any

import pytest

from shared import advice
from shared.advice import Source, flat
from shared.errors import Invalid
from shared.plan import Labels, keep_mask, useless
from shared.spec import ExpansionSpec, ResolvedSpec, resolve, work_key

WHOLE, PART = [0, 0.0, 0.0, 1.0, 1.0], [0, 0.1, 0.1, 0.3, 0.3]


def image(name: str = "a", boxes: Any = (PART,), image_format: str = "PNG", mask: str | None = None) -> Source:
    return Source(
        id=1,
        path=name,
        sha256="",
        label_sha256="",
        mask_sha256=mask,
        upright=True,
        format=image_format,
        mode="L",
        width=100,
        height=50,
        size=1,
        white=255,
        boxes=flat(boxes),
    )


def asked(mask: dict[str, Any] | None = None, **more: Any) -> tuple[ExpansionSpec, ResolvedSpec]:
    operator = {"operator": {"kind": "inpaint", "mask": mask}} if mask else {}
    spec = ExpansionSpec.model_validate({"dataset_id": "d", **operator, **more})
    return spec, resolve(spec, prior_sha256="", native_size=128, multiple=16, images_side=128)


def said(images: list[Source], mask: dict[str, Any] | None = None, **more: Any) -> str:
    spec, resolved = asked(mask, **more)
    return "\n".join(advice.warnings(spec, resolved, images, advice.chosen(spec, images)))


def test_unlabelled_images_are_chosen_unless_they_are_skipped() -> None:
    images = [image("a"), image("b", []), image("c")]
    for how, names in (("skip", "ac"), ("uniform", "abc"), ("keep", "abc")):
        spec, _ = asked(unlabelled=how)
        assert [each.path for each in advice.chosen(spec, images)] == list(names)
    spec, _ = asked(max_images=1)
    assert [each.path for each in advice.chosen(spec, images)] == ["a"]


def test_a_few_images_show_each_class_and_a_larger_number_has_them_too() -> None:
    other = [1, *PART[1:]]
    images = [
        image(name, boxes) for name, boxes in zip("abcde", ([PART], [PART], [], [PART, other], [other]), strict=True)
    ]
    for count, names in ((1, "a"), (2, "ad"), (3, "abd"), (4, "abde")):
        spec, _ = asked(max_images=count)
        assert [each.path for each in advice.chosen(spec, images)] == list(names)
    spec, _ = asked(max_images=3, unlabelled="keep")
    assert [each.path for each in advice.chosen(spec, images)] == list("acd")


def test_skipped_images_are_counted() -> None:
    assert "1 images without a label are not expanded" in said([image("a"), image("b", [])])
    assert not said([image("a"), image("b", [])], unlabelled="uniform")


def test_a_common_job_has_nothing_said_of_its_masks() -> None:
    assert not said([image()])


@pytest.mark.parametrize("kind", ["random_inside_boxes", "erase_in_boxes", "boxes_regrown"])
def test_kinds_that_change_what_is_labelled_are_warned_of(kind: str) -> None:
    assert f"`{kind}` hides what is labelled" in said([image()], {"kind": kind})


@pytest.mark.parametrize(
    ("formats", "wanted", "count"),
    [(["JPEG", "PNG", "JPEG"], "same", 2), (["PNG"], "same", 0), (["PNG", "PNG"], "jpeg", 2), (["JPEG"], "png", 0)],
)
def test_png_is_offered_for_what_is_written_as_jpeg(formats: list[str], wanted: str, count: int) -> None:
    images = [image(image_format=each) for each in formats]
    for how in ("boxes", "known"):
        warnings = said(images, output={"image_format": wanted}, blend=how)
        assert (f"{count} images are written as JPEG" in warnings) == (count > 0)
        assert ("image_format: png" in warnings) == (count > 0)
    assert "JPEG" not in said(images, output={"image_format": wanted}, blend="none")


@pytest.mark.parametrize(
    ("mask", "what"),
    [
        ({"kind": "gaussian_distance"}, "keeps every pixel"),
        ({"kind": "outside_boxes", "margin": 0}, "keeps every pixel"),
        ({"kind": "boxes_regrown"}, "hides every pixel"),
    ],
)
def test_labels_that_cover_images_whole_are_said_and_if_it_is_all_of_them_refused(
    mask: dict[str, Any], what: str
) -> None:
    _, resolved = asked(mask)
    with pytest.raises(Invalid, match=what):
        advice.refuse(resolved, [image("a", [PART, WHOLE]), image("b", [WHOLE])])
    advice.refuse(resolved, [image("a"), image("b", [WHOLE])])
    assert "1 images will fail, such as b" in said([image("a"), image("b", [WHOLE])], mask)
    assert what in said([image("a"), image("b", [WHOLE])], mask)


@pytest.mark.parametrize(
    ("mask", "what"),
    [
        ({"mu": 2, "sigma": 0.01}, "keeps every pixel"),
        ({"kind": "gaussian_distance", "mu": 1.5, "sigma": 0.05}, "keeps every pixel"),
        ({"kind": "gaussian_distance_all", "mu": 1.5, "sigma": 0.05, "geometry": "reference"}, "keeps every pixel"),
        ({"kind": "gaussian_distance_all", "mu": -1, "sigma": 0.1}, "hides every pixel"),
        ({"kind": "random", "share": 1 - 1e-12}, "keeps every pixel"),
        ({"kind": "random", "share": 1e-12, "keep_labels": False}, "hides every pixel"),
        ({"kind": "random_inside_boxes", "share": 1e-12}, "keeps every pixel"),
        ({"kind": "box", "smallest": 1, "largest": 1}, "hides every pixel"),
    ],
)
def test_numbers_that_leave_a_mask_no_choice_are_refused_before_anything_runs(mask: dict[str, Any], what: str) -> None:
    _, resolved = asked(mask)
    with pytest.raises(Invalid, match=f"leave nothing to chance.*{what}"):
        advice.refuse(resolved, [image("a"), image("b")])
    kind = {"keeps every pixel": "nothing_hidden", "hides every pixel": "nothing_kept"}[what]
    for seed in range(3):
        keep, placement = keep_mask(resolved, Labels([PART]), 100, 50, seed)
        assert useless(keep, placement) == kind


def test_random_pixels_may_be_as_few_as_none_where_labels_are_kept() -> None:
    few = {"kind": "random", "share": 1e-12}
    advice.refuse(asked(few)[1], [image("a")])
    both = [image("a"), image("b", [])]
    advice.refuse(asked(few, unlabelled="uniform")[1], both)
    assert "1 images will fail, such as b: the numbers of the mask" in said(both, few, unlabelled="uniform")
    assert "will fail" not in said(both, few, unlabelled="keep")


@pytest.mark.parametrize(
    "mask",
    [
        {"mu": 2, "sigma": 0.5},
        {"kind": "gaussian_distance", "mu": -2, "sigma": 0.01},
        {"kind": "gaussian_distance_all", "mu": -1, "sigma": 0.5},
        {"kind": "random", "share": 0.001, "keep_labels": False},
        {"kind": "box", "smallest": 0.99, "largest": 1},
        {"kind": "erase_in_boxes", "smallest": 1, "largest": 1},
    ],
)
def test_numbers_that_leave_some_choice_are_not_refused(mask: dict[str, Any]) -> None:
    advice.refuse(asked(mask)[1], [image("a")])


def test_it_is_warned_of_what_makes_labelled_boxes_a_tell_or_no_longer_true() -> None:
    none, bare = said([image()], blend="none"), said([image()], grain=False)
    assert "`blend: none` copies nothing" in none
    assert "`psnr_boxes`" in none
    assert "`grain: false` leaves labelled boxes sharper" in bare
    assert "copies nothing" not in bare
    assert "grain" not in said([image()], grain=False, blend="none")
    large = replace(image(), width=373, height=454)
    assert "blurred, labelled or not" in said([large], blend="none")
    for how in ({"blend": "none"}, {"grain": False}):
        assert not said([image(boxes=[])], {"kind": "random"}, unlabelled="uniform", **how)


def test_a_margin_can_make_a_label_cover_the_image() -> None:
    nearly = [image(boxes=[[0, 0.05, 0.1, 0.95, 0.9]])]
    advice.refuse(asked({"kind": "outside_boxes", "margin": 0.049})[1], nearly)
    with pytest.raises(Invalid, match="keeps every pixel"):
        advice.refuse(asked({"kind": "outside_boxes", "margin": 0.051})[1], nearly)


@pytest.mark.parametrize(
    "mask",
    [
        {"kind": "gaussian_distance_all"},
        {"kind": "random"},
        {"kind": "box"},
        {"kind": "outside_boxes", "geometry": "reference"},
        {"kind": "outside_boxes", "keep": "polygons"},
    ],
)
def test_what_is_not_certain_is_not_refused(mask: dict[str, Any]) -> None:
    advice.refuse(asked(mask)[1], [image(boxes=[WHOLE])])


def test_uploaded_masks_must_be_there_but_for_images_that_are_copied() -> None:
    images = [image("a", mask="m"), image("b"), image("c", [])]
    with pytest.raises(Invalid, match=r"2 of 3 have none, the first being b"):
        advice.refuse(asked({"kind": "uploaded"}, unlabelled="uniform")[1], images)
    with pytest.raises(Invalid, match=r"1 of 3 have none, the first being b"):
        advice.refuse(asked({"kind": "uploaded"}, unlabelled="keep")[1], images)
    advice.refuse(asked({"kind": "uploaded"})[1], images[:1])
    advice.refuse(asked({"kind": "random"})[1], images)


def test_an_uploaded_mask_counts_in_the_work_key_only_where_it_is_used() -> None:
    def key(mask: str, kind: str) -> str:
        source = {"source_sha256": "s", "label_sha256": "l", "variant": 1, "seed": 1}
        return work_key(asked({"kind": kind})[1], **source, mask_sha256=mask)

    assert key("m", "uploaded") != key("n", "uploaded")
    assert key("m", "random") == key("n", "random")


def test_an_image_that_is_not_turned_upright_is_other_work() -> None:
    def key(**more: bool) -> str:
        source = {"source_sha256": "s", "label_sha256": "l", "variant": 1, "seed": 1}
        return work_key(asked({"kind": "random"})[1], **source, **more)

    assert key() == key(upright=True) != key(upright=False)


def test_images_much_larger_than_the_canvas_are_told_which_canvas_helps() -> None:
    small, large = image("a"), replace(image("b"), width=373, height=454)
    warnings = said([small, large])
    assert "1 images are more than 1.5 times larger than the 128-px canvas" in warnings
    assert "`canvas.long_side: 448`" in warnings
    assert "noise in place of detail" in warnings
    assert "learn as a hint" in said([large], grain=False)
    assert "larger than the" not in said([large], canvas={"long_side": 448})
    assert "`canvas.long_side: 2048`" in said([replace(large, width=9000)])


@pytest.mark.parametrize(
    ("sampler", "enough"),
    [
        ({}, None),
        ({"preset": "fast"}, None),
        ({"preset": "fast", "steps": 10}, 20),
        ({"steps": 20}, 60),
        ({"preset": "exact", "steps": 50}, 100),
        ({"preset": "exact", "steps": 100}, None),
        ({"enter": 1}, 100),
    ],
)
def test_steps_that_are_too_few_for_where_they_begin_are_warned_of(sampler: dict[str, Any], enough: int | None) -> None:
    warnings = said([image()], sampler=sampler)
    assert (f"{enough} would be better" in warnings) if enough else not warnings
