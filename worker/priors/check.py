"""Whether a folder can be used, part by part, so that no more than one model is in memory at a time."""

from pathlib import Path

from diffusers import AutoencoderTiny

from worker.priors import autoencoders
from worker.priors.arithmetic import PLAIN, Arithmetic
from worker.priors.autoencoders import Autoencoder
from worker.priors.diffusers import UNETS, alpha_bar_of, autoencoder_part, check_fit, unet_class
from worker.priors.files import BadPrior, Files, check_card
from worker.priors.text import Text


def check(folder: Path) -> None:
    """Read all weights of a prior, or of an autoencoder, as they are stored. Raises BadPrior."""
    files = Files(folder)
    if not files.has("unet") and files.path("").is_file():
        autoencoders.read(files, "", float32=False)
        return
    check_card(folder)
    alpha_bar_of(files)
    kind, part = unet_class(files), autoencoder_part(files)
    vae = autoencoders.read(files, part, float32=False).config
    unet = files.model(UNETS[kind], "unet", float32=False).config
    check_fit(files, part, vae, unet)
    if kind == "UNet2DConditionModel":
        Text(files, unet).embed(["a"])


def load_autoencoder(folder: Path, device: str, *, arithmetic: Arithmetic = PLAIN) -> Autoencoder:
    """An autoencoder of its own, frozen. Raises BadPrior."""
    files = Files(folder)
    if files.config("").get("_class_name") not in autoencoders.KINDS:
        raise BadPrior(f"{files.path('')} is no autoencoder's, such as an {AutoencoderTiny.__name__}'s")
    return Autoencoder(arithmetic.prepare(autoencoders.read(files, ""), device), arithmetic)
