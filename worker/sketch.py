"""An item ready to be sampled, and what is measured of it once it is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from shared import images, plan, tell
from shared.items import Work
from shared.masks import Area, inside_area, labelled_area, share_hidden
from shared.plan import Labels
from shared.similarity import ssim
from worker.recipe import measured


@dataclass(frozen=True)
class Sketch:
    """An item ready to be sampled."""

    work: Work
    original: Image.Image
    placement: images.Placement
    labels: Labels
    keep: Area | None
    """None where the operator hides no pixels."""
    x: np.ndarray[tuple[int, ...], np.dtype[np.float32]]

    @property
    def is_copied(self) -> bool:
        return plan.is_copied(self.work.resolved, self.labels)


def draw(work: Work, data: bytes, uploaded: Image.Image | None) -> Sketch:
    """The sketch of an item, from its original's bytes and the mask image that came with it, if its job uses it.

    Raises BadImage, and what `plan.keep_mask` raises.
    """
    resolved = work.resolved
    original = images.open_image(data, work.path, upright=work.upright)
    labels = Labels(work.boxes, work.outlines)
    if resolved.mask is None:
        keep, placement = None, images.place(original.width, original.height, resolved.long_side, resolved.multiple)
    else:
        keep, placement = plan.keep_mask(resolved, labels, original.width, original.height, work.seed, uploaded)
    return Sketch(work, original, placement, labels, keep, images.to_canvas(original, placement, work.white))


def finished(sketch: Sketch, x: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[bytes, str]:
    """The bytes of the new image that was sampled as `x` (3, H, W), and their format as Pillow calls it."""
    work, resolved = sketch.work, sketch.work.resolved
    image = sketch.original
    if not sketch.is_copied:
        image = plan.blend(
            x, sketch.keep, sketch.placement, sketch.original, sketch.labels, resolved, work.white, seed=work.seed
        )
    same = resolved.image_format == "same"
    image_format = (sketch.original.format or "PNG") if same else resolved.image_format.upper()
    return images.encode(image, image_format), image_format


def of_the_file(sketch: Sketch, new: Image.Image) -> dict[str, float]:
    """Of the written file, opened: how far the pixels that were to be the original's are from it, in its grey levels;
    how far the others are, in shares of white, and whether they are brighter; the seam between both; the tell of the
    boxes."""
    labels, resolved, white = sketch.labels, sketch.work.resolved, sketch.work.white
    made, old = images.colours(new), images.colours(sketch.original)
    area = plan.protected(sketch.keep, sketch.placement, labels, resolved)
    by = made - old
    measures: dict[str, float] = {}
    if area.any():
        measures["largest_difference"] = int(np.abs(by[:, area]).max())
    regrown = by[:, ~area]
    if regrown.size:
        measures["change"] = round(float(np.abs(regrown).mean()) / white, 4)
        measures["drift"] = round(float(regrown.mean()) / white, 4)
    energies = tell.energy(made, white), tell.energy(old, white)
    wide = plan.FEATHER * max(new.size)
    step = tell.seam(*energies, area, plan.feather(sketch.placement, resolved) + 1) if area.any() else None
    box_tell = tell.of_energies(*energies, plan.corners(labels.boxes), wide)
    found = {"seam": step, "box_tell": box_tell}
    return measures | {name: round(value, 3) for name, value in found.items() if value is not None}


def of_the_canvas(sketch: Sketch, x: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, float]:
    """Before blending, on the canvas: share hidden; PSNR in dB and SSIM to the original, of kept pixels and of the
    labelled boxes; PSNR of hidden pixels.

    Where no pixels are hidden: PSNR of the picture, and of what the operator tells of it, in place of kept and hidden.
    """
    if sketch.is_copied:
        return {"hidden_share": 0.0}
    inside = inside_area(sketch.placement)
    x = np.clip(x, -1, 1)
    error = ((x - sketch.x) ** 2).mean(axis=0)
    boxes = labelled_area(sketch.labels.scene(sketch.placement), 0) & inside
    grey = x.mean(axis=0), sketch.x.mean(axis=0)
    measures = {"psnr_boxes": _psnr(error[boxes]), "ssim_boxes": ssim(*grey, boxes)} if boxes.any() else {}
    if sketch.keep is None:
        seen, known = (measured(sketch.work.resolved, picture) for picture in (x, sketch.x))
        return {"psnr": _psnr(error[inside]), "psnr_measured": _psnr((seen - known) ** 2), **measures}
    kept = sketch.keep & inside
    return {
        "hidden_share": round(share_hidden(sketch.keep, inside), 4),
        "psnr_kept": _psnr(error[kept]),
        "psnr_hidden": _psnr(error[~sketch.keep]),
        "ssim_kept": ssim(*grey, kept),
        **measures,
    }


def _psnr(squared: np.ndarray[Any, np.dtype[np.float32]]) -> float:
    """Peak signal to noise ratio in dB, the peak being the whole range [-1, 1]; 99 for a perfect match."""
    mean = float(squared.mean())
    return round(min(99.0, 10 * np.log10(4 / mean)), 2) if mean > 0 else 99.0
