"""What an image will take of the memory is known before it is sampled, and refused where the device has not as much."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from expanding import items, run, with_prior
from tiny_prior import write_tiny_prior
from torch import Tensor

from shared import workers
from shared.errors import Invalid
from shared.models import Job
from shared.spec import ExpansionSpec, ResolvedSpec, footprint_key, resolve
from shared.states import ItemState
from worker import foresight
from worker.foresight import Footprint, Peak
from worker.memory import Endless
from worker.priors.diffusers import DiffusersPrior, load
from worker.psld.operators import Inpaint
from worker.psld.sampler import polish
from worker.recipe import regrow
from worker.studio import Studio

MakeJob = Callable[..., Job]
MiB = 2**20


class Total(Endless):
    """A device with so much memory."""

    def __init__(self, total: int) -> None:
        self._total = total

    def total(self) -> int:
        return self._total


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> DiffusersPrior:
    folder = tmp_path_factory.mktemp("prior")
    write_tiny_prior(folder, native_size=64, halvings=2)
    return load(folder)


def resolved(prior: DiffusersPrior, side: int, **sampler: Any) -> ResolvedSpec:
    asked = {"dataset_id": "none", "canvas": {"long_side": side}, "sampler": sampler}
    spec, native = ExpansionSpec.model_validate(asked), prior.native_size
    return resolve(spec, prior_sha256="", native_size=native, multiple=prior.multiple, images_side=native)


@pytest.mark.parametrize(
    ("side", "sampler"),
    [
        (64, {"preset": "balanced", "steps": 2, "finish": 0}),
        (64, {"preset": "fast", "steps": 2, "finish": 0}),
        (64, {"preset": "fast", "steps": 2, "finish": 1}),
        (192, {"preset": "balanced", "steps": 2, "finish": 1}),
        (192, {"preset": "exact", "steps": 2, "finish": 0}),
        (128, {"preset": "reference", "steps": 2}),
    ],
)
def test_what_is_foreseen_is_what_sampling_takes(prior: DiffusersPrior, side: int, sampler: dict[str, Any]) -> None:
    """Of the tensors; what its kernels take besides is not seen here."""
    spec = resolved(prior, side, **sampler)
    picture, keep = torch.zeros(1, 3, side, side).numpy(), torch.ones(1, side, side, dtype=torch.bool).numpy()
    with Peak() as peak:
        regrow(prior, spec, picture, keep, [0], lambda _done, _steps: None, inside=None)
    foreseen = foresight.footprint(prior, spec).takes(side)
    assert peak.most / 1.5 < foreseen < peak.most * 1.1


def test_what_autograd_keeps_is_among_it(prior: DiffusersPrior) -> None:
    kept: dict[int, int] = {}

    def keep(values: Tensor) -> Tensor:
        kept[values.untyped_storage().data_ptr()] = values.untyped_storage().nbytes()
        return values

    z = torch.zeros(1, *prior.latent_shape(64, 64))
    operator = Inpaint(torch.ones(1, 1, 64, 64))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        list(polish(prior, operator, torch.zeros(1, 3, 64, 64), z, 1))
    weights = sum(values.untyped_storage().nbytes() for values in prior._vae.decoder.parameters())
    saved = sum(kept.values()) - weights
    foreseen = foresight.footprint(prior, resolved(prior, 64, preset="fast", steps=2)).whole * 64**2
    assert saved > MiB
    assert saved < foreseen < 2 * saved


def test_a_smaller_canvas_takes_what_its_area_does_and_a_larger_one_is_walked_at_the_priors_own_size() -> None:
    large = Footprint(walked=100.0, whole=10.0, native=64)
    assert [large.takes(side) for side in (32, 64, 128, 256)] == [102_400, 409_600, 409_600, 655_360]
    assert [large.largest(room, 16) for room in (655_360, 655_359, 409_600, 409_599, 102_400, 0)] == [
        256,
        240,
        192,
        48,
        32,
        0,
    ]
    whole = Footprint(walked=100.0, whole=10.0, native=0)
    assert whole.takes(256) == 6_553_600
    assert whole.largest(6_553_600, 16) == 256


def test_what_no_device_of_that_size_can_hold_is_refused_unsampled_and_the_next_job_at_the_door(
    studio: Studio, make_job: MakeJob, tiny_builtin: Path
) -> None:
    spec = ResolvedSpec.model_validate(make_job(variants=1, max_images=1, canvas={"long_side": 512}).resolved)
    foreseen = foresight.footprint(studio.priors.get(tiny_builtin, "cpu"), spec)
    reserve, weights = studio.settings.gpu_reserve_bytes, studio.priors.weighs([tiny_builtin])
    room = foreseen.takes(256) + 1000
    total = reserve + weights + room
    small = dataclasses.replace(studio, memory=Total(total))
    run(small)
    (item,) = items(studio)
    assert (item.state, item.attempts, (item.error or {})["type"]) == (ItemState.FAILED, 1, "out_of_memory")
    assert (item.error or {})["detail"] == (
        f"One image of 512 px with the prior builtin does not fit the memory of cpu: it takes "
        f"{foreseen.takes(512):,} bytes or more, and {room:,} of {total:,} bytes are there for it beside the prior and "
        "what is left to others. The largest that fits is 256 px: choose a smaller canvas.long_side."
    )
    figures = small.meter.read()
    assert (figures["steps"], figures["largest"]) == (0, {footprint_key(spec): 256})

    with studio.sessions.write() as session:
        workers.seen(session, "small", "gpu", "cpu", figures=figures)
    with pytest.raises(Invalid, match="The largest that fits is 256 px") as refused:
        make_job(canvas={"long_side": 512})
    assert refused.value.faults[0].where == "body.canvas.long_side"
    make_job(variants=1, max_images=1, canvas={"long_side": 256})
    run(small)
    assert [each.state for each in items(studio)] == [ItemState.FAILED, ItemState.DONE]


def test_a_device_that_holds_no_image_says_so(studio: Studio, make_job: MakeJob, tiny_builtin: Path) -> None:
    make_job(variants=1, max_images=1)
    run(dataclasses.replace(studio, memory=Total(studio.settings.gpu_reserve_bytes)))
    (item,) = items(studio)
    assert "and 0 of 1,073,741,824 bytes are there for it" in (item.error or {})["detail"]
    assert (item.error or {})["detail"].endswith("None fits.")


def test_networks_that_cannot_be_run_without_values_are_tried_as_ever(studio: Studio, make_job: MakeJob) -> None:
    make_job(variants=1, max_images=1)
    folder, _ = studio.prior_folders["builtin"]
    real = studio.priors.get(folder, "cpu")

    def eps(z: Tensor, t: Tensor) -> Tensor:
        return real.eps(z, t) if z.isfinite().all() else z

    run(dataclasses.replace(with_prior(studio, eps=eps), memory=Total(1)))
    (item,) = items(studio)
    assert item.state is ItemState.DONE
