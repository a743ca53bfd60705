"""The nine kinds of keep mask. Those of Prairie et al., "Data Augmentation as an Inverse Problem", name theirs."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from shared.errors import Invalid
from shared.masks.scene import Area, Geometry, Scene, inside_area, labelled_area, rectangles

Keep = Literal["boxes", "polygons"]


class Draw(Protocol):
    """Where chance comes from: a numpy Generator, or what was drawn before."""

    def normal(self, loc: float, scale: float, size: tuple[int, ...]) -> NDArray[np.float64]: ...
    def random(self, size: tuple[int, ...]) -> NDArray[np.float64]: ...


def gaussian_distance(
    scene: Scene, draw: Draw, *, mu: float, sigma: float, margin: float, keep: Keep, geometry: Geometry
) -> Area:
    """Keep what is labelled, and each other pixel where d < n: n ~ N(mu, sigma) is drawn anew for each pixel.

    d is the distance to the nearest labelled pixel over its maximum inside the picture, so P(keep | d) =
    Phi((mu - d) / sigma). The authors' random-outpainting. The noise is drawn for the whole canvas in one call: what
    is drawn depends on the generator and the canvas, not on the boxes.

    Raises Invalid if nothing is labelled; the `reference` geometry then has its phantom corner.
    """
    labelled = labelled_area(scene, margin, keep, geometry)
    return labelled | gaussian_distance_all(
        scene, draw, mu=mu, sigma=sigma, margin=margin, keep=keep, geometry=geometry
    )


def gaussian_distance_all(
    scene: Scene, draw: Draw, *, mu: float, sigma: float, margin: float, keep: Keep, geometry: Geometry
) -> Area:
    """The same without keeping the labels as such: with mu 0 half of their pixels. The authors' random-entirepainting.

    Raises Invalid as `gaussian_distance` does.
    """
    inside = inside_area(scene.placement)
    labelled = labelled_area(scene, margin, keep, geometry)
    noise = draw.normal(mu, sigma, inside.shape)
    return np.asarray(~inside | (relative_distance(labelled, inside, geometry) < noise))


def outside_boxes(scene: Scene, draw: Draw, *, margin: float, keep: Keep, geometry: Geometry) -> Area:  # noqa: ARG001
    """Keep the labels and nothing else: the authors' outpainting. Raises Invalid if nothing is labelled."""
    if geometry == "exact":
        _require_labels(scene)
    return labelled_area(scene, margin, keep, geometry) | ~inside_area(scene.placement)


def random(scene: Scene, draw: Draw, *, share: float, keep_labels: bool, margin: float, keep: Keep) -> Area:
    """Keep each pixel with probability `share`, and the labels too if so asked: random, random_mask_from_bbox."""
    inside = inside_area(scene.placement)
    kept = ~inside | (draw.random(inside.shape) < share)
    return kept | labelled_area(scene, margin, keep) if keep_labels else kept


def random_inside_boxes(scene: Scene, draw: Draw, *, share: float, keep: Keep) -> Area:
    """Hide each labelled pixel with probability `share` and nothing else: random_inpainting_from_bbox.

    Raises Invalid if nothing is labelled.
    """
    _require_labels(scene)
    labelled = labelled_area(scene, 0, keep)
    return ~(labelled & (draw.random(labelled.shape) < share))


def erase_in_boxes(
    scene: Scene, draw: Draw, *, smallest: float, largest: float, margin: float, geometry: Geometry
) -> Area:
    """Hide one random rectangle in each box: object-aware random erasing, the authors' RandomErasingORE.

    Its sides are `smallest` to `largest` of the box's, each drawn for itself, and it lies anywhere in the box.
    For each box four numbers are drawn: height, width, x and y. Raises Invalid if nothing is labelled.
    """
    _require_labels(scene)
    hidden = np.zeros_like(inside_area(scene.placement))
    for rows, columns in rectangles(scene, margin, geometry):
        u = draw.random((4,))
        if geometry == "reference":
            # Theirs maps all four numbers to smallest..largest, so that it never lies at the box's edge.
            hidden[_truncated_parts(rows, columns, smallest + (largest - smallest) * u)] = True
        else:
            hidden[_parts(rows, columns, u, smallest, largest)] = True
    return ~hidden


def box(scene: Scene, draw: Draw, *, smallest: float, largest: float) -> Area:
    """Hide one random rectangle of the picture, wherever the labels are; its sides are shares of the picture's."""
    p = scene.placement
    hidden = np.zeros_like(inside_area(p))
    rows, columns = slice(p.top, p.top + p.height), slice(p.left, p.left + p.width)
    hidden[_parts(rows, columns, draw.random((4,)), smallest, largest)] = True
    return ~hidden


def boxes_regrown(scene: Scene, draw: Draw, *, margin: float, keep: Keep) -> Area:  # noqa: ARG001
    """Hide the labels and nothing else: the authors' extreme. Raises Invalid if nothing is labelled."""
    _require_labels(scene)
    return ~labelled_area(scene, margin, keep)


def uploaded(scene: Scene, draw: Draw) -> Area:  # noqa: ARG001
    """Keep what the mask that came with the picture keeps. Raises Invalid if none came."""
    if scene.uploaded is None:
        raise Invalid("the mask kind `uploaded` needs a mask image, and this image came without one")
    return scene.uploaded | ~inside_area(scene.placement)


def relative_distance(labelled: Area, inside: Area, geometry: Geometry = "exact") -> NDArray[np.float64]:
    """Distance to the nearest labelled pixel over its maximum inside: 0 where labelled, 1 at the farthest pixel.

    Where nothing is labelled the authors' distances are, by a chance of scipy's, those to the pixel above the
    picture's upper left corner; so are those of the `reference` geometry. Raises Invalid otherwise.
    """
    if labelled.any():
        distance = np.asarray(distance_transform_edt(~labelled), dtype=np.float64)
    elif geometry == "reference":
        top, left = np.argwhere(inside)[0]
        rows, columns = np.indices(inside.shape)
        distance = np.sqrt((rows - top + 1.0) ** 2 + (columns - left) ** 2)
    else:
        raise Invalid(UNLABELLED)
    farthest = distance[inside].max()
    return distance / farthest if farthest > 0 else distance


def share_hidden(keep: Area, inside: Area) -> float:
    """The share of the picture's own pixels that `keep` hides, 0..1."""
    return 1 - float(keep[inside].mean())


UNLABELLED = "this mask is drawn around labels, and the image has none; choose what to do with `unlabelled`"


def _require_labels(scene: Scene) -> None:
    if not len(scene.boxes):
        raise Invalid(UNLABELLED)


def _parts(rows: slice, columns: slice, u: NDArray[np.float64], smallest: float, largest: float) -> tuple[slice, slice]:
    """A part of the rectangle, of at least a pixel; each place in it is as likely as any other."""
    tall, wide, x, y = u
    return _part(rows, smallest + (largest - smallest) * tall, y), _part(
        columns, smallest + (largest - smallest) * wide, x
    )


def _part(whole: slice, share: float, place: float) -> slice:
    side = whole.stop - whole.start
    size = min(max(round(share * side), 1), side)
    start = whole.start + int(place * (side - size + 1))
    return slice(start, start + size)


def _truncated_parts(rows: slice, columns: slice, u: NDArray[np.float64]) -> tuple[slice, slice]:
    def part(whole: slice, share: float, place: float) -> slice:
        side = whole.stop - whole.start
        size = int(share * side)
        start = whole.start + int(place * (side - size))
        return slice(start, start + size)

    tall, wide, x, y = u
    return part(rows, tall, y), part(columns, wide, x)


MASKS: Mapping[str, Callable[..., Area]] = MappingProxyType(
    {
        mask.__name__: mask
        for mask in (
            gaussian_distance,
            gaussian_distance_all,
            outside_boxes,
            random,
            random_inside_boxes,
            erase_in_boxes,
            box,
            boxes_regrown,
            uploaded,
        )
    }
)
"""Each is called (scene, draw, **options), the options of its kind in `options`, and gives a keep mask."""
