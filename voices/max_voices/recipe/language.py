"""Training of the language model: first text to phones alone, then text to phones to audio codes."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from max_voices.recipe.autoencoder import CODE_DIM, STRIDES
from max_voices.recipe.corpus import texts
from max_voices.recipe.data import shards_of
from max_voices.recipe.layout import AUDIO, CODES, EOS, FIRST_PHONE, LAST_PHONE, SLOTS, SOC, SOS
from max_voices.recipe.model import Tied, guide_loss
from max_voices.recipe.rows import Batch, Row, batches, phone_rows, speech_rows
from max_voices.recipe.tools import Budget, Log, device, save, set_rate

_GUIDE = 0.15  # weight of the attention loss
_FULL = 1 / 24  # share of the positions that also learn against the whole vocabulary
_OTHER_SEED = 2  # texts for phones alone: not those of the sound


@dataclass(frozen=True, slots=True)
class Losses:
    """Mean cross-entropies in nats, and the number of tokens."""

    phones: Tensor
    slots: Tensor
    full: Tensor
    guide: Tensor
    tokens: int

    @property
    def total(self) -> Tensor:
        return self.phones + self.slots + 0.05 * self.full + _GUIDE * self.guide


def _within(hidden: Tensor, table: Tensor, target: Tensor, allowed: list[tuple[int, int]]) -> Tensor:
    """Summed cross-entropy over the ids that may stand here: ranges low…high, as at serving time."""
    weights = torch.cat([table[low:high] for low, high in allowed])
    local, start = torch.zeros_like(target), 0
    for low, high in allowed:
        inside = (target >= low) & (target < high)
        local = torch.where(inside, target - low + start, local)
        start += high - low
    return functional.cross_entropy((hidden @ weights.t()).float(), local, reduction="sum")


def losses(model: Tied, batch: Batch, place: torch.device) -> Losses:
    """Each position is scored against exactly the ids that the constraint of serving allows there."""
    target = batch.target.to(place)
    with torch.autocast(place.type, torch.bfloat16):
        table = model.table()
        hidden, shown = model(table, batch.ids.to(place), batch.positions.to(place))
        state, wanted = hidden[target >= 0], target[target >= 0]
        low_table = table.to(torch.bfloat16)
        state = state.to(torch.bfloat16)
        phone = (wanted == SOS) | ((wanted >= FIRST_PHONE) & (wanted <= LAST_PHONE))
        phones = _within(state[phone], low_table, wanted[phone], [(SOS, SOS + 1), (FIRST_PHONE, LAST_PHONE + 1)])
        border = (wanted == SOC) | (wanted == EOS) | ((wanted >= AUDIO) & (wanted < AUDIO + CODES))
        slots = (
            _within(state[border], low_table, wanted[border], [(SOC, EOS + 1), (AUDIO, AUDIO + CODES)])
            if border.any()
            else phones * 0
        )
        for slot in range(1, SLOTS):
            low, high = AUDIO + slot * CODES, AUDIO + (slot + 1) * CODES
            here = (wanted >= low) & (wanted < high)
            if here.any():
                slots = slots + _within(state[here], low_table, wanted[here], [(low, high)])
        some = torch.rand(len(wanted), device=place) < _FULL
        full = (
            functional.cross_entropy((state[some] @ low_table.t()).float(), wanted[some]) if some.any() else phones * 0
        )
    guide = sum(
        (guide_loss(q, k, batch.low.to(place), batch.high.to(place)) for q, k in shown), torch.zeros((), device=place)
    )
    count, audio = int(phone.sum()), len(wanted) - int(phone.sum())
    # Phones are few and decide what is said at all: each kind is a mean of its own.
    return Losses(0.3 * phones / max(count, 1), slots / max(audio, 1), full, guide, len(wanted))


def optimizers(model: Tied) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for all the rest."""
    matrices = [p for p in model.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices} | {id(model.projection)}
    rest = [p for p in model.parameters() if id(p) not in inside]
    groups: list[dict[str, object]] = [
        {"params": rest},
        {"params": [model.projection], "lr": 6e-4},
    ]  # it moves 7,168 rows at once
    return [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.01, momentum=0.95, ns_steps=4),
        torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.97), weight_decay=0.0, fused=True),
    ]


def _spoken(work: Path, speakers: Sequence[str], seed: int) -> Iterator[Row]:
    """All utterances in a new order in every round; a round finds the shards encoded since the last."""
    rows, chance, known = list[Row](), random.Random(seed), set[Path]()
    while True:
        for path in shards_of(work / "codes", speakers, ".npz"):
            if path not in known:
                rows.extend(speech_rows(path, seed))
                known.add(path)
        if not rows:
            raise ValueError(f"no codes in {work / 'codes'}: train the autoencoder first")
        chance.shuffle(rows)
        yield from rows


def _codebooks(work: Path) -> list[Tensor]:
    weights = load_file(work / "autoencoder.safetensors")
    return [weights[f"quantizer.quantizers.{level}.codebook.weight"] for level in range(len(STRIDES))]


def train(
    work: Path, speakers: Sequence[str], seconds: float, phones_only: bool, gentle: float = 0.35, seed: int = 1
) -> None:
    """Writes ``phones.safetensors`` (text to phones alone), or, going on from that, ``language.safetensors``.

    A second run goes on from the first, ``gentle`` times as fast.
    """
    torch.manual_seed(seed)
    place, log = device(), Log(work / "language.log")
    model = Tied([torch.randn(CODES, CODE_DIM)] * len(STRIDES) if phones_only else _codebooks(work))
    before, after = work / "phones.safetensors", work / "language.safetensors"
    ours = before if phones_only else after
    pace = gentle if ours.exists() else 1.0
    start = ours if ours.exists() else before
    if start.exists():
        # The phones were learnt before the codes were frozen: features of the codes come from the codec.
        model.load_state_dict(load_file(start) | {"features": model.get_buffer("features")})
    model.to(place)
    for layer in model.layers:
        layer.compile(dynamic=False)
    rows = phone_rows(texts(_OTHER_SEED), speakers) if phones_only else _spoken(work, speakers, seed)
    steps, budget, tokens = optimizers(model), Budget(seconds), 0
    sums = dict.fromkeys(("phones", "slots", "full", "guide"), 0.0)
    for step, batch in enumerate(batches(rows)):
        if budget.done:
            break
        for optimizer in steps:
            set_rate(optimizer, pace * budget.rate(step))
        loss = losses(model, batch, place)
        for optimizer in steps:
            optimizer.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in steps:
            optimizer.step()
        tokens += loss.tokens
        for name in sums:
            sums[name] += float(getattr(loss, name).detach()) / 25
        if step % 25 == 24:
            log(step=step, **sums, tokens=tokens, seconds=budget.elapsed)
            sums = dict.fromkeys(sums, 0.0)
        if step % 200 == 199:
            save(model, ours)
    save(model, ours)
