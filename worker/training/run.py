"""A training in memory, and how it goes to disk and comes back.

Every draw comes from one generator on the CPU, whose state is part of a checkpoint with the weights, their averages
and the optimizer; so a training that is stopped and goes on ends, on a CPU, with the very weights of one that was not.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from shared.recipes import TrainingSettings
from worker.priors.files import hashes
from worker.training import checkpoints, models
from worker.training.errors import CannotTrain, Diverged, TrainingMismatch
from worker.training.models import Models
from worker.training.pictures import Pictures

Stage = Literal["autoencoder", "latents", "denoiser", "card"]

_LONGEST_GRADIENT = 1.0
_DECAY = 1e-4
_WEIGHTS = ("vae", "vae_average", "unet", "unet_average")
_UNDECISIVE = frozenset({"checkpoint_every", "sample_every", "samples", "denoiser_steps"})
"""How often one looks decides no weight, and a denoiser may be trained for longer than was planned."""


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where a training is. `step` of `steps` counts those of both models together.

    `loss` is NaN where nothing is trained (stages latents and card). `checkpointed` is True right after a checkpoint
    was written. `held_out`, where it was just measured, is the PSNR of held-out pictures in dB (autoencoder) or the
    held-out loss (denoiser).
    """

    stage: Stage
    step: int
    steps: int
    loss: float
    checkpointed: bool
    held_out: float | None = None


OnStep = Callable[[TrainingProgress], None]


@dataclass(slots=True)
class Run:
    """A training. `step` counts within its stage, which is autoencoder or denoiser."""

    folder: Path
    settings: TrainingSettings
    pictures: Pictures
    models: Models
    device: torch.device
    init: dict[str, str] | None
    """Hashes of the weights that it began with."""
    on_step: OnStep
    generator: torch.Generator
    stage: Stage = "autoencoder"
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        if not self.settings.first_steps:
            self.stage = "denoiser"
        self._new_optimizer()

    @property
    def fingerprint(self) -> str:
        """A hash of what decides the weights."""
        decisive = self.settings.model_dump(mode="json", exclude=set(_UNDECISIVE))
        parts: list[Any] = [decisive, self.pictures.digest, self.init]
        if self.pictures.classes:
            parts.append(self.pictures.classes)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def which(self) -> Tensor | None:
        """(N,): which prompt belongs to each picture; None where there is but one."""
        classes = self.pictures.classes
        combinations = self.pictures.combinations
        return torch.tensor([combinations.index(each) for each in classes]) if classes else None

    @property
    def done(self) -> int:
        """Steps done in both stages."""
        return self.step + (self.settings.first_steps if self.stage == "denoiser" else 0)

    def begin_denoiser(self) -> None:
        """The autoencoder is as it will stay."""
        self.stage, self.step = "denoiser", 0
        self._new_optimizer()

    def descend(self, rate: float, loss: Callable[[], Tensor]) -> float:
        """One step of the optimizer. Raises Diverged, with the weights as they were, if the loss is no number."""
        model, average = self._trained()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.bfloat16):
            value = loss()
        if not value.isfinite():
            raise Diverged(
                f"The loss of the {self.stage} became {value.item()} in step {self.step + 1}. The last checkpoint "
                "stays; train anew with a lower learning rate."
            )
        self.optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call] # not annotated
        torch.nn.utils.clip_grad_norm_(model.parameters(), _LONGEST_GRADIENT)
        self.optimizer.step()
        models.follow(average, model, self.settings.average, self.step)
        self.step += 1
        return float(value.detach())

    def tell(self, loss: float, held_out: float | None, *, last: bool) -> None:
        """Save if it is time to, and say where the training is."""
        if held_out is not None:
            self.history.append({"stage": self.stage, "step": self.step, "held_out": held_out})
        checkpointed = last or self.step % self.settings.checkpoint_every == 0
        if checkpointed:
            self.save()
        self.on_step(TrainingProgress(self.stage, self.done, self._steps, loss, checkpointed, held_out))

    def tell_stage(self, stage: Stage) -> None:
        """Say that the training is between its steps, and may be stopped there."""
        self.on_step(TrainingProgress(stage, self.done, self._steps, float("nan"), checkpointed=False))

    def save(self) -> None:
        """Write the checkpoint; an OSError leaves the one before."""
        checkpoints.save(
            self.folder / checkpoints.CHECKPOINT,
            {
                "fingerprint": self.fingerprint,
                "configs": self.models.configs(),
                "stage": self.stage,
                "step": self.step,
                "history": self.history,
                "weights": self._weights(),
                "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(),
            },
        )
        checkpoints.write(self.folder / checkpoints.HISTORY, json.dumps(self.history).encode())

    def restore(self, kept: dict[str, Any]) -> None:
        """Take over a checkpoint. Raises TrainingMismatch if it is of other pictures or settings."""
        if kept["fingerprint"] != self.fingerprint:
            raise TrainingMismatch(
                f"{self.folder} holds a training of other pictures or settings. Train in another folder, or with "
                "what it began with."
            )
        self.stage, self.step, self.history = kept["stage"], kept["step"], kept["history"]
        for name in _WEIGHTS:
            getattr(self.models, name).load_state_dict(
                kept["weights"][name], strict=False
            )  # what is frozen is not kept
        self._new_optimizer()
        self.optimizer.load_state_dict(kept["optimizer"])
        self.generator.set_state(kept["generator"])

    def _weights(self) -> dict[str, dict[str, Tensor]]:
        found = {}
        for name in _WEIGHTS:
            values = getattr(self.models, name).state_dict()
            trained = models.trained(getattr(self.models, name.removesuffix("_average")))
            found[name] = {key: values[key] for key in trained}
        return found

    @property
    def _steps(self) -> int:
        return self.settings.first_steps + self.settings.denoiser_steps

    def _trained(self) -> tuple[Any, Any]:
        m = self.models
        return (m.vae, m.vae_average) if self.stage == "autoencoder" else (m.unet, m.unet_average)

    def _new_optimizer(self) -> None:
        model, _ = self._trained()
        self.optimizer = torch.optim.AdamW(
            [values for values in model.parameters() if values.requires_grad], betas=(0.9, 0.99), weight_decay=_DECAY
        )


def _layout(device: torch.device) -> torch.memory_format:
    """How convolutions are fastest. On a GPU, with the group norms between them, it is not how they are on a CPU, at
    least with 256 latents a step (docs/benchmarks.md)."""
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def begin(
    pictures: Pictures,
    settings: TrainingSettings,
    folder: Path,
    init: Path | None,
    device: torch.device,
    on_step: OnStep,
) -> Run:
    """A new training, or the one whose checkpoint is in `folder`."""
    checkpoints.sweep(folder)
    kept = checkpoints.load(folder / checkpoints.CHECKPOINT)
    large, native = pictures.large.shape[-1], pictures.native.shape[-1]
    if settings.adapts:
        if init is None:
            raise CannotTrain(f"The recipe {settings.recipe} needs a Stable Diffusion prior to begin with.")
        if settings.recipe == "lora":
            made = models.adapted(init, native, settings.rank, settings.seed)
        else:
            made = models.worded(init, native, pictures.combinations)
    elif kept is not None:
        made = models.restored(kept["configs"])
    elif init is not None:
        made = models.continued(init, native)
    elif settings.first_steps:
        made = models.fresh(large, native, settings.seed)
    else:
        raise CannotTrain("autoencoder_steps is 0, which needs a prior to begin with whose autoencoder can be kept.")
    for model in (made.vae, made.vae_average, made.unet, made.unet_average):
        model.to(device, memory_format=_layout(device))
    generator = torch.Generator().manual_seed(settings.seed)
    begun_with = None if init is None else hashes(init)
    run = Run(folder, settings, pictures, made, device, begun_with, on_step, generator)
    if kept is not None:
        run.restore(kept)
    return run
