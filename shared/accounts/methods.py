"""methods.md: a paragraph for a paper, with every number, and what it cites."""

from shared.accounts.facts import Account
from shared.accounts.words import blended, day, hidden, number, outcome, sampled, spread
from shared.filters import Spread

_CITED = """\
```bibtex
@misc{prairie-inverse,
  author = {Prairie and others},
  title  = {Data Augmentation as an Inverse Problem}
}

@inproceedings{rout2023psld,
  author    = {Rout, Litu and Raoof, Negin and Daras, Giannis and Caramanis, Constantine and Dimakis, Alexandros G. and
               Shakkottai, Sanjay},
  title     = {Solving Linear Inverse Problems Provably via Posterior Sampling with Latent Diffusion Models},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {36},
  year      = {2023}
}

@inproceedings{rombach2022ldm,
  author    = {Rombach, Robin and Blattmann, Andreas and Lorenz, Dominik and Esser, Patrick and Ommer, Bj{\\"o}rn},
  title     = {High-Resolution Image Synthesis with Latent Diffusion Models},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2022}
}
```
"""
_TOLD = ("psnr_kept", "psnr", "ssim_kept", "box_tell", "change")


def methods(account: Account) -> str:
    """Markdown. What only its authors know (how the data was split, which detector) is left to them, in brackets."""
    versions = sorted({f"Regrow {maker['regrow']}" for maker, _ in account.makers if "regrow" in maker})
    devices = sorted({maker["device"] for maker, _ in account.makers if "device" in maker})
    objects = [f"{each.before:,} of {name}" for name, each in account.balance.items()]
    paragraph = " ".join(
        [
            f"We expanded the {'/'.join(account.spec.splits)} split of {account.dataset} ({account.originals:,} "
            f"images; labelled objects: {', '.join(objects) or 'none'}) with {' and '.join(versions) or 'Regrow'}, "
            "by posterior sampling with a latent diffusion model [rombach2022ldm; rout2023psld], as data "
            "augmentation posed as an inverse problem [prairie-inverse].",
            hidden(account),
            sampled(account),
            blended(account),
            "Labels were those of the source image.",
            outcome(account),
            *_measured(account),
            *(_read(score.right, score.cards) for score in account.scores),
            f"The expanded set has {account.originals + account.kept:,} images, so that {account.epochs} epochs of it "
            "show a model as many as 100 of the originals. Splits other than those named were not expanded, and all "
            "variants of an image are in its split.",
            f"Images were made on {', '.join(devices)}." if devices else "",
            f"[Job {account.job_id}, {day(account.created_at)}, revision {account.revision} of its archive.]",
        ]
    )
    return f"# Methods\n\n{paragraph.replace('  ', ' ')}\n\n## References\n\n{_CITED}"


def _measured(account: Account) -> list[str]:
    found = [each for name in _TOLD if (each := spread(account, name)) is not None]
    return [f"Over all new images, {'; '.join(_in_words(each) for each in found)}."] if found else []


def _in_words(each: Spread) -> str:
    median, lowest, highest = (number(each.measure, value) for value in (each.median, each.lowest, each.highest))
    return f"{each.measure} was {median} on the median ({lowest} to {highest})"


def _read(right: int, cards: int) -> str:
    return f"In a blinded review a reader told {right} of {cards} images right."
