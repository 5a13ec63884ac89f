"""Frozen codes first: a log-mel autoencoder around SNAC's own residual quantizer.

It is small and fast because it works on 31.25 latents a second, each the mel frames of 512 samples. The
encoder sees both ways; the decoder only back, as the sound decoder will: so the codes of a latent hold what a causal
decoder needs at that moment. A second head tells the phone from the quantised latents, which keeps what is
heard as different from being coded as the same.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from max_codecs.snac.mel_encoder import MelEncoder, Stack
from max_codecs.snac.spectra import BANDS, MEL_HOP, fold, unfold
from max_voices.recipe.data import Record, load_shard, shards_of
from max_voices.recipe.flite import PAUSE, SAMPLE_RATE
from max_voices.recipe.layout import CODES, FRAME, PHONES
from max_voices.recipe.quantizer import Quantized, Quantizer
from max_voices.recipe.tools import Budget, Log, device, restore, save, set_rate

LATENT = 256
STRIDES = (4, 2, 1)
CODE_DIM = 8
LATENT_HOP = 512  # samples of one latent: 31.25 Hz
ENCODER_WIDTH, ENCODER_DEPTH = 256, 6
ALIGNER_WIDTH, ALIGNER_DEPTH = 192, 1
_DECODER_WIDTH, _DECODER_DEPTH = 384, 4
_FOLD = LATENT_HOP // MEL_HOP  # mel frames in a latent
_LATENTS = FRAME // LATENT_HOP  # latents in a frame
_CROP, _BATCH = 16, 14  # frames (2 s), rows
_RESTART = 100  # steps between restarts of unused codes


class Autoencoder(nn.Module):
    """Sound → latents (B, 256, T) at 31.25 Hz → codes → log-mel spectra and phones.

    Encoder, quantizer and the head for phones are served; the decoder is there for training alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = MelEncoder(SAMPLE_RATE, LATENT_HOP, LATENT, ENCODER_WIDTH, ENCODER_DEPTH)
        self.quantizer = Quantizer(LATENT, CODES, CODE_DIM, STRIDES)
        self.decoder = Stack(LATENT, _DECODER_WIDTH, BANDS * _FOLD, _DECODER_DEPTH, causal=True)
        self.phones = Stack(LATENT, ALIGNER_WIDTH, len(PHONES), ALIGNER_DEPTH, causal=True)


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

    def __init__(self, work: Path, speakers: Sequence[str]) -> None:
        self._work, self._speakers = work, speakers
        self._shards = dict[Path, tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]]()
        self.refresh()

    def refresh(self) -> None:
        for path in shards_of(self._work / "audio", self._speakers, ".npy"):
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


def train(work: Path, speakers: Sequence[str], seconds: float, seed: int = 1) -> None:
    """Writes ``autoencoder.safetensors``."""
    torch.manual_seed(seed)
    place, log = device(), Log(work / "autoencoder.log")
    model, data = Autoencoder().to(place), Crops(work, speakers)
    if (work / "autoencoder.safetensors").exists():
        restore(model, work / "autoencoder.safetensors")  # a second run goes on from the first
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, betas=(0.8, 0.98), weight_decay=0.01)
    budget, used = Budget(seconds), [torch.zeros(CODES, device=place) for _ in STRIDES]
    for step, (sound, phones) in enumerate(data.batches(seed)):
        if budget.done:
            break
        set_rate(optimizer, budget.rate(step))
        target = model.encoder.spectra(sound.to(place))
        with torch.autocast(place.type, torch.bfloat16):
            z = model.encoder.stack(fold(target, _FOLD))
        q: Quantized = model.quantizer(z.float())
        with torch.autocast(place.type, torch.bfloat16):
            heard, said = unfold(model.decoder(q.latents), _FOLD).float(), model.phones(q.latents).float()
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
def encode(model: Autoencoder, sound: Tensor) -> list[Tensor]:
    """Sound (1, samples), whole frames → codes (n,), (2n,), (4n,)."""
    with torch.autocast(sound.device.type, torch.bfloat16):
        z = model.encoder(sound)
    return [code.squeeze(0) for code in model.quantizer(z.float()).codes]


def encode_all(work: Path, speakers: Sequence[str]) -> None:
    """Every shard's codes, utterance by utterance (no context from the neighbour): ``codes/speaker_00.npz``."""
    place = device()
    model = Autoencoder().to(place).eval()
    restore(model, work / "autoencoder.safetensors")
    (work / "codes").mkdir(exist_ok=True)
    for path in shards_of(work / "audio", speakers, ".npy"):
        records, samples = load_shard(path)
        levels: list[list[npt.NDArray[np.int16]]] = [[], [], []]
        for record in records:
            cut = samples[record.first * FRAME : (record.first + record.frames) * FRAME].astype(np.float32) / 32768
            for level, code in zip(levels, encode(model, torch.from_numpy(cut)[None].to(place)), strict=True):
                level.append(code.cpu().numpy().astype(np.int16))
        arrays = {f"level{number}": np.concatenate(level) for number, level in enumerate(levels)}
        part = work / "codes" / f"{path.stem}.part"
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        part.rename(part.with_suffix(".npz"))  # others read it as soon as it is there
