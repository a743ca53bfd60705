"""What a user asks for when a prior is to be trained: a recipe and its numbers."""

from typing import Literal, Self

from pydantic import Field, model_validator

from shared.spec import MAX_SEED
from shared.strict import Strict

MIN_PICTURES = 20
"""Fewer pictures than this are refused: nothing but copies of them would come out."""

MULTIPLE = 16
"""Sides of the pictures of the recipes `small` and `ambient`, in pixels, are multiples of this."""

Recipe = Literal["small", "ambient", "lora", "textual_inversion"]


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
    crop: int = Field(
        96, ge=16, le=512, multiple_of=MULTIPLE, description="Side of the autoencoder's random crops, in pixels."
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
    denoiser_steps: int = Field(
        12_000, ge=1, le=10_000_000, description="Steps of the denoiser. More may be asked for when a run is continued."
    )
    denoiser_batch: int = Field(16, ge=1, le=1024, description="Latents a step.")
    denoiser_rate: float = Field(
        3e-4, gt=0, le=0.1, description="Learning rate, the same to the end, so that a run may end at any checkpoint."
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
