"""What the parts of a run cost, in operations and in seconds, on the way there and on the way back."""

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from worker.psld.prior import Autoencoder

PARTS = ("denoiser", "decoder", "encoder", "guide", "rest")

_aten = torch.ops.aten
_FORMULAS: Mapping[Any, Callable[..., int]] = MappingProxyType(
    flop_registry
    | {  # torch leaves attention out where the CPU computes it
        _aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[_aten._scaled_dot_product_flash_attention],
        _aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
            _aten._scaled_dot_product_flash_attention_backward
        ],
    }
)


class Counted:
    """A prior, or an autoencoder, that counts how often its networks are evaluated."""

    def __init__(self, prior: Autoencoder) -> None:
        self._prior = prior
        self.evaluations = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._prior, name)
        if name in ("eps", "encode", "decode"):
            self.evaluations += 1
        return found


class Parts:
    """Which part is at work, and how many seconds each was."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self.now = "rest"
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._device = device
        self._clock = clock
        self._since = clock()

    def turn(self, part: str) -> None:
        """From now on it is another part."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = self._clock()
        self.seconds[self.now] += now - self._since
        self.now, self._since = part, now


class Parted:
    """A prior, or an autoencoder that guides one, which says whose turn it is: also while gradients pass through it."""

    def __init__(self, networks: Any, parts: Parts, *, guide: bool = False) -> None:
        self._networks = networks
        self._parts = parts
        self._names = ("guide", "guide") if guide else ("encoder", "decoder")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._networks, name)

    def eps(self, z: Tensor, t: Tensor) -> Tensor:
        return self._in("denoiser", lambda z: self._networks.eps(z, t), z)

    def encode(self, x: Tensor) -> Tensor:
        return self._in(self._names[0], self._networks.encode, x)

    def decode(self, z: Tensor) -> Tensor:
        return self._in(self._names[1], self._networks.decode, z)

    def _in(self, part: str, network: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        values = _Passage.apply(self._parts, "rest", values)  # type: ignore[no-untyped-call] # not annotated
        self._parts.turn(part)
        found = network(values)
        self._parts.turn("rest")
        passed: Tensor = _Passage.apply(self._parts, part, found)  # type: ignore[no-untyped-call]
        return passed


class _Passage(torch.autograd.Function):
    """Changes nothing. Once the gradient has come here, it is the turn of the part before it."""

    @staticmethod
    def forward(ctx: Any, parts: Parts, before: str, values: Tensor) -> Tensor:
        ctx.parts, ctx.before = parts, before
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        ctx.parts.turn(ctx.before)
        return None, None, gradient


class Flops(TorchDispatchMode):
    """Counts multiplications and additions, those of matrix products and convolutions only, part by part.

    On the device `meta` nothing is computed, and values are not known: what is asked about them is answered yes, and
    what is fetched is zero. (torch's own FlopCounterMode cannot look into a gradient that computes anew.)
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.of = dict.fromkeys(PARTS, 0)
        self._parts = parts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet is _aten._local_scalar_dense and args[0].is_meta:
            return True
        if packet is _aten._to_copy and args[0].is_meta and torch.device(kwargs.get("device") or "meta").type != "meta":
            return torch.zeros(args[0].shape, dtype=args[0].dtype)
        found = func(*args, **kwargs)
        if packet in _FORMULAS:
            self.of[self._parts.now] += _FORMULAS[packet](*args, **kwargs, out_val=found)
        return found
