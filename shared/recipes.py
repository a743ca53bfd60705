"""What a user asks for when a prior is to be trained: a recipe and its numbers."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from shared.spec import MAX_SEED
from shared.strict import Strict

MIN_PICTURES = 20
"""Fewer pictures than this are refused: nothing but copies of them would come out."""

MULTIPLE = 16
"""Sides of the pictures of the recipes `small` and `ambient`, in pixels, are multiples of this."""

Recipe = Literal["small", "ambient", "lora", "textual_inversion"]

_OWN: Mapping[str, Mapping[str, float]] = {
    "lora": {"crop": MULTIPLE, "denoiser_steps": 1000, "denoiser_batch": 4, "denoiser_rate": 1e-4},
    "textual_inversion": {"crop": MULTIPLE, "denoiser_steps": 2000, "denoiser_batch": 4, "denoiser_rate": 5e-3},
}
"""Where a recipe's own numbers differ from those below. They cut no crops, so that their pictures may be small."""


def _differs(name: str, default: float, about: str, **limits: Any) -> Any:
    """A field of which recipes have numbers of their own. Its schema has no default, since that depends."""
    own = ", ".join(f"for `{recipe}` {numbers[name]:,g}" for recipe, numbers in _OWN.items())
    said = f"{about} Left out: {default:,g}, {own}."
    return Field(default, description=said, json_schema_extra=_without_default, **limits)


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class TrainingSettings(Strict):
    """How a prior is trained. With the same settings, pictures and seed the same weights come out on a CPU."""

    recipe: Recipe = Field(
        "small",
        description="`small`: an autoencoder and an unconditional U-Net; `ambient`: the same from pictures of which "
        "parts are hidden (transparent, or hidden on purpose by `hidden`), which copies less of any one of them; "
        "`lora`: small adapters on the denoiser of a Stable Diffusion prior, which must be given to begin with; "
        "`textual_inversion`: a word for each class, such as `<fracture>`, which prompts can then use with that prior.",
    )
    image_side: int | None = Field(
        None,
        ge=16,
        le=512,
        multiple_of=MULTIPLE,
        description="Side of the square, in pixels, on which the autoencoder sees a picture. Left out: the median long "
        "side of the pictures, between the crop and 320.",
    )
    denoiser_side: int | None = Field(
        None,
        ge=16,
        le=512,
        multiple_of=MULTIPLE,
        description="Side of the square for the denoiser: the prior's native size. Left out: `image_side`, up to 128 "
        "or to the native size of the prior to begin with.",
    )
    crop: int = _differs(
        "crop",
        96,
        "Side of the autoencoder's random crops, in pixels; no picture may be smaller.",
        ge=16,
        le=512,
        multiple_of=MULTIPLE,
    )
    autoencoder_steps: int = Field(
        4000, ge=0, le=1_000_000, description="Steps of the autoencoder; `lora` and `textual_inversion` train none."
    )
    autoencoder_batch: int = Field(8, ge=1, le=256, description="Crops a step.")
    autoencoder_rate: float = Field(
        1e-3, gt=0, le=0.1, description="Highest learning rate; it rises for a twentieth of the steps, then falls to 0."
    )
    kl: float = Field(
        1e-4, ge=0, le=1, description="Weight of the latents' distance from unit noise, which keeps them smooth."
    )
    denoiser_steps: int = _differs(
        "denoiser_steps",
        12_000,
        "Steps of the denoiser. More may be asked for when a run is continued.",
        ge=1,
        le=10_000_000,
    )
    denoiser_batch: int = _differs("denoiser_batch", 16, "Latents a step.", ge=1, le=1024)
    denoiser_rate: float = _differs(
        "denoiser_rate",
        3e-4,
        "Learning rate, the same to the end, so that a run may end at any checkpoint.",
        gt=0,
        le=0.1,
    )
    average: float = Field(
        0.999, ge=0, lt=1, description="What the moving average of the weights, which is installed, keeps at each step."
    )
    checkpoint_every: int = Field(100, ge=1, le=100_000, description="Steps between checkpoints.")
    sample_every: int = Field(
        500, ge=1, le=1_000_000, description="Steps between looks at held-out pictures and samples."
    )
    samples: int = Field(32, ge=4, le=1024, description="Samples drawn for the model card.")
    bfloat16: bool = Field(False, description="Compute in bfloat16 where torch can; weights stay in float32.")
    hidden: float = Field(
        0.0,
        ge=0,
        le=0.9,
        description="Recipe `ambient`: share of each picture that is hidden for good, on top of what is transparent.",
    )
    further: float = Field(
        0.3,
        gt=0,
        le=0.9,
        description="Recipe `ambient`: share of the visible latents that a training step hides as well.",
    )
    rank: int = Field(8, ge=1, le=256, description="Recipe `lora`: rank of the adapters.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Fixes every draw.")

    @model_validator(mode="before")
    @classmethod
    def _begin_with_the_recipes_own(cls, given: Any) -> Any:
        own = _OWN.get(str(given.get("recipe"))) if isinstance(given, Mapping) else None
        return {**own, **given} if own else given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.image_side is not None and self.crop > self.image_side:
            raise ValueError(f"the crop of {self.crop} px is larger than the image_side of {self.image_side}")
        if self.hidden and self.recipe != "ambient":
            raise ValueError("only the recipe ambient hides parts of the pictures")
        return self

    @property
    def first_steps(self) -> int:
        """Steps before those of the denoiser."""
        return 0 if self.adapts else self.autoencoder_steps

    @property
    def adapts(self) -> bool:
        """Whether it adds to a Stable Diffusion that stays as it is."""
        return self.recipe in ("lora", "textual_inversion")
