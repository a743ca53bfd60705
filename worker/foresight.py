"""What an image will take of the memory, counted on shapes before anything is sampled."""

import logging
import weakref
from dataclasses import dataclass
from math import inf, isqrt
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from shared.spec import ResolvedSpec, footprint_key
from worker import recipe
from worker.psld.operators import Inpaint
from worker.psld.prior import Autoencoder, LatentPrior
from worker.psld.sampler import Guidance, guided_step, pasted_step, polish
from worker.psld.schedule import Step

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes that one image takes for each pixel that is sampled: ``walked`` of a canvas no larger than ``native`` px,
    where a step of the walk is taken at once, and ``whole`` of the whole canvas, which the autoencoder has at once.
    Without ``native`` a canvas is walked as a whole, however large.
    """

    walked: float
    whole: float
    native: int | None

    def takes(self, long_side: int) -> int:
        """How many bytes one image takes on a canvas; its networks' weights are not among them."""
        walk = min(long_side, self.native or long_side)
        return round(max(self.walked * walk**2, self.whole * long_side**2))

    def largest(self, room: int, multiple: int) -> int:
        """The largest side of a canvas, a multiple of ``multiple``, on which an image takes no more than ``room``."""
        by_whole, by_walk = (isqrt(max(0, int(room / each))) for each in (self.whole, self.walked))
        side = min(by_whole, inf if self.native and by_walk >= self.native else by_walk)
        return int(side) // multiple * multiple


class Foresight:
    """What each kind of sampling comes to, counted when it is first asked for: that takes a second."""

    def __init__(self) -> None:
        self._known: dict[str, Footprint | None] = {}

    def of(self, prior: LatentPrior, resolved: ResolvedSpec, guide: Autoencoder | None) -> Footprint | None:
        """See `footprint`; None for networks that cannot be run without values: what they take is seen when it is."""
        key = footprint_key(resolved)
        if key not in self._known:
            try:
                self._known[key] = footprint(prior, resolved, guide)
            except Exception:  # whatever it is, the image itself may be made
                log.warning("what an image of %s takes cannot be foreseen", resolved.prior, exc_info=True)
                self._known[key] = None
        return self._known[key]


@torch.no_grad()
def footprint(prior: LatentPrior, resolved: ResolvedSpec, guide: Autoencoder | None = None) -> Footprint:
    """What a spec comes to with its prior: a step of its walk, and what is done on the whole canvas beside it.

    The networks are run on the device they lie on, on a canvas of the prior's own size and without values, so that all
    that is kept for a gradient is known, and nothing is computed. Memory grows with the area.
    """
    how, side = recipe.guidance(resolved), prior.native_size
    A = Inpaint(torch.ones(1, 1, side, side, dtype=torch.bool, device=prior.device))
    with FakeTensorMode(allow_non_fake_inputs=True), torch.compiler.set_stance("force_eager"):
        z = torch.zeros(1, *prior.latent_shape(side, side), device=prior.device)
        y = torch.zeros(1, 3, side, side, device=prior.device)
        with Peak() as walked:
            _walk(prior, A, y, z, how, guide)
        with Peak() as whole:
            coder = guide or prior
            coder.encode(coder.decode(z))
            prior.decode(z)
            for _ in polish(prior, A, y, z, min(1, how.finish)):
                pass
    return Footprint(walked.most / side**2, whole.most / side**2, resolved.native_size)


def _walk(
    prior: LatentPrior, operator: Inpaint, y: Tensor, z: Tensor, how: Guidance, guide: Autoencoder | None
) -> None:
    take = guided_step if how.paste < how.enter else pasted_step
    step = Step(len(prior.alpha_bar) // 2, 0.4, 0.5)
    take(prior, operator, y, z, step, how, lambda shape: torch.zeros(1, *shape, device=prior.device), guide)


class Peak(TorchDispatchMode):
    """Counts the bytes of tensors that are made within its block, as long as anybody holds them; ``most`` of them at
    once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # not annotated
        self.most = self._held = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_storage(each)._cdata for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        found = func(*args, **kwargs or {})
        for each in tree_leaves(found):
            if isinstance(each, Tensor) and _storage(each)._cdata not in given | self._known:
                self._hold(_storage(each))
        return found

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self._held += size
        self.most = max(self.most, self._held)
        weakref.finalize(storage, self._let_go, key, size)

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._held -= size


def _storage(values: Tensor) -> torch.UntypedStorage:
    return values.untyped_storage()
