import numpy as np
import pytest
from PIL import Image, ImageFont

from regrow.sheet import DIFFERENCE_FACTOR, Row, contact_sheet

CELL = 100
LEFT = [12 + column * (CELL + 12) for column in range(4)]
YELLOW = (255, 196, 0)


def row(mode: str = "L", size: tuple[int, int] = (100, 100), **changes: object) -> Row:
    """A level of 100 that came back as 110, its left half hidden."""
    mask = Image.new("L", size, 255)
    mask.paste(0, (0, 0, size[0] // 2, size[1]))
    levels = (100, 110) if mode in {"L", "I;16"} else ((100,) * len(mode), (110,) * len(mode))
    parts = {
        "original": Image.new(mode, size, levels[0]),
        "mask": mask,
        "regrown": Image.new(mode, size, levels[1]),
        "boxes": [],
        "title": "scan.png",
    }
    return Row(**(parts | changes))


def cells(sheet: Image.Image, height: int = 100) -> list[np.ndarray]:
    """The four pictures of the last row, cut out of the sheet."""
    top = sheet.height - 12 - height
    return [np.asarray(sheet.crop((left, top, left + CELL, top + height))).astype(int) for left in LEFT]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_row_shows_original_mask_regrown_and_amplified_difference(mode: str) -> None:
    original, masked, regrown, difference = cells(contact_sheet([row(mode)], CELL))
    assert (original == 100).all()
    assert (regrown == 110).all()
    assert (difference == 10 * DIFFERENCE_FACTOR).all()
    assert (masked[:, 50:] == 100).all()
    red, _, blue = masked[50, 20]
    assert blue > red + 20


def test_a_difference_past_white_stays_white() -> None:
    *_, difference = cells(contact_sheet([row(regrown=Image.new("L", (100, 100), 250))], CELL))
    assert (difference == 255).all()


def test_boxes_are_framed_just_outside_in_the_first_three_pictures_only() -> None:
    pictures = cells(contact_sheet([row(boxes=[(0.2, 0.3, 0.6, 0.5)])], CELL))
    framed = np.zeros((100, 100), dtype=bool)
    framed[29:51, 19:61] = True
    framed[30:50, 20:60] = False
    for picture in pictures[:3]:
        assert np.array_equal((picture == YELLOW).all(axis=2), framed)
    assert (pictures[3] == 10 * DIFFERENCE_FACTOR).all()


def test_sixteen_bits_are_shown_up_to_the_brightest_value_of_the_original() -> None:
    values = np.full((100, 100), 4000, dtype=np.uint16)
    values[:, :50] = 2000
    original, _, regrown, difference = cells(
        contact_sheet([row(original=Image.fromarray(values), regrown=Image.fromarray(values // 2))], CELL)
    )
    assert original[0, 0].tolist() == [127] * 3
    assert original[0, 99].tolist() == [255] * 3
    assert regrown[0, 99].tolist() == [127] * 3
    assert difference[0, 99].tolist() == [255] * 3


def test_a_black_sixteen_bit_image_is_shown_black() -> None:
    black = Image.new("I;16", (100, 100))
    original, *_ = cells(contact_sheet([row(original=black, regrown=black)], CELL))
    assert (original == 0).all()


def test_pictures_fit_their_cells_with_their_aspect_kept_and_centred() -> None:
    tall = contact_sheet([row(size=(40, 80))], CELL)
    original, *_ = cells(tall)
    assert (original[:, 25:75] == 100).all()
    assert (original[:, :25] == original[0, 0]).all()
    wide = contact_sheet([row(size=(400, 100))], CELL)
    assert tall.width == wide.width == LEFT[-1] + CELL + 12
    assert tall.height - wide.height == 100 - 25


def test_a_mask_and_a_result_of_another_size_are_stretched_to_the_original() -> None:
    ramp = Image.linear_gradient("L").resize((100, 100))
    halved, small_mask = ramp.resize((50, 50)), row(size=(10, 10)).mask
    original, masked, regrown, difference = cells(
        contact_sheet([row(original=ramp, mask=small_mask, regrown=halved)], CELL)
    )
    assert np.abs(regrown - original).max() <= 3
    assert difference.max() <= 3 * DIFFERENCE_FACTOR
    assert (masked[:, 50:] == original[:, 50:]).all()
    assert (masked[:, :50] != original[:, :50]).any(axis=2).all()


def test_every_row_is_on_the_sheet() -> None:
    one, three = (contact_sheet([row()] * count, CELL) for count in (1, 3))
    assert (three.height - one.height) % 2 == 0
    assert three.height - one.height > 2 * CELL
    assert np.array_equal(*(cells(sheet)[2] for sheet in (one, three)))


def test_the_end_of_a_long_title_is_what_is_shown() -> None:
    name = "fold/" * 60 + "scan-0031.png"
    width = LEFT[-1] + CELL - 12
    font = ImageFont.load_default(10)
    start = next(cut for cut in range(len(name)) if font.getlength("..." + name[cut:]) <= width)
    shortened = contact_sheet([row(title="..." + name[start:])], CELL)
    assert contact_sheet([row(title=name)], CELL).tobytes() == shortened.tobytes()
    assert contact_sheet([row(title="scan.png")], CELL).tobytes() != shortened.tobytes()
