import struct
import warnings
import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, PngImagePlugin

from shared.errors import BadImage, Invalid
from shared.images import (
    FORMATS,
    MAX_PIXELS,
    at_source_size,
    encode,
    examine,
    from_canvas,
    mask_on_canvas,
    open_image,
    paste,
    place,
    shown,
    to_canvas,
    window,
)

MODES = ["L", "LA", "RGB", "RGBA", "I;16"]
WRITABLE = [
    *[("PNG", mode) for mode in MODES],
    *[("TIFF", mode) for mode in MODES],
    *[("BMP", mode) for mode in ("L", "RGB")],
    *[("WEBP", mode) for mode in ("RGB", "RGBA")],
]
side = st.integers(1, 24)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine


def draw_image(mode: str, height: int = 12, width: int = 17, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 2**16, (height, width), dtype=np.uint16))
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))


def saved(image: Image.Image, image_format: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, format=image_format, **options)
    return out.getvalue()


def equal(one: Image.Image, other: Image.Image) -> bool:
    return (one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes())


def opened_or_detail(data: bytes, name: str) -> Image.Image | str:
    try:
        return open_image(data, name)
    except BadImage as error:
        return error.detail


def white_of(mode: str) -> int:
    return 65535 if mode == "I;16" else 255


@unhurried
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 1024), st.sampled_from([1, 8, 64]))
def test_a_placement_keeps_the_aspect_and_centres_the_picture_on_the_smallest_square(
    width: int, height: int, long_side: int, multiple: int
) -> None:
    p = place(width, height, long_side, multiple)
    assert max(p.width, p.height) == long_side
    assert abs(p.width * max(width, height) - width * long_side) <= max(width, height)
    assert abs(p.height * max(width, height) - height * long_side) <= max(width, height)
    assert min(p.width, p.height) >= 1
    assert p.canvas_width == p.canvas_height
    assert p.canvas_width % multiple == 0
    assert 0 <= p.canvas_width - long_side < multiple
    assert (p.left, p.top) == ((p.canvas_width - p.width) // 2, (p.canvas_height - p.height) // 2)


@pytest.mark.parametrize("wrong", [(0, 5, 8, 8), (5, 0, 8, 8), (5, 5, 0, 8), (5, 5, 8, 0)])
def test_a_placement_has_no_empty_side(wrong: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        place(*wrong)


@pytest.mark.parametrize("mode", MODES)
@unhurried
@given(height=side, width=side, multiple=st.sampled_from([1, 8]), seed=st.integers(0, 99))
def test_at_its_own_size_an_image_comes_back_from_the_canvas_unchanged(
    mode: str, height: int, width: int, multiple: int, seed: int
) -> None:
    image = draw_image(mode, height, width, seed)
    p = place(width, height, max(width, height), multiple)
    assert equal(from_canvas(to_canvas(image, p, white_of(mode)), p, image, white_of(mode)), image)


@pytest.mark.parametrize("mode", MODES)
@unhurried
@given(height=side, width=side, long_side=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_canvas_lies_in_minus_one_to_one_with_black_padding(
    mode: str, height: int, width: int, long_side: int, seed: int
) -> None:
    image = draw_image(mode, height, width, seed)
    p = place(width, height, long_side, 16)
    canvas = to_canvas(image, p, white_of(mode))
    assert canvas.dtype == np.float32
    assert canvas.shape == (3, p.canvas_height, p.canvas_width)
    assert np.abs(canvas).max() <= 1
    canvas[:, p.top : p.top + p.height, p.left : p.left + p.width] = -1
    assert (canvas == -1).all()


@pytest.mark.parametrize("mode", MODES)
def test_whatever_the_canvas_the_result_has_the_size_and_mode_of_its_source(mode: str) -> None:
    image = draw_image(mode, 40, 31)
    p = place(31, 40, 16, 8)
    x = np.random.default_rng(1).normal(0, 3, (3, p.canvas_height, p.canvas_width)).astype(np.float32)
    result = from_canvas(x, p, image, white_of(mode))
    assert (result.mode, result.size) == (mode, (31, 40))


def test_black_is_minus_one_and_white_is_plus_one_and_colours_keep_their_channel() -> None:
    image = Image.fromarray(np.array([[[0, 255, 51], [255, 0, 51]]], dtype=np.uint8))
    canvas = to_canvas(image, place(2, 1, 2, 1))
    np.testing.assert_allclose(canvas[:, 0], [[-1, 1], [1, -1], [-0.6, -0.6]], atol=1e-6)


def test_twelve_bits_in_a_sixteen_bit_file_fill_the_range_and_are_written_back() -> None:
    image = Image.fromarray(np.array([[0, 4095], [1234, 4000]], dtype=np.uint16))
    p, white = place(2, 2, 2, 8), window(4000)
    canvas = to_canvas(image, p, white)
    assert canvas.max() == 1
    assert equal(from_canvas(canvas, p, image, white), image)


@pytest.mark.parametrize(("maximum", "white"), [(0, 1), (1, 1), (255, 255), (256, 511), (4000, 4095), (65535, 65535)])
def test_a_window_is_the_smallest_all_ones_number_that_holds_the_maximum(maximum: int, white: int) -> None:
    assert window(maximum) == white


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_fine_stripes_shrink_to_their_mean_and_not_to_a_pattern(mode: str) -> None:
    white = white_of(mode)
    stripes = np.zeros((64, 64), dtype=np.uint16 if mode == "I;16" else np.uint8)
    stripes[:, ::2] = white
    image = Image.fromarray(np.stack([stripes] * 3, axis=2) if mode == "RGB" else stripes)
    canvas = to_canvas(image, place(64, 64, 13, 1), white)
    assert np.abs(canvas[:, 2:-2, 2:-2]).max() < 0.1


def test_values_outside_the_range_are_clamped_and_not_wrapped() -> None:
    x = np.stack([np.full((2, 2), value, dtype=np.float32) for value in (-5, 0, 5)])
    result = from_canvas(x, place(2, 2, 2, 1), Image.new("RGB", (2, 2)))
    assert np.asarray(result)[0, 0].tolist() == [0, 128, 255]


def test_grey_is_the_mean_of_the_channels() -> None:
    x = np.stack([np.full((2, 2), value, dtype=np.float32) for value in (-1, -1, 0.8)])
    result = from_canvas(x, place(2, 2, 2, 1), Image.new("L", (2, 2)))
    assert np.asarray(result)[0, 0] == 76


def test_alpha_is_hidden_from_the_canvas_and_put_back() -> None:
    image = draw_image("RGBA")
    p = place(17, 12, 8, 8)
    assert (to_canvas(image, p) == to_canvas(image.convert("RGB"), p)).all()
    black = from_canvas(np.full((3, 8, 8), -1, dtype=np.float32), p, image)
    assert black.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    assert black.getchannel("R").getextrema() == (0, 0)


def test_an_image_of_another_size_than_its_placement_is_refused() -> None:
    with pytest.raises(ValueError, match="17 x 12"):
        to_canvas(draw_image("L", 5, 5), place(17, 12, 8, 8))


areas = arrays(np.bool_, (12, 17), elements=st.sampled_from([False, False, False, False, True]))


def distance_to(area: np.ndarray) -> np.ndarray:
    """Of each pixel to the nearest of `area`, found by trying all; infinite if there is none."""
    rows, columns = np.indices(area.shape)
    away = [np.hypot(rows - row, columns - column) for row, column in np.argwhere(area)]
    return np.min([*away, np.full(area.shape, np.inf)], axis=0)


@pytest.mark.parametrize("mode", MODES)
@unhurried
@given(area=areas, feather=st.sampled_from([0, 1, 2.5]))
def test_a_pasted_area_is_the_original_to_the_bit_and_beyond_the_feather_nothing_changes(
    mode: str, area: np.ndarray, feather: float
) -> None:
    original, result = draw_image(mode, seed=1), draw_image(mode, seed=2)
    pasted = paste(result, original, area, feather)
    assert (pasted.mode, pasted.size) == (original.mode, original.size)
    before, source, after = (np.asarray(image).astype(float) for image in (result, original, pasted))
    assert (after[area] == source[area]).all()
    share = np.maximum(1 - distance_to(area) / (feather + 1), 0).reshape(12, 17, *[1] * (before.ndim - 2))
    assert (after[(share == 0).reshape(12, 17)] == before[(share == 0).reshape(12, 17)]).all()
    assert np.abs(after - (share * source + (1 - share) * before)).max() <= 0.5 + 1e-6


def test_a_feather_fades_linearly_outside_the_area() -> None:
    original, result = Image.new("L", (11, 1), 101), Image.new("L", (11, 1), 0)
    pasted = paste(result, original, np.array([[True] * 3 + [False] * 8]), 3)
    assert np.asarray(pasted)[0].tolist() == [101, 101, 101, 76, 50, 25, 0, 0, 0, 0, 0]


def test_a_picture_taller_than_a_strip_is_pasted_without_a_seam() -> None:
    rng = np.random.default_rng(0)
    original, result = (Image.fromarray(rng.integers(0, 256, (1100, 3), dtype=np.uint8)) for _ in range(2))
    area = np.zeros((1100, 3), dtype=np.bool_)
    area[[514, 1021], 1] = True
    share = np.maximum(1 - distance_to(area) / 7, 0)
    expected = np.rint(share * np.asarray(original) + (1 - share) * np.asarray(result))
    assert np.array_equal(np.asarray(paste(result, original, area, 6)), expected)


@pytest.mark.parametrize("mode", ["1", *MODES])
def test_a_mask_image_of_any_mode_keeps_where_it_is_bright(mode: str) -> None:
    bright = np.array([[True, False, True], [False, False, True]])
    middle = (white_of(mode) + 1) // 2
    values = np.where(bright, middle, middle - 1).astype(np.uint16 if mode == "I;16" else np.uint8)
    mask = Image.fromarray(bright if mode == "1" else values)
    mask = mask if mode in ("1", "L", "I;16") else mask.convert(mode)
    p = place(60, 40, 48, 16)
    area = mask_on_canvas(mask, p)
    assert not area[: p.top].any()
    assert np.array_equal(area[p.top : p.top + p.height], np.kron(bright, np.ones((16, 16))).astype(bool))


@unhurried
@given(width=side, height=side, long_side=st.integers(1, 40))
def test_an_area_at_the_sources_size_is_that_of_the_nearest_pixel_of_the_canvas(
    width: int, height: int, long_side: int
) -> None:
    p = place(width, height, long_side, 16)
    area = np.random.default_rng(0).random((p.canvas_height, p.canvas_width)) < 0.5
    stretched = at_source_size(area, p)
    allowed = []
    for tie in (-1e-9, 1e-9):  # which of two equally near pixels it is, rounding decides
        rows = p.top + ((np.arange(height) + 0.5) * p.height / height + tie).astype(int)
        columns = p.left + ((np.arange(width) + 0.5) * p.width / width + tie).astype(int)
        allowed.append((rows, columns))
    assert np.any(
        [stretched == area[np.ix_(rows, columns)] for rows, _ in allowed for _, columns in allowed], axis=0
    ).all()


def test_sixteen_bits_are_shown_from_black_to_white() -> None:
    image = Image.fromarray(np.array([[0, 2048, 4095]], dtype=np.uint16))
    assert np.asarray(shown(image, 4095))[0].tolist() == [[0] * 3, [127] * 3, [255] * 3]


def test_pasting_between_images_that_differ_in_size_or_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be pasted"):
        paste(draw_image("L"), draw_image("RGB"), np.zeros((12, 17), dtype=np.bool_), 0)


@pytest.mark.parametrize(("image_format", "mode"), WRITABLE)
def test_a_lossless_file_reads_back_the_same_pixels_and_the_same_bytes_are_written_again(
    image_format: str, mode: str
) -> None:
    image = draw_image(mode)
    data = encode(image, image_format)
    again = open_image(data, "a")
    assert equal(again, image)
    assert again.format == image_format
    assert encode(again, image_format) == data


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_keeps_its_mode_and_is_close(mode: str) -> None:
    flat = Image.new(mode, (32, 32), 90 if mode == "L" else (200, 30, 90))
    again = open_image(encode(flat, "JPEG"), "a")
    assert again.mode == mode
    assert np.abs(np.asarray(again, dtype=int) - np.asarray(flat, dtype=int)).max() <= 2


def test_a_jpeg_has_quality_95_and_full_chroma() -> None:
    image = Image.open(BytesIO(encode(draw_image("RGB"), "JPEG")))
    assert image.quantization == Image.open(BytesIO(saved(draw_image("RGB"), "JPEG", quality=95))).quantization
    assert {(horizontal, vertical) for _, horizontal, vertical, _ in image.layer} == {(1, 1)}


@pytest.mark.parametrize(
    ("image_format", "mode"), [("JPEG", "I;16"), ("JPEG", "RGBA"), ("BMP", "RGBA"), ("WEBP", "I;16")]
)
def test_a_format_that_cannot_hold_the_mode_is_refused(image_format: str, mode: str) -> None:
    with pytest.raises(Invalid, match="choose PNG"):
        encode(draw_image(mode), image_format)


@pytest.mark.parametrize("image_format", FORMATS)
def test_nothing_the_source_said_about_itself_is_written(image_format: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    text = PngImagePlugin.PngInfo()
    text.add_text("patient", "Jane Doe")
    extra = {
        "JPEG": {"exif": exif, "comment": "Jane Doe", "icc_profile": b"Jane Doe" * 20},
        "PNG": {"exif": exif, "pnginfo": text, "icc_profile": b"Jane Doe" * 20, "dpi": (72, 72)},
        "BMP": {"dpi": (72, 72)},
        "TIFF": {"exif": exif, "description": "Jane Doe", "icc_profile": b"Jane Doe" * 20},
        "WEBP": {"exif": exif, "xmp": b"Jane Doe", "icc_profile": b"Jane Doe" * 20},
    }[image_format]
    source = saved(draw_image("RGB"), image_format, **extra)
    assert (b"Jane Doe" in source) or image_format in {"BMP", "PNG"}
    opened = open_image(source, "a")
    data = encode(opened, image_format)
    bare = Image.frombytes(opened.mode, opened.size, opened.tobytes())
    assert data == encode(bare, image_format)
    assert b"Jane Doe" not in data
    written = Image.open(BytesIO(data))
    assert not {"exif", "xmp", "icc_profile", "comment", "patient"} & set(written.info)


@pytest.mark.parametrize("image_format", FORMATS)
def test_what_an_image_tells_beside_its_pixels_is_found(image_format: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    text = PngImagePlugin.PngInfo()
    text.add_text("patient", "Jane Doe")
    told: dict[str, tuple[dict[str, object], set[str]]] = {
        "JPEG": ({"exif": exif, "comment": "Jane Doe", "xmp": b"<x/>"}, {"exif", "text", "xmp"}),
        "PNG": ({"exif": exif, "pnginfo": text}, {"exif", "text"}),
        "BMP": ({"dpi": (72, 72)}, set()),
        "TIFF": ({"description": "Jane Doe"}, {"exif"}),
        "WEBP": ({"xmp": b"<x/>"}, {"xmp"}),
    }
    extra, expected = told[image_format]
    assert examine(saved(draw_image("RGB"), image_format, **extra), "a").metadata == expected
    assert examine(saved(draw_image("RGB"), image_format), "a").metadata == set()


@pytest.mark.parametrize(
    ("orientation", "declared", "upright"),
    [
        (1, (8, 16), True),
        (6, (16, 8), True),
        (6, (8, 16), False),
        (6, None, True),
        (3, (8, 16), True),
        (6, (9, 16), None),
        (1, (16, 8), None),
    ],
)
def test_the_declared_size_decides_whether_exif_turns(
    orientation: int, declared: tuple[int, int] | None, upright: bool | None
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(draw_image("RGB", 16, 8), "JPEG", exif=exif)
    if upright is None:
        with pytest.raises(BadImage, match=r"^a: has .* pixels, and in a\.xml it has"):
            examine(data, "a", declared=declared, declared_in="a.xml")
        return
    examined = examine(data, "a", declared=declared)
    assert (examined.upright, examined.image.format) == (upright, "JPEG")
    assert equal(examined.image, open_image(data, "a", upright=upright))
    assert declared in (None, examined.image.size)


@pytest.mark.parametrize("image_format", FORMATS)
@unhurried
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_refused_unless_no_pixel_was_lost(image_format: str, cut: float) -> None:
    data = encode(draw_image("RGB"), image_format)
    opened = opened_or_detail(data[: int(cut * len(data))], "scan")
    if isinstance(opened, str):
        assert opened.startswith("scan: ")
    else:
        assert equal(opened, open_image(data, "scan"))


@pytest.mark.parametrize("image_format", FORMATS)
@unhurried
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
@pytest.mark.filterwarnings("ignore:::PIL")
def test_a_damaged_file_opens_in_a_known_mode_or_is_refused(
    image_format: str, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(encode(draw_image("L"), image_format))
    for place_, value in changes:
        data[int(place_ * len(data))] = value
    opened = opened_or_detail(bytes(data), "scan")
    assert opened.startswith("scan: ") if isinstance(opened, str) else opened.mode in MODES


@pytest.mark.parametrize("image_format", ["GIF", "PPM", "ICO", "TGA", "EPS"])
def test_a_format_that_is_not_listed_is_refused(image_format: str) -> None:
    data = saved(Image.new("RGB", (16, 16)), image_format)
    with pytest.raises(BadImage, match=r"^scan\.png: not a readable"):
        open_image(data, "scan.png")


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises pixels and holds none."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    end = b"IDAT"
    return (
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\x00\x00\x00\x00"
        + end
        + struct.pack(">I", zlib.crc32(end))
    )


@pytest.mark.parametrize(("width", "height"), [(9460, 9460), (12000, 12000), (60000, 60000)])
@pytest.mark.parametrize("warnings_are", ["error", "ignore"])
def test_a_bomb_is_refused_by_its_header_whatever_becomes_of_warnings(
    width: int, height: int, warnings_are: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(warnings_are)
        with pytest.raises(BadImage, match=r"^scan\.png: .*pixels.*limit"):
            open_image(png_header(width, height), "scan.png", max_pixels=10**12)


def test_the_pixel_limit_is_exact_and_applies_before_decoding() -> None:
    data = encode(draw_image("L", 10, 20), "PNG")
    assert open_image(data, "a", max_pixels=200).size == (20, 10)
    with pytest.raises(BadImage, match=r"20 x 10 pixels; the limit is 199"):
        open_image(data, "a", max_pixels=199)
    with pytest.raises(BadImage, match="the limit"):
        open_image(png_header(20, 10), "a", max_pixels=199)
    assert Image.MAX_IMAGE_PIXELS == MAX_PIXELS


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_a_file_of_several_pictures_is_refused(image_format: str) -> None:
    frames = [draw_image("RGB", seed=seed) for seed in range(3)]
    data = saved(frames[0], image_format, save_all=True, append_images=frames[1:])
    with pytest.raises(BadImage, match=r"^scan: holds several pictures"):
        open_image(data, "scan")


def test_a_phone_photo_with_a_preview_is_its_first_picture() -> None:
    photo, preview = draw_image("RGB", seed=1), draw_image("RGB", seed=2)
    opened = open_image(saved(photo, "MPO", save_all=True, append_images=[preview]), "a")
    assert opened.format == "JPEG"
    assert equal(opened, open_image(saved(photo, "JPEG"), "a"))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.swapaxes(0, 1)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].swapaxes(0, 1)),
        (8, np.rot90),
    ],
)
def test_an_image_is_turned_upright_and_keeps_its_format(image_format: str, orientation: int, turn: object) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = draw_image("RGB", 8, 16)
    options = {"lossless": True} if image_format == "WEBP" else {}
    opened = open_image(saved(stored, image_format, exif=exif, **options), "a")
    upright = turn(np.asarray(open_image(saved(stored, image_format, **options), "a")))
    assert opened.format == image_format
    assert np.array_equal(np.asarray(opened), upright)


def test_a_palette_becomes_colour_and_its_transparency_an_alpha_channel() -> None:
    palette = draw_image("RGB").quantize(8)
    plain = open_image(saved(palette, "PNG"), "a")
    clear = open_image(saved(palette, "PNG", transparency=3), "a")
    assert equal(plain, palette.convert("RGB"))
    assert clear.mode == "RGBA"
    assert np.array_equal(np.asarray(clear)[:, :, 3] == 0, np.asarray(palette) == 3)


@pytest.mark.parametrize(("mode", "clear", "result"), [("L", 7, "LA"), ("RGB", (1, 2, 3), "RGBA"), ("1", 255, "LA")])
def test_a_transparent_colour_becomes_an_alpha_channel(mode: str, clear: object, result: str) -> None:
    image = Image.new(mode, (3, 2))
    image.putpixel((1, 0), clear)
    opened = open_image(saved(image, "PNG", transparency=clear), "a")
    assert opened.mode == result
    assert np.argwhere(np.asarray(opened)[:, :, -1] == 0).tolist() == [[0, 1]]


def test_bilevel_becomes_grey_of_black_and_white() -> None:
    image = Image.fromarray(np.array([[True, False], [False, True]]))
    for image_format in ("PNG", "BMP", "TIFF"):
        assert np.asarray(open_image(saved(image, image_format), "a")).tolist() == [[255, 0], [0, 255]]


@unhurried
@given(arrays(np.uint16, (3, 4)))
def test_sixteen_bit_grey_keeps_every_value_in_either_byte_order(values: np.ndarray) -> None:
    big = Image.frombytes("I;16B", (4, 3), values.astype(">u2").tobytes())
    for data in (saved(Image.fromarray(values), "PNG"), saved(Image.fromarray(values), "TIFF"), saved(big, "TIFF")):
        opened = open_image(data, "a")
        assert opened.mode == "I;16"
        assert np.array_equal(np.asarray(opened), values)


def test_wide_integers_are_kept_if_they_fit_sixteen_bits_and_else_refused() -> None:
    fits = Image.fromarray(np.array([[0, 65535]], dtype=np.int32))
    assert np.asarray(open_image(saved(fits, "TIFF"), "a")).tolist() == [[0, 65535]]
    for value in (-1, 65536):
        wide = Image.fromarray(np.array([[0, value]], dtype=np.int32))
        with pytest.raises(BadImage, match=r"^scan: 32-bit values"):
            open_image(saved(wide, "TIFF"), "scan")


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(BadImage, match=r"^scan: floating-point"):
        open_image(saved(Image.new("F", (2, 2)), "TIFF"), "scan")


def test_print_colours_become_rgb() -> None:
    opened = open_image(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"), "a")
    assert opened.mode == "RGB"
    assert opened.getpixel((0, 0)) == (255, 0, 0)
