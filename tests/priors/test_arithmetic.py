"""Precision, layout and compiled kernels change what the networks of a prior say by rounding only."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

from worker.priors.arithmetic import PLAIN, Arithmetic
from worker.priors.diffusers import BUILTIN, DiffusersPrior, load
from worker.psld.operators import Inpaint
from worker.psld.sampler import Guidance, sample

HALF = Arithmetic(torch.bfloat16)
KINDS = ["plain", "stable_diffusion", "stable_diffusion_2", "stable_diffusion_xl"]
SIDE = 32


def regrown(prior: DiffusersPrior, guidance: Guidance, side: int = SIDE) -> tuple[Tensor, Tensor]:
    """A picture, and what is regrown around three tenths of it that are kept, of two seeds."""
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.avg_pool2d(torch.rand(1, 3, side + 8, side + 8, generator=generator), 9, 1) * 4 - 2
    operator = Inpaint(torch.rand(1, 1, side, side, generator=generator) < 0.3)
    y = operator.forward(x).expand(2, -1, -1, -1)
    new = sample(prior, operator, y, [torch.Generator().manual_seed(seed) for seed in (1, 2)], guidance)
    return operator.forward(new - x), new


def networks(prior: DiffusersPrior) -> list[nn.Module]:
    return [value for value in vars(prior).values() if isinstance(value, nn.Module)]


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_each_network_says_nearly_the_same_in_float32(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    exact, half = load(folder), load(folder, arithmetic=HALF)
    z = torch.randn(2, *exact.latent_shape(16, 16), generator=torch.Generator().manual_seed(0))
    t = torch.tensor([10, 900])
    x = exact.decode(z)
    for one, other in [
        (exact.eps(z, t), half.eps(z, t)),
        (x, half.decode(z)),
        (exact.encode(x), half.encode(x)),
    ]:
        assert other.dtype == torch.float32
        assert 0 < (one - other).norm() < 0.03 * one.norm()  # bfloat16 has 8 bits: each number is off by 0.2 %


def test_in_bfloat16_what_is_kept_is_kept_as_well() -> None:
    how = Guidance(steps=5, gamma=0.5, omega=2.5, eta=1, enter=0.8, finish=5)
    exact, _ = regrown(load(BUILTIN), how)
    half, new = regrown(load(BUILTIN, arithmetic=HALF), how)
    assert new.dtype == torch.float32
    assert half.norm() == pytest.approx(float(exact.norm()), rel=0.1)


def test_in_bfloat16_the_latent_its_gradient_and_the_sums_that_need_it_are_float32(plain: Path) -> None:
    prior = load(plain, arithmetic=HALF)
    seen: dict[str, set[torch.dtype]] = {"product": set(), "norm": set()}
    for network in networks(prior):
        for module in network.modules():
            name = {nn.Conv2d: "product", nn.Linear: "product", nn.GroupNorm: "norm"}.get(type(module))
            if name is not None:
                assert {each.dtype for each in module.parameters()} == {
                    torch.bfloat16 if name == "product" else torch.float32
                }
                module.register_forward_hook(lambda _m, _in, out, name=name: seen[name].add(out.dtype))
    z = torch.randn(1, *prior.latent_shape(16, 16)).requires_grad_()
    e = prior.eps(z, torch.tensor([500]))
    (gradient,) = torch.autograd.grad(prior.decode(z - e).norm(), z)
    assert seen["product"] == {torch.bfloat16}
    assert (e.dtype, gradient.dtype) == (torch.float32, torch.float32)
    assert gradient.abs().sum() > 0


def test_weights_that_are_rounded_once_give_what_autocast_makes_of_them_each_time(plain: Path) -> None:
    each_time = load(plain)
    once = load(plain, arithmetic=HALF)
    z, t = torch.randn(1, *once.latent_shape(16, 16)), torch.tensor([500])
    with torch.autocast("cpu", torch.bfloat16):
        one = each_time._unet(z, t).sample.float()
    assert torch.equal(one, once.eps(z, t))


@pytest.mark.parametrize("arithmetic", [PLAIN, HALF])
def test_no_weight_ever_has_a_gradient(plain: Path, arithmetic: Arithmetic) -> None:
    prior = load(plain, arithmetic=arithmetic)
    regrown(prior, Guidance(steps=2, gamma=0.5, omega=1, finish=1), side=16)
    weights = [each for network in networks(prior) for each in network.parameters()]
    assert len(weights) > 100
    assert not any(each.requires_grad or each.grad is not None for each in weights)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_the_fused_one(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    found = [m for network in networks(load(folder)) for m in network.modules() if isinstance(m, Attention)]
    assert found
    assert {type(module.processor) for module in found} == {AttnProcessor2_0}


def test_channels_may_lie_last(plain: Path) -> None:
    guidance = Guidance(steps=3, gamma=0.5, omega=1)
    _, first = regrown(load(plain), guidance, side=16)
    prior = load(plain, arithmetic=Arithmetic(channels_last=True))
    (weights, *_) = [module.weight for module in networks(prior)[1].modules() if isinstance(module, nn.Conv2d)]
    assert weights.is_contiguous(memory_format=torch.channels_last)
    _, last = regrown(prior, guidance, side=16)
    torch.testing.assert_close(last, first, rtol=1e-3, atol=1e-3)


class Part(nn.Module):
    """torch.compile looks into modules that are not torch's own."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class Coder(nn.Module):
    """What an autoencoder is here, at its smallest: tracing a true one takes the better part of a minute."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = Part(nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 1))
        self.decoder = Part(nn.ConvTranspose2d(4, 3, 2, 2))


@pytest.mark.parametrize("arithmetic", [PLAIN, HALF])
def test_compiled_parts_say_the_same_and_what_is_differentiated_is_not_compiled(arithmetic: Arithmetic) -> None:
    graphs = []

    def compiler(graph: Any, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    def said(how: Arithmetic, x: Tensor) -> Tensor:
        coder = how.prepare(Coder().requires_grad_(False), "cpu")
        with how.at(x.device):
            return coder.decoder(coder.encoder(x)).float()

    compiled = replace(arithmetic, compiler=compiler)
    x = torch.linspace(-1, 1, 3 * 64).view(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(said(compiled, x), said(arithmetic, x))
    assert len(graphs) == 2
    torch._dynamo.reset()
    gradients = []
    for how in (compiled, arithmetic):
        z = x.clone().requires_grad_()
        gradients += torch.autograd.grad(said(how, z).norm(), z)
    assert torch.equal(*gradients)
    assert len(graphs) == 2
