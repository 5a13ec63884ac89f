"""The slow, obvious road from text to sound: a batch of utterances through a KV cache, under the phase constraint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import Tensor

from max_voices.embedded import load_voice
from max_voices.recipe.layout import AUDIO, EOS, VOCABULARY, Ids, deinterleave, prompt
from max_voices.recipe.model import Cache, Llama
from max_voices.recipe.sound import Codec

_ROWS = 25


@dataclass(frozen=True, slots=True)
class Spoken:
    """What the model wrote for one text."""

    tokens: tuple[int, ...]
    ended: bool  # with <eos>, within the limit

    @property
    def audio_ids(self) -> Ids:
        """The audio ids [7n] alone."""
        return np.array([token for token in self.tokens if token >= AUDIO], np.int64)


class Speaker:
    """The embedded voice, loaded in float32."""

    def __init__(self, folder: Path) -> None:
        self.form = load_voice(folder)
        self.constraint = self.form.constraint(VOCABULARY)
        self.model, self.codec = Llama().eval(), Codec().eval()
        for module, name in ((self.model, "lm"), (self.codec, "codec")):
            weights = load_file(folder / name / "model.safetensors")
            module.load_state_dict({key: tensor.float() for key, tensor in weights.items()})

    @torch.inference_mode()
    def write(
        self,
        texts: Sequence[str],
        seed: int,
        speaker: str = "slt",
        temperature: float | None = None,
        top_p: float | None = None,
    ) -> list[Spoken]:
        """Tokens for each text (spelled already). Temperature 0 is greedy; None is the voice's own."""
        chance, spoken = torch.Generator().manual_seed(seed), dict[int, Spoken]()
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        for start in range(0, len(order), _ROWS):  # texts of like length, so that the cache is small
            numbers = order[start : start + _ROWS]
            batch = self._batch([texts[number] for number in numbers], chance, speaker, temperature, top_p)
            spoken.update(zip(numbers, batch, strict=True))
        return [spoken[number] for number in range(len(texts))]

    def _batch(
        self,
        texts: Sequence[str],
        chance: torch.Generator,
        speaker: str,
        temperature: float | None,
        top_p: float | None,
    ) -> list[Spoken]:
        heat = self.form.sampling.temperature if temperature is None else temperature
        share = self.form.sampling.top_p if top_p is None else top_p
        prompts = [prompt(text, speaker) for text in texts]
        limit = max(map(len, texts)) * 9 + 60  # tokens; the teacher needs about 4 for each character
        length, room = max(map(len, prompts)), max(map(len, prompts)) + limit
        cache = Cache.empty(len(texts), room)
        ids = torch.tensor([row + [0] * (length - len(row)) for row in prompts])
        hidden = self.model(ids, torch.arange(length).expand(len(texts), length), cache)
        at = torch.tensor([len(row) for row in prompts])
        state = hidden[torch.arange(len(texts)), at - 1]
        tokens = [list[int]() for _ in texts]
        alive = list(range(len(texts)))
        for _ in range(limit):
            chosen = self._sample(state, [tokens[row] for row in alive], heat, share, chance)
            for row, token in zip(alive, chosen, strict=True):
                tokens[row].append(token)
            going = [number for number, row in enumerate(alive) if tokens[row][-1] != EOS]
            if not going:
                break
            if len(going) < len(alive):  # rows that ended make room
                alive, at = [alive[n] for n in going], at[going]
                cache = Cache(cache.keys[:, going], cache.values[:, going], cache.at, cache.mask)
            last = torch.tensor([[tokens[row][-1]] for row in alive])
            state = self.model(last, at[:, None], cache)[:, 0]
            at = at + 1
        return [Spoken(tuple(written), written[-1] == EOS) for written in tokens]

    def _sample(
        self, state: Tensor, written: Sequence[list[int]], heat: float, share: float, chance: torch.Generator
    ) -> list[int]:
        """One token for each row of hidden states (B, WIDTH), among those that may follow."""
        logits = state @ self.model.model.embed_tokens.weight.t()
        draws = torch.rand(len(written), generator=chance).tolist()
        chosen = list[int]()
        for row, (tokens, draw) in enumerate(zip(written, draws, strict=True)):
            allowed = torch.from_numpy(np.flatnonzero(self.constraint.allowed(tokens)))
            these = logits[row, allowed]
            if heat == 0:
                chosen.append(int(allowed[these.argmax()]))
                continue
            probability, order = (these / heat).softmax(-1).sort(descending=True)
            before = probability.cumsum(-1) - probability
            kept = probability * (before < share)
            place = torch.searchsorted(kept.cumsum(-1), draw * kept.sum()).clamp(max=len(kept) - 1)
            chosen.append(int(allowed[order[place]]))
        return chosen

    @torch.inference_mode()
    def sound(self, audio_ids: Ids) -> npt.NDArray[np.float32]:
        """Audio ids [7n] → samples [2048 n]."""
        if not len(audio_ids):
            return np.zeros(0, np.float32)
        codes = [torch.from_numpy(level)[None] for level in deinterleave(audio_ids)]
        sound: npt.NDArray[np.float32] = self.codec(codes)[0].numpy()
        return sound
