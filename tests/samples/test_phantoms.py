import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from samples.phantoms import SMALLEST_SIDE, Bone, Break, Tube, _bone, _box_around, draw, main, write_dataset

SIZES = [(150, 180), (180, 150), (64, 64), (64, 200)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(6))
def test_boxes_lie_in_the_image_and_hold_some_pixels(seed: int, size: tuple[int, int]) -> None:
    image, boxes = draw(np.random.default_rng(seed), *size)
    assert image.mode == "L"
    assert image.size == size
    assert 1 <= len(boxes) <= 2
    assert (boxes >= 0).all()
    assert (boxes <= 1).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) * size >= 5).all()


def test_boxes_are_as_small_as_those_of_real_fractures() -> None:
    sides = [draw(np.random.default_rng(seed), 112, 136)[1] for seed in range(20)]
    shares = np.array([(x1 - x0) * (y1 - y0) for boxes in sides for x0, y0, x1, y1 in boxes])
    assert 0.003 < np.median(shares) < 0.02
    assert shares.max() < 0.05


def test_a_picture_is_a_bright_bone_on_a_dark_ground() -> None:
    for seed in range(5):
        image, _ = draw(np.random.default_rng(seed), 187, 227)
        levels = np.asarray(image)
        assert np.median(levels) < 100
        assert np.quantile(levels, 0.98) > 150
        assert len(np.unique(levels)) > 100


def test_a_box_shows_bright_bone_and_a_dark_crack() -> None:
    for seed in range(5):
        image, boxes = draw(np.random.default_rng(seed), 187, 227)
        for left, top, right, bottom in np.rint(boxes * [187, 227, 187, 227]).astype(int):
            levels = np.asarray(image).astype(int)[top:bottom, left:right]
            assert levels.max() - levels.min() > 40


def test_a_wide_picture_is_a_tall_one_turned_over_with_its_boxes() -> None:
    for seed in range(3):
        (wide, wide_boxes), (tall, tall_boxes) = (draw(np.random.default_rng(seed), *s) for s in ((120, 90), (90, 120)))
        assert np.array_equal(np.asarray(wide), np.asarray(tall).T)
        assert np.array_equal(wide_boxes, tall_boxes[:, [1, 0, 3, 2]])


def test_a_box_ends_at_the_edge_of_the_image() -> None:
    assert _box_around(np.ones((5, 7), dtype=bool)) == (0, 0, 1, 1)


@pytest.mark.parametrize(("at", "slant", "step"), [(0.3, 0, 0.4), (0.5, 0.5, -0.3), (0.7, -0.5, 0.1)])
def test_a_box_holds_the_whole_crack_and_the_bone_above_it_is_untouched(at: float, slant: float, step: float) -> None:
    y, x = np.mgrid[0:400, 0:200] / 400
    whole = Bone(Tube((0.25, -0.1), (0.25, 1.1), 0.03, 0.03), flare=0)
    broken = replace(whole, broken=Break(at, slant, step, bend=0.02, gap=0.15, waves=(1, 2, 3)))
    intact, none = _bone(whole, x, y, 1 / 400)
    shadow, fracture = _bone(broken, x, y, 1 / 400)
    assert none is None
    left, top, right, bottom = np.rint(np.array(_box_around(fracture)) * [200, 400, 200, 400]).astype(int)
    assert np.allclose(shadow[:top], intact[:top], atol=1e-4)
    axis = shadow[:, 100 - 4 : 100 + 5].mean(axis=1)
    assert top < axis.argmin() < bottom
    assert abs((top + bottom) / 2 / 400 - (1.2 * at - 0.1)) < 0.02
    # Rows below have the bone's full mass again, only shifted: the crack ended within the box.
    assert np.allclose(shadow.sum(axis=1)[bottom:], intact.sum(axis=1)[bottom:], rtol=0.06)
    assert (shadow[top:bottom, :left] == 0).all()
    assert (shadow[top:bottom, right:] == 0).all()


@pytest.mark.parametrize("size", [(SMALLEST_SIDE - 1, 200), (200, SMALLEST_SIDE - 1)])
def test_a_picture_too_small_for_a_fracture_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 64 pixels"):
        draw(np.random.default_rng(0), *size)


def test_the_same_seed_draws_the_same_picture_and_another_seed_another() -> None:
    first, again, other = (draw(np.random.default_rng(seed), 100, 120) for seed in (1, 1, 2))
    assert first[0].tobytes() == again[0].tobytes()
    assert np.array_equal(first[1], again[1])
    assert first[0].tobytes() != other[0].tobytes()


def test_a_dataset_has_the_same_bytes_for_the_same_seed(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.zip", "b.zip", "c.zip")]
    for path, seed in zip(paths, (3, 3, 4), strict=True):
        write_dataset(path, 2, seed, size=(80, 100))
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again
    assert first != other


def test_an_image_does_not_depend_on_how_many_are_drawn(tmp_path: Path) -> None:
    for count in (1, 2):
        write_dataset(tmp_path / f"{count}.zip", count, 0, size=(80, 100), valid_share=0)
    one, two = (zipfile.ZipFile(tmp_path / f"{count}.zip") for count in (1, 2))
    with one, two:
        member = "images/train/phantom_0000.jpg"
        assert one.read(member) == two.read(member)
        assert two.read(member) != two.read("images/train/phantom_0001.jpg")


def test_a_dataset_is_yolo_as_ultralytics_lays_it_out(tmp_path: Path) -> None:
    path = tmp_path / "phantoms.zip"
    write_dataset(path, 4, seed=1, size=(80, 100), valid_share=0.25)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        data = yaml.safe_load(archive.read("data.yaml"))
        assert data == {"train": "images/train", "val": "images/valid", "nc": 1, "names": ["fractured"]}
        splits = {
            split: [name for name in names if name.startswith(f"images/{split}/")] for split in ("train", "valid")
        }
        assert [len(members) for members in splits.values()] == [3, 1]
        for number, name in enumerate(splits["train"] + splits["valid"]):
            assert Image.open(BytesIO(archive.read(name))).size == (80, 100)
            label = name.replace("images", "labels").replace(".jpg", ".txt")
            rows = np.array([line.split() for line in archive.read(label).decode().splitlines()], dtype=float)
            _, boxes = draw(np.random.default_rng([1, number]), 80, 100)
            assert (rows[:, 0] == 0).all()
            corners = np.hstack([rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2])
            np.testing.assert_allclose(corners, boxes, atol=2e-6)


def test_the_command_writes_the_dataset_it_was_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["-o", str(tmp_path / "told.zip"), "--images", "1", "--seed", "7"])
    write_dataset(tmp_path / "called.zip", 1, 7)
    assert (tmp_path / "told.zip").read_bytes() == (tmp_path / "called.zip").read_bytes()
    assert "told.zip" in capsys.readouterr().out
