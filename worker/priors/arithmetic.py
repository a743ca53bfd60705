"""How the networks of a prior compute. What goes into them and what comes out is float32, however they do."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_ROUNDED = (nn.Conv2d, nn.Linear)
"""The modules whose weights autocast rounds."""


PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Precision and layout.

    With ``dtype`` bfloat16 convolutions, products and attention are computed in it, by autocast, and sums that need
    more in float32. ``channels_last`` is how convolutions on a GPU are fastest. With a ``compiler`` (a backend of
    torch.compile) kernels are made for each size of input when it is first met, which takes minutes, and used where
    nothing is differentiated.
    """

    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    compiler: str | Callable[..., Any] | None = None

    def prepare(self, network: Any, device: torch.device | str) -> Any:
        """The same network, on a device and ready to compute in this way."""
        if self.dtype != torch.float32:
            # Autocast would round them at each call, and keep what it rounded until the gradient is there. As they are
            # frozen, once is enough, and half the memory.
            for module in network.modules():
                if isinstance(module, _ROUNDED):
                    module.to(self.dtype)
        network.to(device)
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        if self.compiler is not None:
            # An autoencoder is not called as a whole.
            for part in (network.encoder, network.decoder) if hasattr(network, "decoder") else (network,):
                part.compile(backend=self.compiler)
        return network

    def described(self) -> dict[str, Any]:
        """What of it the bytes of an image depend on."""
        return {"dtype": str(self.dtype).removeprefix("torch."), "compiled": self.compiler is not None}

    @contextmanager
    def at(self, device: torch.device) -> Iterator[None]:
        """A block in which networks on a device compute so."""
        with ExitStack() as how:
            if self.compiler is not None and torch.is_grad_enabled():
                # Kernels that inductor of torch 2.13 made for a CPU gave a gradient that was 74 % off, in silence.
                how.enter_context(torch.compiler.set_stance("force_eager"))
            if self.dtype != torch.float32:
                how.enter_context(torch.autocast(device.type, self.dtype))
            yield


PLAIN = Arithmetic()
