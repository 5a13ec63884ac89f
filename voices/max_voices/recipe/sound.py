"""Training of the sound decoder: SNAC's, made causal, from frozen codes.

First spectral losses alone; then, for the last part of the time, small adversaries as well, which take away
the buzz that such losses leave.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from max_codecs.snac.causal import CausalDecoder
from max_codecs.snac.spectra import magnitude, mel_filters
from max_voices.recipe.autoencoder import CODE_DIM, LATENT, STRIDES, Autoencoder
from max_voices.recipe.data import load_shard, shards_of
from max_voices.recipe.flite import SAMPLE_RATE
from max_voices.recipe.layout import CODES, FRAME
from max_voices.recipe.quantizer import Quantizer
from max_voices.recipe.tools import Budget, Log, device, restore, save, set_rate

WIDTH, RATES = 512, (2, 2, 4, 4, 8)  # the large upsampling last: few layers at a high rate
_SIZES = (256, 512, 1024)
_MEL_SIZE, _MEL_BANDS = 1024, 80
_CROP, _ROWS = 12, 6  # frames (1.5 s), rows
_STARTS = 2  # rows that start with an utterance
_ONSET = 480  # samples: 30 ms of silence, where a decoder without a past would click
_FLOOR = 0.02  # magnitude below which nothing is heard; of a Hann window that sums to about 100…500


class Codec(nn.Module):
    """What serving needs: codes → sound. Parameter names are those of ``snac.SNAC``."""

    def __init__(self) -> None:
        super().__init__()
        self.quantizer = Quantizer(LATENT, CODES, CODE_DIM, STRIDES)
        self.decoder = CausalDecoder(LATENT, WIDTH, RATES, noise=False, depthwise=True)

    def forward(self, codes: list[Tensor]) -> Tensor:
        """Codes (B, n), (B, 2n), (B, 4n) → sound (B, 2048 n)."""
        with torch.no_grad():
            latents = self.quantizer.from_codes(codes)
        sound: Tensor = self.decoder(latents)
        return sound[:, 0]


@dataclass(frozen=True, slots=True)
class Piece:
    """Crops: codes by level, and the sound they stand for (B, samples). The first rows start with an utterance."""

    codes: list[Tensor]
    sound: Tensor


class Pieces:
    """Random crops of all shards that have codes; new ones are found as they appear."""

    def __init__(self, work: Path, speakers: Sequence[str]) -> None:
        self._work, self._speakers = work, speakers
        self._shards = dict[Path, tuple[npt.NDArray[np.int16], list[npt.NDArray[np.int16]], npt.NDArray[np.int64]]]()

    def refresh(self) -> None:
        for path in shards_of(self._work / "codes", self._speakers, ".npz"):
            if path not in self._shards:
                with np.load(path, allow_pickle=False) as file:
                    levels = [file[f"level{number}"] for number in range(len(STRIDES))]
                records, samples = load_shard(self._work / "audio" / f"{path.stem}.npy")
                self._shards[path] = samples, levels, np.array([record.first for record in records])

    def batches(self, seed: int, crop: int, rows: int) -> Iterator[Piece]:
        chance = np.random.default_rng(seed)
        self.refresh()
        while True:
            shards, sounds, codes = (
                list(self._shards.values()),
                list[npt.NDArray[np.float32]](),
                list[list[npt.NDArray[np.int16]]](),
            )
            for row in range(rows):
                samples, levels, firsts = shards[chance.integers(len(shards))]
                start = int(chance.integers(len(levels[0]) - crop))
                if row < _STARTS:
                    start = int(firsts[firsts.searchsorted(start, "right") - 1])
                sounds.append(samples[start * FRAME : (start + crop) * FRAME].astype(np.float32) / np.float32(32768))
                codes.append([level[start << n : (start + crop) << n] for n, level in enumerate(levels)])
            stacked = [torch.from_numpy(np.stack(level).astype(np.int64)) for level in zip(*codes, strict=True)]
            yield Piece(stacked, torch.from_numpy(np.stack(sounds)))


class Spectral(nn.Module):
    """Log-magnitude L1 + 0.5 spectral convergence at three sizes + 2 × log-mel L1. The last is what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", mel_filters(_MEL_SIZE, _MEL_BANDS, SAMPLE_RATE))

    def forward(self, heard: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        total, mel = heard.new_zeros(()), heard.new_zeros(())
        for size in _SIZES:
            is_, should = magnitude(heard, size, size // 4), magnitude(target, size, size // 4)
            total = total + functional.l1_loss(is_.clamp(min=_FLOOR).log(), should.clamp(min=_FLOOR).log())
            total = total + 0.5 * (is_ - should).norm() / should.norm().clamp(min=1.0)
            if size == _MEL_SIZE:
                low, high = (self.get_buffer("filters") @ m for m in (is_, should))
                mel = functional.l1_loss(low.clamp(min=1e-3).log(), high.clamp(min=1e-3).log())
        return total / len(_SIZES) + 2 * mel, mel


class Adversary(nn.Module):
    """Judges magnitude spectra (B, bins, frames) piece by piece; small, as a CPU has to train it."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        shapes = ((2, (1, 1)), (width, (2, 1)), (width, (2, 2)), (2 * width, (2, 2)), (2 * width, (2, 1)))
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, (5, 3), stride, (2, 1)) for (before, _), (after, stride) in pairwise(shapes)
        )
        self.last = nn.Conv2d(2 * width, 1, 3, padding=1)

    def forward(self, spectrum: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores, and what each layer saw."""
        place = torch.linspace(-1, 1, spectrum.shape[1], device=spectrum.device)  # which frequency a bin is
        x = torch.stack([spectrum, place[None, :, None].expand_as(spectrum)], dim=1)
        seen = list[Tensor]()
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.1)
            seen.append(x)
        score: Tensor = self.last(x)
        return score, seen


class Adversaries(nn.Module):
    """One for the timing, one for the harmonics."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = (256, 800)
        self.judges = nn.ModuleList(Adversary() for _ in self.sizes)

    def forward(self, sound: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        spectra = [magnitude(sound, size, size // 4).clamp(min=_FLOOR).log() for size in self.sizes]
        with torch.autocast(sound.device.type, torch.bfloat16):
            return [judge(spectrum) for judge, spectrum in zip(self.judges, spectra, strict=True)]


def _fight(
    judges: Adversaries, against: torch.optim.Optimizer, heard: Tensor, target: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Trains the judges one step; returns what they add to the decoder's loss, and figures for the log.

    Leaves the judges frozen: the decoder's gradient goes through them, and they are not to learn from it.
    """
    real, fake = judges(target), judges(heard.detach())
    judge = sum(
        (
            functional.relu(1 - r.float()).mean() + functional.relu(1 + f.float()).mean()
            for (r, _), (f, _) in zip(real, fake, strict=True)
        ),
        heard.new_zeros(()),
    )
    against.zero_grad()
    judge.backward()  # type: ignore[no-untyped-call]
    against.step()
    fooled = feature = heard.new_zeros(())
    judges.requires_grad_(False)
    for (_, saw), (score, sees) in zip(real, judges(heard), strict=True):
        fooled = fooled - score.float().mean()
        feature = feature + sum(
            (functional.l1_loss(a.float(), b.detach().float()) for a, b in zip(sees, saw, strict=True)),
            heard.new_zeros(()),
        ) / len(saw)
    return 0.05 * fooled + 0.5 * feature, {"fooled": fooled, "feature": feature, "judge": judge}


def train(
    work: Path,
    speakers: Sequence[str],
    seconds: float,
    adversarial: float | None = None,
    gentle: float = 0.4,
    seed: int = 1,
) -> None:
    """Writes ``codec.safetensors``. ``adversarial``: the last share of the time, in which the adversaries take part.

    A second run goes on from the first, ``gentle`` times as fast.

    By default 0.35 on a GPU, and none on a CPU: there a step with them takes 2.3 times as long, and there are only
    some thousand steps.
    """
    torch.manual_seed(seed)
    place, log = device(), Log(work / "sound.log")
    codec, spectral, judges = Codec().to(place), Spectral().to(place), Adversaries().to(place)
    autoencoder, path = Autoencoder(), work / "codec.safetensors"
    restore(autoencoder, work / "autoencoder.safetensors")
    codec.quantizer.load_state_dict(autoencoder.quantizer.state_dict())
    again, start = path.exists(), work / "decoder.safetensors"
    if again:
        restore(codec, path)
    elif start.exists():
        restore(codec.decoder, start)  # of a voice whose codes were others
    codec.decoder.compile(dynamic=False)
    share = (0.35 if place.type == "cuda" else 0.0) if adversarial is None else adversarial
    data, budget = Pieces(work, speakers), Budget(seconds)
    optimizer = torch.optim.AdamW(
        codec.decoder.parameters(), 1e-3 * (gentle if again else 1), betas=(0.8, 0.99), weight_decay=0.01, fused=True
    )
    against = torch.optim.AdamW(judges.parameters(), 4e-4, betas=(0.8, 0.99), weight_decay=0.01, fused=True)
    sums = dict.fromkeys(("loss", "mel", "onset", "fooled", "feature", "judge"), 0.0)
    for step, piece in enumerate(data.batches(seed, _CROP, _ROWS)):
        if budget.done:
            break
        set_rate(optimizer, budget.rate(step))
        target, fight = piece.sound.to(place), budget.elapsed > (1 - share) * seconds
        heard = codec([code.to(place) for code in piece.codes])
        loss, mel = spectral(heard, target)
        onset = functional.l1_loss(heard[:_STARTS, :_ONSET], target[:_STARTS, :_ONSET])
        figures = {"loss": loss, "mel": mel, "onset": onset}
        loss = loss + 20 * onset
        if fight:
            added, seen = _fight(judges, against, heard, target)
            loss, figures = loss + added, figures | seen
        optimizer.zero_grad()
        loss.backward()
        judges.requires_grad_(True)
        nn.utils.clip_grad_norm_(codec.decoder.parameters(), 5.0)
        optimizer.step()
        for name, value in figures.items():
            sums[name] += float(value.detach()) / 50
        if step % 50 == 49:
            log(step=step, **sums, seconds=budget.elapsed)
            sums = dict.fromkeys(sums, 0.0)
            data.refresh()
        if step % 500 == 499:
            save(codec, path)
    save(codec, path)
