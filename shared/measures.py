"""What is measured of every new image: the names under which an item has them, and what they mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Measure:
    """`title` and `meaning` are for people; `digits` are shown after the point."""

    title: str
    meaning: str
    unit: str = ""
    digits: int = 3


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "hidden_share": Measure("Share hidden", "Of the picture's pixels, those that were hidden and regrown."),
        "psnr_kept": Measure(
            "PSNR of kept pixels", "Before blending, on the model's canvas: how near kept pixels came.", "dB", 1
        ),
        "ssim_kept": Measure("SSIM of kept pixels", "Before blending: structural similarity where pixels were kept."),
        "psnr_boxes": Measure("PSNR in boxes", "Before blending: how near the labelled boxes came.", "dB", 1),
        "ssim_boxes": Measure("SSIM in boxes", "Before blending: structural similarity in the labelled boxes."),
        "psnr_hidden": Measure(
            "PSNR of hidden pixels", "To the original that was hidden: low means that much is new.", "dB", 1
        ),
        "psnr": Measure("PSNR", "Of the whole picture to the original, where the operator hides no pixels.", "dB", 1),
        "psnr_measured": Measure("PSNR of what was measured", "Of what the operator tells of the picture.", "dB", 1),
        "change": Measure(
            "Change", "Mean difference to the original where pixels are not its own, in shares of white."
        ),
        "drift": Measure(
            "Intensity drift", "How much brighter (or, below 0, darker) regrown pixels are, in shares of white."
        ),
        "seam": Measure(
            "Seam",
            "Steps between neighbours where the original's pixels end, over those of the original there: 1 is none.",
        ),
        "box_tell": Measure(
            "Tell of the boxes",
            "How much sharper a box is against its surroundings than in the original: 1 is no more.",
        ),
        "largest_difference": Measure(
            "Largest difference", "Of pixels that are to be the original's, in its grey levels.", digits=0
        ),
        "source_distance": Measure("Distance to its source", "Seen from afar: 0 is equal, 1 has nothing in common."),
        "nearest_distance": Measure("Distance to the nearest other image", "Of the dataset, seen from afar."),
        "seconds": Measure("Seconds", "That it took to sample.", "s", 2),
    }
)
