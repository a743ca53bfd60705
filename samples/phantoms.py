"""X-ray-like images with labelled fractures, drawn from a seed: a demo needs no download and shows no patient.

    python -m samples.phantoms -o phantoms.zip --images 12 --seed 0

A bone is a hollow tube and what is drawn is how much of it a ray crosses, so the cortex comes out bright and the marrow
dark by themselves. Lengths are shares of the image's long side; y runs down the long side from 0 to 1, x is 0 in the
middle. Brightness is 1 - exp(-attenuation), as on a film.
"""

import argparse
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

Field = NDArray[np.float64]
SMALLEST_SIDE = 64
_TISSUE, _BONE = 1.2, 13.0  # attenuation per unit of length


@dataclass(frozen=True, slots=True)
class Tube:
    """A round limb from `start` to `end` (x, y), of radius `first` there and `last` here, bent sideways by `bow`."""

    start: tuple[float, float]
    end: tuple[float, float]
    first: float
    last: float
    bow: float = 0.0


@dataclass(frozen=True, slots=True)
class Break:
    """A fracture at `at` (0..1 along the bone): all lengths in radii of the bone, `bend` in radians."""

    at: float
    slant: float
    step: float
    bend: float
    gap: float
    waves: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Bone:
    """A tube with a cortex, `flare` times wider at its ends, broken or not."""

    tube: Tube
    flare: float = 0.5
    broken: Break | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """What is X-rayed; the first `long_bones` of `bones` are where fractures are put."""

    tissue: list[Tube]
    bones: list[Bone]
    long_bones: int


def draw(rng: np.random.Generator, width: int, height: int) -> tuple[Image.Image, Field]:
    """An 8-bit grey picture and its boxes (n, 4: x0, y0, x1, y1 as shares of the sides), one or two of them.

    Raises ValueError for sides under SMALLEST_SIDE, on which a fracture would not be seen.
    """
    if min(width, height) < SMALLEST_SIDE:
        raise ValueError(f"a phantom has at least {SMALLEST_SIDE} pixels a side, not {width} x {height}")
    scene = _break_bones((_forearm, _limb)[rng.integers(2)](rng), rng)
    x, y = _grid(rng, min(width, height), max(width, height))
    pixel = 1 / max(width, height)
    depth = np.max([_chord(*_along(tube, x, y), tube.first, tube.last) for tube in scene.tissue], axis=0)
    tissue = 0.4 * depth**0.6  # flatter than a cylinder: hands and fingers would vanish beside an arm
    bone = np.zeros_like(x)
    boxes = []
    for one in scene.bones:
        shadow, fracture = _bone(one, x, y, pixel)
        bone += shadow
        if fracture is not None:
            boxes.append(_box_around(fracture))
    picture = _expose(_TISSUE * gaussian_filter(tissue, 0.003 / pixel), _BONE * bone, rng, pixel)
    if width > height:
        picture, boxes = picture.T, [(y0, x0, y1, x1) for x0, y0, x1, y1 in boxes]
    return Image.fromarray(np.rint(picture * 255).astype(np.uint8)), np.array(boxes)


def _grid(rng: np.random.Generator, short: int, long: int) -> tuple[Field, Field]:
    """Scene coordinates of each pixel, (long, short): the scene mirrored, turned, moved and shrunk a little."""
    rows, columns = np.mgrid[0:long, 0:short]
    scale = rng.uniform(0.9, 1.1) * max(1, 0.75 * long / short)
    x = ((columns + 0.5 - short / 2) / long - rng.normal(0, 0.02)) * scale * rng.choice([-1, 1])
    y = ((rows + 0.5) / long - 0.5) * scale
    angle = rng.normal(0, 0.08)
    return x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle) + 0.5


def _along(tube: Tube, x: Field, y: Field) -> tuple[Field, Field, Field]:
    """Of each pixel: place along the tube (0..1), distance from its axis (signed), distance beyond its ends."""
    (x0, y0), (x1, y1) = tube.start, tube.end
    length = np.hypot(x1 - x0, y1 - y0)
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    place = ((x - x0) * ux + (y - y0) * uy) / length
    t = np.clip(place, 0, 1)
    beside = (y - y0) * ux - (x - x0) * uy - tube.bow * 4 * t * (1 - t)
    return t, beside, np.abs(place - t) * length


def _chord(t: Field, beside: Field, beyond: Field, first: float | Field, last: float | Field) -> Field:
    """How much of a tube with round ends a ray crosses."""
    radius = first + (last - first) * t
    chord: Field = 2 * np.sqrt(np.maximum(radius**2 - beside**2 - beyond**2, 0))
    return chord


def _bone(bone: Bone, x: Field, y: Field, pixel: float) -> tuple[Field, NDArray[np.bool_] | None]:
    """How much bone a ray crosses, and where the fracture is, if there is one."""
    t, beside, beyond = _along(bone.tube, x, y)
    radius = max(bone.tube.first, bone.tube.last)
    gap, fracture = np.ones_like(x), None
    if bone.broken:
        cut = bone.broken
        length = np.hypot(*np.subtract(bone.tube.end, bone.tube.start))
        s = beside / radius
        jags = sum(np.sin(s * (3 + 3 * k) + phase) / (k + 1) for k, phase in enumerate(cut.waves))
        past = (t - cut.at) * length / radius - cut.slant * s - 0.15 * jags
        beside = np.where(past > 0, beside - (cut.step + cut.bend * past) * radius, beside)
        gap = 1 - 0.9 * np.exp(-((past * radius / max(cut.gap * radius, pixel)) ** 2))
        fracture = (np.abs(past) < 0.7) & (np.abs(s) < 1.1 + abs(cut.step)) & (beyond == 0)
    end = np.abs(2 * t - 1) ** 6
    wider = 1 + bone.flare * end
    outer = _chord(t, beside, beyond, bone.tube.first * wider, bone.tube.last * wider)
    marrow = 0.68 + 0.24 * end
    inner = _chord(t, beside, beyond, bone.tube.first * wider * marrow, bone.tube.last * wider * marrow)
    return (outer - (0.92 - 0.42 * end) * inner) * gap, fracture


def _box_around(area: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The bounding box of `area` as shares, with two pixels around it."""
    rows, columns = (np.flatnonzero(area.any(axis=axis)) for axis in (1, 0))
    height, width = area.shape
    return (
        max(columns[0] - 2, 0) / width,
        max(rows[0] - 2, 0) / height,
        min(columns[-1] + 3, width) / width,
        min(rows[-1] + 3, height) / height,
    )


def _expose(tissue: Field, bone: Field, rng: np.random.Generator, pixel: float) -> Field:
    """Attenuation to brightness in [0, 1]: spongy bone, scatter, the detector's stripes, uneven exposure, grain."""

    def cloud(sigma: float) -> Field:
        noise = gaussian_filter(rng.normal(size=bone.shape), max(sigma / pixel, 0.5))
        return np.asarray(noise / noise.std())

    light = 1 - np.exp(-tissue * (1 + 0.06 * cloud(0.02)) - bone * (1 + 0.06 * cloud(0.003)))
    light = light / np.quantile(light, 0.995) * rng.uniform(0.6, 0.8)
    scatter = 0.25 * gaussian_filter(light, 0.03 / pixel)
    rows, columns = (np.linspace(-1, 1, side) for side in bone.shape)
    stripes = 0.006 * gaussian_filter(rng.normal(size=len(columns)), 4) / 0.27
    tilt = rng.normal(0, 0.015) * rows[:, None] + rng.normal(0, 0.015) * columns
    picture = rng.uniform(0.06, 0.12) + 0.85 * light + scatter + tilt + stripes
    if rng.random() < 0.4:
        edge = 1 - rng.uniform(0.02, 0.05)
        picture[int(edge * len(rows)) :] = rng.uniform(0.8, 0.95)
    picture = gaussian_filter(picture, 0.0016 / pixel) + rng.normal(0, 0.008, bone.shape)
    return np.asarray(np.clip(picture, 0, 1))


def _break_bones(scene: Scene, rng: np.random.Generator) -> Scene:
    """One or, at times, two of the long bones broken."""
    bones = list(scene.bones)
    for index in rng.permutation(scene.long_bones)[: 1 + (rng.random() < 0.25)]:
        side = rng.choice([-1, 1])
        top, bottom = bones[index].tube.start[1], bones[index].tube.end[1]
        in_view = (np.array([0.12, 0.86]) - top) / (bottom - top)
        cut = Break(
            at=rng.uniform(*np.clip(in_view, 0.15, 0.85)),
            slant=rng.normal(0, 0.4),
            step=side * rng.uniform(0.1, 0.5),
            bend=side * rng.uniform(0, 0.04),
            gap=rng.uniform(0.1, 0.2),
            waves=tuple(rng.uniform(0, 2 * np.pi, 3)),
        )
        bones[index] = replace(bones[index], broken=cut)
    return Scene(scene.tissue, bones, scene.long_bones)


def _forearm(rng: np.random.Generator) -> Scene:
    """Radius and ulna from above, wrist, hand with fingers."""
    size = rng.uniform(1.2, 1.45)
    wrist = np.array([0.0, rng.uniform(0.42, 0.5)])
    r = 0.0135 * size
    bones = [
        Bone(Tube((-0.04, -0.25), (-0.024, wrist[1] - 0.035), r, 1.15 * r, rng.normal(0, 0.008)), flare=0.7),
        Bone(Tube((0.042, -0.25), (0.037, wrist[1] - 0.04), r, 0.75 * r, rng.normal(0, 0.008)), flare=0.35),
    ]
    tissue = [
        Tube((0, -0.3), (0, wrist[1]), 0.1 * size, 0.05 * size),
        Tube((0, wrist[1]), (0.0, wrist[1] + 0.1 * size), 0.052 * size, 0.075 * size),
    ]
    for row, column in ((0, -1.5), (0, -0.5), (0, 0.6), (1, -1.7), (1, -0.7), (1, 0.3), (1, 1.2)):
        at = wrist + np.array([column * 0.021, 0.002 + row * 0.024]) * size + rng.normal(0, 0.002, 2)
        bones.append(Bone(_from(at, rng.normal(0, 0.6), 0.006 * size, 0.0115 * size), flare=0.1))
    for finger, angle in enumerate(np.linspace(0.24, -0.2, 4) * rng.uniform(0.6, 1.1)):
        base = wrist + np.array([(finger - 1.4) * 0.027, 0.05]) * size
        lengths = np.array([0.1, 0.062, 0.042, 0.03]) * size * (0.95, 1, 0.95, 0.82)[finger]
        _finger(bones, tissue, base, angle, lengths)
    thumb = np.array([0.07, 0.052, 0.038]) * size
    _finger(bones, tissue, wrist + np.array([-0.045, 0.035]) * size, rng.uniform(0.5, 0.8), thumb)
    return Scene(tissue, bones, long_bones=2)


def _finger(bones: list[Bone], tissue: list[Tube], base: Field, angle: float, lengths: Field) -> None:
    """A metacarpal and its phalanges, each thinner than the one before, and the flesh around them."""
    thickness, start = 0.1 * lengths[0] + 0.04 * lengths[-1], base
    for number, length in enumerate(lengths):
        radius = thickness * 0.82**number
        bone = _from(start, angle, length - 2 * radius, radius)
        bones.append(Bone(replace(bone, last=0.9 * radius), flare=0.45))
        tissue.append(_from(start, angle, length, (2.9, 2.5, 2.6, 2.8)[number] * radius))
        start = start + length * np.array([-np.sin(angle), np.cos(angle)])


def _from(start: Field, angle: float, length: float, radius: float) -> Tube:
    """An even tube that leaves `start` at `angle` from straight down."""
    end = start + length * np.array([-np.sin(angle), np.cos(angle)])
    return Tube((start[0], start[1]), (end[0], end[1]), radius, radius)


def _limb(rng: np.random.Generator) -> Scene:
    """One thick bone above a joint and two thin ones below it: thigh and shank, or an arm."""
    size = rng.uniform(0.6, 1.05)
    joint = np.array([0.0, rng.uniform(0.38, 0.5)])
    bend = rng.normal(0, 0.12)
    r = 0.033 * size
    shank = _from(joint + np.array([0.008, 0.05 * size]), bend, 0.8, 0.85 * r)
    thin = _from(joint + np.array([-0.055, 0.075]) * size, bend, 0.8, 0.45 * r)
    bones = [
        Bone(Tube((0.02, -0.3), (joint[0], joint[1] - 0.03 * size), r, 1.1 * r, rng.normal(0, 0.01)), flare=0.75),
        Bone(replace(shank, last=0.75 * r), flare=0.8),
        Bone(thin, flare=0.5),
        Bone(_from(joint + np.array([0.01, -0.03]) * size, 0.0, 0.015 * size, 0.75 * r), flare=0.0),
    ]
    tissue = [
        Tube((0.01, -0.4), (0, joint[1]), 0.2 * size, 0.115 * size),
        replace(_from(joint, bend, 0.8, 0.12 * size), last=0.07 * size, bow=-0.01),
    ]
    return Scene(tissue, bones, long_bones=3)


def write_dataset(
    path: Path, images: int, seed: int, size: tuple[int, int] = (373, 454), valid_share: float = 0.25
) -> None:
    """A zip in the YOLO layout of Ultralytics: one class, `fractured`; image k is the same whatever `images` is.

    `size` is (width, height); the last `valid_share` of the images are the split `valid`. Same arguments, same bytes.
    """
    first_valid = images - round(images * valid_share)
    with zipfile.ZipFile(path, "w") as archive:
        _add(archive, "data.yaml", b"train: images/train\nval: images/valid\nnc: 1\nnames: ['fractured']\n")
        for number in range(images):
            picture, boxes = draw(np.random.default_rng([seed, number]), *size)
            split, stem = "train" if number < first_valid else "valid", f"phantom_{number:04d}"
            jpeg = BytesIO()
            picture.save(jpeg, format="JPEG", quality=95)
            _add(archive, f"images/{split}/{stem}.jpg", jpeg.getvalue())
            _add(archive, f"labels/{split}/{stem}.txt", _yolo(boxes).encode())


def _yolo(boxes: Field) -> str:
    rows = [((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes]
    return "".join("0 " + " ".join(f"{number:.6f}" for number in row) + "\n" for row in rows)


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    # A ZipInfo of its own: `writestr` with a plain name would write the time of day into the zip.
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o644 << 16
    archive.writestr(member, data)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m samples.phantoms", description="Draw a small labelled dataset.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the zip to write")
    parser.add_argument("--images", type=int, default=12, help="how many images, valid ones included (default 12)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same images (default 0)")
    options = parser.parse_args(arguments)
    write_dataset(options.output, options.images, options.seed)
    print(f"{options.output}: {options.images} images")


if __name__ == "__main__":
    main()
