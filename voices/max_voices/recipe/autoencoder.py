"""Frozen codes first: a log-mel autoencoder around SNAC's own residual quantizer.

It is small and fast because it works on 31.25 latents a second, each the mel frames of 512 samples. The
encoder sees both ways; the decoder only back, as the sound decoder will: so the codes of a latent hold what a causal
decoder needs at that moment. A second head tells the phone from the quantised latents, which keeps what is
heard as different from being coded as the same.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from max_voices.recipe.data import Record, load_shard
from max_voices.recipe.features import BANDS, HOP, LATENT_HOP, Features
from max_voices.recipe.flite import PAUSE, SAMPLE_RATE
from max_voices.recipe.layout import CODES, FRAME, PHONES
from max_voices.recipe.quantizer import Quantized, Quantizer
from max_voices.recipe.tools import Budget, Log, device, restore, save, set_rate

LATENT = 256
STRIDES = (4, 2, 1)
CODE_DIM = 8
_FOLD = LATENT_HOP // HOP  # mel frames in a latent
_LATENTS = FRAME // LATENT_HOP  # latents in a frame
_CROP, _BATCH = 16, 14  # frames (2 s), rows
_RESTART = 100  # steps between restarts of unused codes


class Block(nn.Module):
    """Residual convolution over time of (B, T, width), its norm per latent: one over time would depend on the crop.

    Written as one matrix product over shifted copies: on a CPU far faster than ``Conv1d``.
    """

    def __init__(self, width: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.kernel = kernel
        self.pad = (kernel - 1, 0) if causal else (kernel // 2, kernel // 2)
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(kernel * width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.pad(self.norm(x), (0, 0, *self.pad))
        shifted = [h[:, shift : shift + x.shape[1]] for shift in range(self.kernel)]
        mixed: Tensor = self.out(functional.gelu(self.mix(torch.cat(shifted, dim=-1))))
        return x + mixed


class Stack(nn.Module):
    """(B, inputs, T) → (B, outputs, T) by ``depth`` blocks."""

    def __init__(self, inputs: int, width: int, outputs: int, depth: int, causal: bool) -> None:
        super().__init__()
        blocks = [Block(width, 5, causal) for _ in range(depth)]
        self.layers = nn.Sequential(nn.Linear(inputs, width), *blocks, nn.Linear(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.transpose(1, 2))
        return y.transpose(1, 2)


class Autoencoder(nn.Module):
    """Features (B, BANDS · 4, T) at 31.25 Hz → latents (B, 256, T) → codes → features and phones."""

    def __init__(self, width: int = 384) -> None:
        super().__init__()
        self.encoder = Stack(BANDS * _FOLD, width, LATENT, 6, causal=False)
        self.quantizer = Quantizer(LATENT, CODES, CODE_DIM, STRIDES)
        self.decoder = Stack(LATENT, width, BANDS * _FOLD, 4, causal=True)
        self.phones = Stack(LATENT, 192, len(PHONES), 1, causal=True)


def fold(features: Tensor) -> Tensor:
    """(B, BANDS, 4 T) → (B, BANDS · 4, T)."""
    b, bands, t = features.shape
    return features.view(b, bands, t // _FOLD, _FOLD).permute(0, 1, 3, 2).reshape(b, bands * _FOLD, -1)


def unfold(folded: Tensor) -> Tensor:
    """The inverse of ``fold``."""
    b, rows, t = folded.shape
    return folded.view(b, rows // _FOLD, _FOLD, t).permute(0, 1, 3, 2).reshape(b, rows // _FOLD, -1)


def phone_labels(records: list[Record], latents: int) -> npt.NDArray[np.int64]:
    """The phone in the middle of each of a shard's latents, as its number in ``PHONES``."""
    labels = np.full(latents, PHONES.index(PAUSE))
    for record in records:
        first, start = record.first * _LATENTS, 0.03
        for clause in record.clauses:
            for phone, end in zip(clause.phones, clause.ends, strict=True):
                early, late = (int(s * SAMPLE_RATE / LATENT_HOP + 0.5) for s in (start, end))
                labels[first + early : first + late] = PHONES.index(phone)
                start = end
    return labels


class Crops:
    """Random crops of all whole shards in a folder; new shards are found as they appear."""

    def __init__(self, work: Path, speaker: str) -> None:
        self._glob, self._shards = (
            (work / "audio", f"{speaker}_*.npy"),
            dict[Path, tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]](),
        )
        self.refresh()

    def refresh(self) -> None:
        for path in sorted(self._glob[0].glob(self._glob[1])):
            if path not in self._shards:
                records, samples = load_shard(path)
                self._shards[path] = samples, phone_labels(records, len(samples) // LATENT_HOP)

    def batches(self, seed: int, crop: int = _CROP, rows: int = _BATCH) -> Iterator[tuple[Tensor, Tensor]]:
        """Sound (rows, samples) in −1…1 and phone numbers (rows, latents), without end."""
        chance = np.random.default_rng(seed)
        while True:
            shards, sounds, phones = (
                list(self._shards.values()),
                list[npt.NDArray[np.float32]](),
                list[npt.NDArray[np.int64]](),
            )
            for _ in range(rows):
                samples, labels = shards[chance.integers(len(shards))]
                start = int(chance.integers(len(samples) // FRAME - crop))
                sounds.append(samples[start * FRAME : (start + crop) * FRAME].astype(np.float32) / np.float32(32768))
                phones.append(labels[start * _LATENTS : (start + crop) * _LATENTS])
            yield torch.from_numpy(np.stack(sounds)), torch.from_numpy(np.stack(phones))


def train(work: Path, speaker: str, seconds: float, seed: int = 1) -> None:
    """Writes ``autoencoder.safetensors``."""
    torch.manual_seed(seed)
    place, log = device(), Log(work / "autoencoder.log")
    model, features, data = Autoencoder().to(place), Features().to(place), Crops(work, speaker)
    if (work / "autoencoder.safetensors").exists():
        restore(model, work / "autoencoder.safetensors")  # a second run goes on from the first
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.8, 0.98), weight_decay=0.01)
    budget, used = Budget(seconds), [torch.zeros(CODES, device=place) for _ in STRIDES]
    for step, (sound, phones) in enumerate(data.batches(seed)):
        if budget.done:
            break
        set_rate(optimizer, budget.rate(step))
        target = features(sound.to(place))
        with torch.autocast(place.type, torch.bfloat16):
            z = model.encoder(fold(target))
        q: Quantized = model.quantizer(z.float())
        with torch.autocast(place.type, torch.bfloat16):
            heard, said = unfold(model.decoder(q.latents)).float(), model.phones(q.latents).float()
        mel = functional.l1_loss(heard, target)
        delta = functional.l1_loss(heard.diff(dim=-1), target.diff(dim=-1))
        phone = functional.cross_entropy(said, phones.to(place))
        loss = mel + delta + q.loss + 0.1 * phone
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        for count, code in zip(used, q.codes, strict=True):
            count += torch.bincount(code.flatten(), minlength=CODES)
        if step % _RESTART == _RESTART - 1:
            shares = [count / count.sum() for count in used]
            perplexity = [float(torch.exp(-(p * (p + 1e-9).log()).sum())) for p in shares]
            right = float((said.argmax(1) == phones.to(place)).float().mean())
            log(
                step=step,
                mel=float(mel),
                delta=float(delta),
                vq=float(q.loss),
                phone=float(phone),
                right=right,
                perplexity=" ".join(f"{p:.0f}" for p in perplexity),
                seconds=budget.elapsed,
            )
            if budget.elapsed < 0.6 * seconds:
                model.quantizer.restart(used, q.points)
            for count in used:
                count.zero_()
            data.refresh()
        if step % 1000 == 999:
            save(model, work / "autoencoder.safetensors")
    save(model, work / "autoencoder.safetensors")


@torch.no_grad()
def encode(model: Autoencoder, features: Features, sound: Tensor) -> list[Tensor]:
    """Sound (1, samples), whole frames → codes (n,), (2n,), (4n,)."""
    with torch.autocast(sound.device.type, torch.bfloat16):
        z = model.encoder(fold(features(sound)))
    return [code.squeeze(0) for code in model.quantizer(z.float()).codes]


def encode_all(work: Path, speaker: str) -> None:
    """Every shard's codes, utterance by utterance (no context from the neighbour): ``codes_00.npz``."""
    place = device()
    model, features = Autoencoder().to(place).eval(), Features().to(place)
    restore(model, work / "autoencoder.safetensors")
    (work / "codes").mkdir(exist_ok=True)
    for path in sorted((work / "audio").glob(f"{speaker}_*.npy")):
        records, samples = load_shard(path)
        levels: list[list[npt.NDArray[np.int16]]] = [[], [], []]
        for record in records:
            cut = samples[record.first * FRAME : (record.first + record.frames) * FRAME].astype(np.float32) / 32768
            for level, code in zip(levels, encode(model, features, torch.from_numpy(cut)[None].to(place)), strict=True):
                level.append(code.cpu().numpy().astype(np.int16))
        arrays = {f"level{number}": np.concatenate(level) for number, level in enumerate(levels)}
        part = work / "codes" / f"{path.stem}.part"
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        part.rename(part.with_suffix(".npz"))  # others read it as soon as it is there
