"""Boxes to keep masks: 1 = kept.

A mask is a boolean (canvas_height, canvas_width) array, True where the pixel is known to the sampler and False where it
is hidden and will be regrown. Padding is kept always, so that nothing is spent on it, and counts in no share.

`scene` says what a mask is drawn around, `kinds` draws it, `options` is what a user may ask of each kind.
"""

from shared.masks.kinds import MASKS, relative_distance, share_hidden
from shared.masks.options import AnyMask, GaussianDistance
from shared.masks.scene import Area, Scene, inside_area, labelled_area

__all__ = [
    "MASKS",
    "AnyMask",
    "Area",
    "GaussianDistance",
    "Scene",
    "inside_area",
    "labelled_area",
    "relative_distance",
    "share_hidden",
]
