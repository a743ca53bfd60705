"""What a user asks for (`ExpansionSpec`), and the same with every number filled in (`ResolvedSpec`).

A job stores its resolved spec, so that what a preset's name meant on the day is never in doubt.
"""

import hashlib
import json
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from shared import addresses, canvas
from shared.canvas import Canvas
from shared.errors import Invalid
from shared.masks import AnyMask
from shared.operators import Inpaint, Operator
from shared.strict import Strict

ENGINE_VERSION = "4"
"""Raised whenever the same resolved spec and seed would give other pixels."""

MAX_SEED = 2**63 - 1

_TIMES = 1000
"""Of the diffusion, that a walk can take steps through."""


def _storable(text: str) -> str:
    # PostgreSQL has no text with a NUL in it.
    if "\0" in text:
        raise ValueError("holds a NUL character")
    return text


def _callable(url: str) -> str:
    addresses.parse(url)
    return url


Text = Annotated[str, AfterValidator(_storable)]

Prompt = Annotated[Text, Field(max_length=1000)]


def _left_open(value: Any) -> Any:
    return None if value == "auto" else value


Batch = Annotated[
    Annotated[int, Field(ge=1, le=256)] | None,
    BeforeValidator(_left_open),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 256}, {"const": "auto"}, {"type": "null"}]}),
]

_SCALE = 7.5
_MOST_WORDS = 75
"""Of a prompt: CLIP reads as many tokens, and no word is less than one."""

Blend = Literal["boxes", "known", "none"]
Unlabelled = Literal["skip", "uniform", "keep"]
PresetName = Literal["reference", "exact", "balanced", "fast"]


class Preset(Strict):
    """The sampler's numbers; `version` is raised when they change."""

    version: int
    steps: int
    gamma: float
    omega: float
    omega_whole: float | None = None
    """`omega` for operators that hide no pixels, where it is another."""
    eta: float = 0.0
    denoiser_gradient: bool = True
    paste: float = 0.0
    """Share of the diffusion's time, its end, in which what is known is pasted into each estimate, instead of pulling
    at it by a gradient."""
    finish: int = 0
    enter: float = 1.0
    noise: float = 0.0
    """Standard deviation of the measurement's noise where the operator leaves it open."""
    reference: bool = False
    """Whether the sampler follows the authors' code where ours differs."""


_FEW = {"gamma": 0.5, "omega": 2.5, "omega_whole": 0.6, "eta": 1.0, "finish": 20, "enter": 0.99}

PRESETS: dict[str, Preset] = {
    "reference": Preset(version=1, steps=1000, gamma=0.2, omega=1.0, noise=0.05, reference=True),
    "exact": Preset(version=1, steps=1000, gamma=0.2, omega=1.0),
    "balanced": Preset(version=4, steps=60, paste=0.6, **_FEW),
    "fast": Preset(version=2, steps=20, paste=0.7, **_FEW),
}
"""`reference` is what the authors' code runs, `exact` the same equations with our fixes. With fewer steps the pull of
each must grow; `fast` does without for most of the way: docs/method.md has the measurements."""


class Sampler(Strict):
    """How the sampler runs: a preset, and what of it is to differ."""

    preset: PresetName = Field(
        "balanced",
        description="How thorough it is: `fast` takes 20 steps, `balanced` 60, most of them cheap, and `exact` 1,000; "
        "`reference` is `exact` as the authors' code runs it.",
    )
    steps: int | None = Field(None, ge=1, le=1000, description="Sampler steps an image; time grows with them.")
    gamma: float | None = Field(None, ge=0, le=100, description="Weight of the gluing term.")
    omega: float | None = Field(None, ge=0, le=100, description="Weight of the measurement term.")
    eta: float | None = Field(None, ge=0, le=1, description="Fresh noise in each step: 0 is DDIM, 1 is DDPM.")
    denoiser_gradient: bool | None = Field(
        None, description="Whether the pull goes through the denoiser; without, a step costs less and pulls worse."
    )
    finish: int | None = Field(
        None,
        ge=0,
        le=200,
        description="Steps after the walk that bring the result nearer to what was measured, by the decoder alone.",
    )
    enter: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of the diffusion's time that is walked. 1 begins with noise; less begins with what the "
        "model is told, smeared and noised: fewer steps will do, and the image is nearer to the original.",
    )

    prompt: Prompt | None = Field(
        None,
        description="What to draw, in words, as far as the mask leaves it open; for priors with `prompts`. Words that "
        "a prior was taught are written as `<fracture>`.",
    )
    negative_prompt: Prompt | None = Field(None, description="What not to draw; left out: nothing in particular.")
    guidance_scale: float | None = Field(
        None,
        ge=1,
        le=50,
        description="How often what the prompt predicts beyond `negative_prompt` counts. 1 leaves the second out, at "
        f"half the cost. Left out, where there is a prompt: {_SCALE}.",
    )
    guidance_vae: Text | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="Name of an installed autoencoder, such as TAESD, that stands for the prior's own along the walk: "
        "a step costs a fraction. Finish and result are by the prior's own.",
    )
    batch: Batch = Field(
        None,
        description="How many images a GPU samples at once. `auto`, or left out: as many as fit its free memory, "
        "by what the first ones took; a number: so many at most, or fewer where they do not fit. It decides speed, not "
        "pixels (beyond rounding); a CPU always samples one at a time.",
    )

    @model_validator(mode="after")
    def _says_what_can_be_read(self) -> Self:
        for name in ("prompt", "negative_prompt"):
            words = len((getattr(self, name) or "").split())
            if words > _MOST_WORDS:
                raise ValueError(f"{name} has {words} words, and priors read at most {_MOST_WORDS}")
        return self

    @model_validator(mode="after")
    def _reference_has_one_autoencoder(self) -> Self:
        if PRESETS[self.preset].reference and self.guidance_vae:
            raise ValueError("the preset reference is guided by the prior's own autoencoder: leave guidance_vae out")
        return self

    @model_validator(mode="after")
    def _walks_as_the_preset_can(self) -> Self:
        preset = PRESETS[self.preset]
        if preset.reference and (self.enter or 1) < 1:
            raise ValueError("the preset reference begins with noise: enter must be 1")
        if preset.reference and 1000 % (self.steps or 1000):
            raise ValueError(f"the steps of the preset reference must divide 1000, and {self.steps} do not")
        steps, enter = self.steps or preset.steps, self.enter or preset.enter
        if steps > round(enter * _TIMES):
            raise ValueError(f"with enter {enter:g} there are {round(enter * _TIMES)} steps at most, not {steps}")
        return self


class Output(Strict):
    """What the archive holds."""

    include_originals: bool = Field(True, description="Also put the uploaded images and labels of all splits into it.")
    format: Literal["same", "yolo", "coco", "voc"] = Field(
        "same",
        description="Format of the labels. `same`: as uploaded, cloned; another: the boxes are converted, and nothing "
        "else of the labels, except that COCO gets outlines too.",
    )
    image_format: Literal["same", "png", "jpeg"] = Field(
        "same", description="File format of the new images. PNG keeps labelled pixels exactly, JPEG nearly."
    )


class ExpansionSpec(Strict):
    """A request to expand a dataset."""

    dataset_id: Text = Field(description="The dataset, which must be `ready`.", min_length=1, max_length=64)
    name: Text = Field("", max_length=200, description="A name for people.")
    variants: int = Field(
        2, ge=1, le=100, description="New images for each source image, each with a mask and noise of its own."
    )
    splits: tuple[Annotated[Text, Field(min_length=1, max_length=100)], ...] = Field(
        ("train",), min_length=1, description="Splits to expand. Others are never touched."
    )
    max_images: int | None = Field(
        None, ge=1, description="Expand at most this many source images; each class has its turn."
    )
    prior: Text = Field("builtin", min_length=1, max_length=100, description="Name of an installed prior.")
    operator: Operator = Field(Inpaint(), description="What of an image the model is told; the rest it regrows.")
    sampler: Sampler = Field(Sampler(), description="How the sampler runs.")
    canvas: Canvas = Field(Canvas(), description="The picture the model works on.")
    blend: Blend = Field(
        "boxes",
        description="What is copied from the original, at its own size. `boxes`: labelled pixels; `known`: every pixel "
        "that the mask keeps; `none`: nothing, all pixels are the model's own.",
    )
    grain: bool = Field(
        True,
        description="Give what is regrown the finest detail back that the model cannot paint, as noise of the strength "
        "that the original has there; without, labelled boxes are sharper than their surroundings, a hint that a "
        "detector can learn. Nothing happens with `blend: none`.",
    )
    unlabelled: Unlabelled = Field(
        "skip",
        description="Images without a label. `skip`: they are not expanded; `uniform`: a mask that needs labels gives "
        "way to one that keeps pixels by chance, wherever they are; `keep`: their variants are copies, so that the "
        "share of background images in the set stays.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Fixes every mask and every noise of the job.")
    output: Output = Field(Output(), description="What the archive holds.")
    priority: int = Field(0, ge=-100, le=100, description="Higher goes first.")
    reuse: bool = Field(
        True, description="Take over what was finished before from the same source, labels and numbers."
    )
    webhook: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_callable)] | None = Field(
        None,
        description="URL that is told, by a signed POST, when the job is over and its archive is built; left out: "
        "that of the installation, if it has one.",
    )

    @model_validator(mode="after")
    def _reference_inpaints(self) -> Self:
        if self.sampler.preset == "reference" and self.operator.kind != "inpaint":
            raise ValueError(f"the preset reference covers the operator inpaint only, not {self.operator.kind}")
        return self

    @model_validator(mode="after")
    def _only_a_mask_knows_pixels(self) -> Self:
        if self.blend == "known" and self.operator.kind != "inpaint":
            raise ValueError(f"blend: `known` needs a mask, and the operator {self.operator.kind} has none")
        return self


class Conditioning(Strict):
    """What a prior is told to draw. Where `scale` is 1, `negative` has no part in it."""

    prompt: str
    negative: str
    scale: float


class Guide(Strict):
    """The autoencoder that stands for a prior's own along the walk."""

    name: str
    sha256: str


class ResolvedSpec(Strict):
    """Every number that decides an item's pixels, and nothing else."""

    engine: str
    prior: str
    prior_sha256: str
    operator: Operator
    preset: str
    steps: int
    gamma: float
    omega: float
    eta: float
    long_side: int
    multiple: int
    blend: Blend
    unlabelled: Unlabelled = "skip"
    image_format: Literal["same", "png", "jpeg"]
    # What jobs made before these existed did:
    reference: bool = False
    denoiser_gradient: bool = True
    paste: float = 0.0
    finish: int = 0
    enter: float = 1.0
    grain: bool = False
    native_size: int = 0
    """Canvases larger than this are worked on in tiles of it, after a canvas of this size; 0: at once, as a whole."""
    conditioning: Conditioning | None = None
    guidance_vae: Guide | None = None

    @property
    def mask(self) -> AnyMask | None:
        """Which pixels are kept; None where the operator hides none."""
        return self.operator.mask if isinstance(self.operator, Inpaint) else None


def resolve(
    spec: ExpansionSpec,
    *,
    prior_sha256: str,
    native_size: int,
    multiple: int,
    images_side: int,
    guide: Guide | None = None,
) -> ResolvedSpec:
    """Fill in what the spec left to the preset, the prior and the images, whose long side is `images_side` in the
    median. Invalid where the operator does not fit the canvas."""
    preset = PRESETS[spec.sampler.preset]
    chosen = {k: v for k, v in spec.sampler.model_dump(exclude={"preset", *_TOLD}).items() if v is not None}
    numbers = preset.model_dump(exclude={"version", "noise", "omega_whole"}) | chosen
    if spec.sampler.omega is None and preset.omega_whole is not None and spec.operator.kind != "inpaint":
        numbers["omega"] = preset.omega_whole
    noise = preset.noise if spec.operator.noise is None else spec.operator.noise
    # The authors' way knows no tiles: what is larger than it was trained for would be seen at once.
    unasked = native_size if preset.reference else canvas.following(images_side, native_size, multiple)
    long_side = spec.canvas.long_side or unasked
    if misfit := spec.operator.misfit(-(-long_side // multiple) * multiple):
        raise Invalid(misfit)
    return ResolvedSpec(
        engine=ENGINE_VERSION,
        prior=spec.prior,
        prior_sha256=prior_sha256,
        operator=spec.operator.model_copy(update={"noise": noise}),
        preset=f"{spec.sampler.preset}@{preset.version}",
        long_side=long_side,
        multiple=multiple,
        native_size=0 if preset.reference else native_size,
        blend=spec.blend,
        grain=spec.grain,
        unlabelled=spec.unlabelled,
        image_format=spec.output.image_format,
        conditioning=_conditioning(spec.sampler),
        guidance_vae=guide,
        **numbers,
    )


_TOLD = frozenset({"prompt", "negative_prompt", "guidance_scale", "guidance_vae", "batch"})
"""What of the sampler are no numbers of its own."""


def _conditioning(sampler: Sampler) -> Conditioning | None:
    """Said in one way only, so that the same images are known to be the same."""
    prompt, negative = sampler.prompt or "", sampler.negative_prompt or ""
    scale = sampler.guidance_scale or _SCALE
    if prompt == negative or scale == 1:
        return Conditioning(prompt=prompt, negative="", scale=1.0) if prompt else None
    return Conditioning(prompt=prompt, negative=negative, scale=scale)


def item_seed(job_seed: int, source_sha256: str, variant: int) -> int:
    """The seed (0 .. 2**63 - 1) of one variant of one image: it depends on no order and no database id."""
    return int.from_bytes(_digest([job_seed, source_sha256, variant])[:8], "big") >> 1


def footprint_key(resolved: ResolvedSpec) -> str:
    """What of a spec, its canvas apart, decides how much memory an image takes."""
    twice = resolved.conditioning is not None and resolved.conditioning.scale != 1
    guide = resolved.guidance_vae.sha256 if resolved.guidance_vae else ""
    gradient = resolved.paste < resolved.enter, resolved.denoiser_gradient, resolved.gamma > 0, resolved.finish > 0
    return json.dumps([resolved.prior_sha256, guide, twice, *gradient, resolved.native_size])


def work_key(
    resolved: ResolvedSpec,
    *,
    source_sha256: str,
    label_sha256: str,
    variant: int,
    seed: int,
    mask_sha256: str | None = None,
    upright: bool = True,
    white: int = 255,
) -> str:
    """Two items with the same key have the same pixels and labels (up to the device's rounding).

    `mask_sha256` is that of the mask uploaded with the image; it counts only where that mask is used. `upright` is
    false of a source that EXIF would turn and that is taken as it is stored. `white` is the grey value that is shown as
    white, which of 16-bit images their whole dataset decides.
    """
    parts: list[Any] = [source_sha256, label_sha256, variant, seed]
    if resolved.mask is not None and resolved.mask.kind == "uploaded":
        parts.append(mask_sha256)
    if not upright:
        parts.append("as stored")
    if white != 255:
        parts.append(["white", white])
    return hashlib.sha256(f"[{_written(resolved)},{_json(parts)[1:]}".encode()).hexdigest()


@lru_cache(maxsize=8)
def _written(resolved: ResolvedSpec) -> str:
    # A job has one for all its items, and writing it takes longer than all else of a key.
    # What is none has no part in it, as in keys from before there was any.
    return _json({name: value for name, value in resolved.model_dump(mode="json").items() if value is not None})


def _digest(value: list[Any]) -> bytes:
    return hashlib.sha256(_json(value).encode()).digest()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
