"""SNAC's residual quantizer, under its parameter names, with the loss that the package leaves out."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


@dataclass(frozen=True, slots=True)
class Quantized:
    """``latents`` (B, C, T), gradients straight through; by level ``codes`` (B, T / stride), ``points`` (B, D, …)."""

    latents: Tensor
    codes: list[Tensor]
    points: list[Tensor]
    loss: Tensor


class Level(nn.Module):
    """One codebook. The nearest code is the one of least angle, as in SNAC."""

    def __init__(self, latent: int, codes: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.in_proj = weight_norm(nn.Conv1d(latent, width, 1))
        self.out_proj = weight_norm(nn.Conv1d(width, latent, 1))
        self.codebook = nn.Embedding(codes, width)

    def nearest(self, points: Tensor) -> Tensor:
        """Points (B, D, T) → codes (B, T)."""
        unit = functional.normalize(points.transpose(1, 2), dim=-1)
        return (unit @ functional.normalize(self.codebook.weight).t()).argmax(-1)

    def vectors(self, codes: Tensor) -> Tensor:
        """Codes (B, T) → vectors (B, D, T)."""
        return functional.embedding(codes, self.codebook.weight).transpose(1, 2)

    def latents(self, vectors: Tensor) -> Tensor:
        """Vectors (B, D, T) → latents (B, C, T · stride)."""
        wide: Tensor = self.out_proj(vectors)
        return wide.repeat_interleave(self.stride, dim=-1)


class Quantizer(nn.Module):
    """Coarse to fine: each level codes what the ones before it left over."""

    def __init__(self, latent: int, codes: int, width: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.quantizers = nn.ModuleList(Level(latent, codes, width, stride) for stride in strides)

    @property
    def levels(self) -> list[Level]:
        return [level for level in self.quantizers if isinstance(level, Level)]

    def forward(self, z: Tensor) -> Quantized:
        total, residual, loss = torch.zeros_like(z), z, z.new_zeros(())
        codes, encoded = list[Tensor](), list[Tensor]()
        for level in self.levels:
            points = level.in_proj(functional.avg_pool1d(residual, level.stride, level.stride))
            index = level.nearest(points)
            vectors = level.vectors(index)
            loss = loss + functional.mse_loss(vectors, points.detach())
            loss = loss + 0.25 * functional.mse_loss(points, vectors.detach())
            part = level.latents(points + (vectors - points).detach())
            total, residual = total + part, residual - part
            codes.append(index)
            encoded.append(points)
        return Quantized(total, codes, encoded, loss)

    def from_codes(self, codes: Sequence[Tensor]) -> Tensor:
        """Codes (B, n), (B, 2n), (B, 4n) → latents (B, C, 4n)."""
        parts = [level.latents(level.vectors(code)) for level, code in zip(self.levels, codes, strict=True)]
        return torch.stack(parts).sum(0)

    @torch.no_grad()
    def restart(self, used: Sequence[Tensor], points: Sequence[Tensor]) -> None:
        """Moves every code that was not used (counts by level) onto some point of the last batch."""
        for level, count, encoded in zip(self.levels, used, points, strict=True):
            dead = (count < 1).nonzero().squeeze(1)
            flat = encoded.transpose(1, 2).flatten(0, 1)
            chosen = flat[torch.randint(len(flat), (len(dead),), device=flat.device)]
            level.codebook.weight[dead] = chosen + 0.01 * torch.randn_like(chosen)
