"""The language model: Llama under its own parameter names, small enough to read, fast enough to train on a CPU.

What is saved loads into ``transformers.LlamaForCausalLM``. Two things exist in training only: the audio embeddings are
tied to the codec's code vectors, and one head of two layers shows where it looks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from max_voices.recipe.layout import AUDIO, CODES, SLOTS, VOCABULARY

WIDTH, LAYERS, HEADS, HIDDEN = 256, 6, 4, 704
HEAD = WIDTH // HEADS
POSITIONS = 2048
THETA = 10_000.0
EPSILON = 1e-5
LEVEL_OF_SLOT = (0, 1, 2, 2, 1, 2, 2)
GUIDED = (2, 4)  # layers whose head 0 is shown where to look
_FOURIER = 192  # random features of a code vector


def rotations(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B, 1, T, HEAD) for integer positions (B, T), in transformers' half-split order."""
    steps = torch.arange(0, HEAD, 2, device=positions.device, dtype=torch.float32)
    angles = positions[..., None].float() / THETA ** (steps / HEAD)
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * self.weight


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.k_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.v_proj = nn.Linear(WIDTH, WIDTH, bias=False)
        self.o_proj = nn.Linear(WIDTH, WIDTH, bias=False)

    def heads(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys, values (B, HEADS, T, HEAD), rotated."""
        b, t, _ = x.shape
        q, k, v = (p(x).view(b, t, HEADS, HEAD).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        return rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype), v

    def merge(self, x: Tensor) -> Tensor:
        b, _, t, _ = x.shape
        y: Tensor = self.o_proj(x.transpose(1, 2).reshape(b, t, WIDTH))
        return y


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up_proj = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down_proj = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return y


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn = Attention()
        self.mlp = MLP()
        self.input_layernorm = Norm()
        self.post_attention_layernorm = Norm()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Whole rows (B, T, WIDTH), causal; and the queries and keys of head 0 for the guide."""
        q, k, v = self.self_attn.heads(self.input_layernorm(x), cos, sin)
        x = x + self.self_attn.merge(functional.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x + self.mlp(self.post_attention_layernorm(x)), q[:, 0], k[:, 0]

    def step(self, x: Tensor, cos: Tensor, sin: Tensor, cache: "Cache", number: int) -> Tensor:
        """New tokens (B, n, WIDTH) after what is in the cache."""
        q, k, v = self.self_attn.heads(self.input_layernorm(x), cos, sin)
        keys, values = cache.put(number, k, v)
        x = x + self.self_attn.merge(functional.scaled_dot_product_attention(q, keys, values, attn_mask=cache.mask))
        y: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return y


@dataclass(slots=True)
class Cache:
    """Keys and values of every layer (LAYERS, B, HEADS, room, HEAD), each row at its own length."""

    keys: Tensor
    values: Tensor
    at: Tensor  # (B, n): where the tokens of this step go
    mask: Tensor  # (B, 1, n, longest row): what each of them may see

    @classmethod
    def empty(cls, rows: int, room: int) -> "Cache":
        store = torch.zeros(2, LAYERS, rows, HEADS, room, HEAD)
        return cls(store[0], store[1], torch.zeros(rows, 0, dtype=torch.long), torch.zeros(rows, 1, 0, room))

    def advance(self, at: Tensor) -> None:
        """The next step's tokens stand at positions ``at`` (B, n)."""
        self.at = at
        self.mask = (torch.arange(int(at.max()) + 1) <= at[..., None])[:, None]

    def put(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        index = self.at[:, None, :, None].expand_as(k)
        self.keys[layer].scatter_(2, index, k)
        self.values[layer].scatter_(2, index, v)
        top = self.mask.shape[-1]
        return self.keys[layer][:, :, :top], self.values[layer][:, :, :top]


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = Norm()

    @property
    def stack(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]


class Llama(nn.Module):
    """The model as saved. ``forward`` runs with a cache; training has its own road in ``Tied``."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Backbone()

    @torch.inference_mode()
    def forward(self, ids: Tensor, at: Tensor, cache: Cache) -> Tensor:
        """Ids (B, n) at positions ``at`` (B, n) → hidden states (B, n, WIDTH), normed."""
        cache.advance(at)
        x, (cos, sin) = self.model.embed_tokens(ids), rotations(at)
        for number, layer in enumerate(self.model.stack):
            x = layer.step(x, cos, sin, cache, number)
        hidden: Tensor = self.model.norm(x)
        return hidden


class Tied(nn.Module):
    """The model in training: an audio embedding is a projection of what its code *is*, plus a correction of its own.

    So a code seen rarely starts near those that sound alike: the largest single gain of the recipe.
    """

    def __init__(self, codebooks: list[Tensor], seed: int = 1) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(seed)
        features = list[Tensor]()
        for book in codebooks:
            unit = functional.normalize(book.float()) * book.shape[1] ** 0.5
            waves = unit @ torch.randn(book.shape[1], _FOURIER, generator=chance) * 0.6
            phase = torch.rand(_FOURIER, generator=chance) * 6.2832
            raw = (book - book.mean(0)) / (book.std() + 1e-6)
            features.append(torch.cat([raw, unit, (waves + phase).cos() * 2**0.5], dim=1))
        self.register_buffer("features", torch.stack([features[level] for level in LEVEL_OF_SLOT]))
        self.plain = nn.Parameter(torch.randn(AUDIO, WIDTH, generator=chance) * 0.02)
        size = self.get_buffer("features").shape[-1]
        self.projection = nn.Parameter(torch.randn(SLOTS, size, WIDTH, generator=chance) * 0.02 / size**0.5)
        self.slot = nn.Parameter(torch.randn(SLOTS, 1, WIDTH, generator=chance) * 0.02)
        self.own = nn.Parameter(torch.zeros(SLOTS, CODES, WIDTH))
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = Norm()
        for name, parameter in self.layers.named_parameters():
            if parameter.ndim == 2:
                small = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 if small else 0.06, generator=chance)

    def table(self) -> Tensor:
        """The embedding table (VOCABULARY, WIDTH), input and output alike."""
        audio = torch.bmm(self.get_buffer("features"), self.projection) + self.slot + self.own
        return torch.cat([self.plain, audio.view(SLOTS * CODES, WIDTH)])

    def forward(self, table: Tensor, ids: Tensor, positions: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Ids (B, T) → normed hidden states (B, T, WIDTH), and query and key of each guided head."""
        x, shown = functional.embedding(ids, table), list[tuple[Tensor, Tensor]]()
        cos, sin = rotations(positions)
        for number, layer in enumerate(self.layers):
            x, q, k = layer(x, cos, sin)
            if number in GUIDED:
                shown.append((q, k))
        return self.norm(x), shown

    @torch.no_grad()
    def merged(self) -> Llama:
        """The model to save: embeddings are a plain table."""
        model = Llama()
        model.model.embed_tokens.weight.copy_(self.table())
        model.model.layers.load_state_dict(self.layers.state_dict())
        model.model.norm.load_state_dict(self.norm.state_dict())
        return model


def guide_loss(q: Tensor, k: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """−log of the attention that falls on keys low…high (B, T), where low ≥ 0; q and k (B, T, HEAD)."""
    scores = torch.bmm(q.float(), k.float().transpose(1, 2)) * HEAD**-0.5
    key = torch.arange(scores.shape[-1], device=q.device)
    causal = key[None, :] <= key[:, None]
    inside = (key >= low[..., None]) & (key <= high[..., None]) & causal
    wanted = low >= 0
    every = scores.masked_fill(~causal, -1e4).logsumexp(-1)
    right = scores.masked_fill(~inside, -1e4).logsumexp(-1)
    loss: Tensor = (every - right)[wanted].mean()
    return loss
