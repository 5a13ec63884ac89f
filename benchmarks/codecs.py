"""How fast a codec decodes on one core, at once and streamed, and how far the two are apart.

    python benchmarks/codecs.py [--seconds 8] [--chunk 2] [--runs 3] [--json FILE]

The published configurations with random weights, whose speed is the same. `at once` is transformers' own decode of the
whole sound; `streamed` is ours, `--chunk` frames a push. Real-time factors: seconds of work for a second of sound.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel

from max_codecs.pretrained.dac import dac_codec
from max_codecs.pretrained.encodec import encodec_codec
from max_codecs.pretrained.mimi import mimi_codec
from max_codecs.streaming.codec import StreamingCodec
from max_interfaces import StreamStart

Sound = NDArray[np.float32]
Decode = Callable[[torch.Tensor], torch.Tensor]  # codes int64[1, codebooks, frames] to samples


@dataclass(frozen=True)
class Row:
    codec: str
    at_once: float
    streamed: float
    difference: float
    peak: float


def mimi() -> tuple[StreamingCodec, Decode]:
    """kyutai/mimi, of which Moshi uses 8 codebooks."""
    model = MimiModel(MimiConfig())
    return mimi_codec(model, _slots(8)), lambda codes: _audio(model, audio_codes=codes)


def dac(rate: int, ratios: list[int]) -> tuple[StreamingCodec, Decode]:
    """descript/dac_16khz (12 codebooks, here 9 as well) and dac_44khz, which Dia uses."""
    model = DacModel(DacConfig(sampling_rate=rate, downsampling_ratios=ratios))
    return dac_codec(model), lambda codes: _audio(model, audio_codes=codes)


def encodec_24khz() -> tuple[StreamingCodec, Decode]:
    """facebook/encodec_24khz at 6 kbit/s."""
    model = EncodecModel(EncodecConfig())
    return encodec_codec(model, _slots(8)), lambda codes: _audio(model, audio_codes=codes[None], audio_scales=[None])


def encodec_32khz() -> tuple[StreamingCodec, Decode]:
    """facebook/encodec_32khz, MusicGen's."""
    config = EncodecConfig(
        sampling_rate=32_000, upsampling_ratios=[8, 5, 4, 4], num_filters=64, use_causal_conv=False,
        use_conv_shortcut=False, codebook_size=2048, target_bandwidths=[2.2],
    )  # fmt: skip
    model = EncodecModel(config)
    return encodec_codec(model), lambda codes: _audio(model, audio_codes=codes[None], audio_scales=[None])


CODECS: dict[str, Callable[[], tuple[StreamingCodec, Decode]]] = {
    "Mimi": mimi,
    "DAC 16 kHz": lambda: dac(16_000, [2, 4, 5, 8]),
    "DAC 44 kHz": lambda: dac(44_100, [2, 4, 8, 8]),
    "EnCodec 24 kHz": encodec_24khz,
    "EnCodec 32 kHz": encodec_32khz,
}


def _audio(model: Any, **codes: object) -> torch.Tensor:
    """What transformers makes of codes; the types of its three differ."""
    samples: torch.Tensor = model.decode(**codes).audio_values
    return samples


def _slots(count: int) -> tuple[tuple[int, int], ...]:
    return tuple((level, 0) for level in range(count))


def measured(name: str, seconds: float, chunk: int, runs: int) -> Row:
    torch.manual_seed(0)
    codec, decode = CODECS[name]()
    count = round(seconds * codec.sample_rate / codec.frame_samples)
    frames = np.random.default_rng(0).integers(0, codec.codebook_size, (count, codec.codes_per_frame))
    codes = torch.from_numpy(frames.T.copy())[None]

    def at_once() -> Sound:
        with torch.inference_mode():
            samples: Sound = decode(codes).flatten().numpy()
        return samples

    def streamed() -> Sound:
        stream = codec.open(StreamStart())
        parts = [stream.push(frames[start : start + chunk]) for start in range(0, count, chunk)]
        return np.concatenate([*parts, stream.flush()])

    whole, pieces = at_once(), streamed()
    spoken = whole.size / codec.sample_rate
    return Row(
        name,
        _best(at_once, runs) / spoken,
        _best(streamed, runs) / spoken,
        float(abs(whole - pieces).max()),
        float(abs(whole).max()),
    )


def _best(work: Callable[[], object], runs: int) -> float:
    """CPU seconds of the fastest run."""
    taken = []
    for _ in range(runs):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--chunk", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| codec | at once, RTF | streamed, RTF | ratio | max difference | peak |\n|---|---|---|---|---|---|")
    rows = []
    for name in CODECS:
        row = measured(name, given.seconds, given.chunk, given.runs)
        rows.append(asdict(row))
        ratio = row.streamed / row.at_once
        print(
            f"| {name} | {row.at_once:.3f} | {row.streamed:.3f} | {ratio:.2f} | {row.difference:.1e} | {row.peak:.2f} |"
        )
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
