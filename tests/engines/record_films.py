"""What transformers' own processors of films make of `CASES`: `python -m tests.engines.record_films` writes it down.

They import torchvision, which has no build for our torch. Three of its functions are called, and stand here as what its
source says that they do with uint8 tensors on a CPU: `resize` is torch's own `interpolate`, with antialiasing and
without a detour over floats; `normalize` subtracts and divides; `grayscale_to_rgb` leaves three channels alone. All
else that is recorded, the choice of frames, sizes, patches, times and texts, is transformers'.
Source: torchvision 0.28, `transforms/v2/functional/_geometry.py` and `_misc.py`.
"""

from __future__ import annotations

import enum
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

RECORDED = Path(__file__).with_name("films.npz")
ONE, TWO = "see <vb><vid><ve> there", "<vb><vid><ve> is not <vb><vid><ve>"
EACH = 256, 1024  # pixels of a frame
MODELS = ("qwen2.5-vl", "qwen3-vl", "qwen2.5-omni")


@dataclass(frozen=True)
class Case:
    """Films of a shape each (frames, height, width), `fps` of them a second, and how many are asked for."""

    shapes: tuple[tuple[int, int, int], ...]
    fps: float
    asked: dict[str, Any] = field(default_factory=dict)
    models: tuple[str, ...] = MODELS
    whole: tuple[int, int] = (256, 4096)  # the fewest and the most pixels of a film, for Qwen3-VL

    @property
    def films(self) -> list[NDArray[np.uint8]]:
        """Their frames: a smooth picture that moves, under some noise."""
        return [film(seed, *shape) for seed, shape in enumerate(self.shapes)]

    @property
    def text(self) -> str:
        """A prompt with a place for each."""
        return ONE if len(self.shapes) == 1 else TWO

    def size(self, model: str) -> dict[str, int]:
        """In pixels of a frame, or of a film for Qwen3-VL."""
        least, most = self.whole if model == "qwen3-vl" else EACH
        return {"shortest_edge": least, "longest_edge": most}


CASES = {
    "as it is": Case(((4, 32, 32),), 2.0, {"num_frames": 4}),
    "made smaller": Case(((12, 70, 90),), 24.0, {"num_frames": 4}),
    "made larger": Case(((4, 9, 14),), 8.0, {"num_frames": 4}),
    "grown as a whole": Case(((4, 20, 34),), 8.0, {"num_frames": 4}, ("qwen3-vl",), (5000, 8192)),
    "four at least": Case(((10, 32, 32),), 25.0, {"fps": 1}),
    "two of them": Case(((30, 40, 50), (24, 50, 40)), 12.0, {"fps": 2}),
    "an odd number": Case(((9, 33, 47),), 3.0, {"num_frames": 3}, ("qwen3-vl",)),
    "all that there is": Case(((5, 40, 30),), 5.0, {}, ("qwen2.5-vl", "qwen2.5-omni")),
    "by itself": Case(((50, 40, 30),), 12.5, {}, ("qwen3-vl",)),
}


def film(seed: int, count: int, height: int, width: int) -> NDArray[np.uint8]:
    at, down, right = np.mgrid[0:count, 0:height, 0:width]
    smooth = np.stack([down * 200 / height, right * 200 / width, at * 200 / count], -1)
    noise = np.random.default_rng(seed).integers(0, 55, smooth.shape)
    return (smooth + noise).astype(np.uint8)


class InterpolationMode(enum.Enum):
    """torchvision's."""

    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


def resize(image: torch.Tensor, size: Any, interpolation: InterpolationMode, antialias: bool) -> torch.Tensor:
    if image.dtype != torch.uint8 or interpolation is not InterpolationMode.BICUBIC:
        raise TypeError("only what is needed here")
    if image.shape[-2:] == tuple(size):
        return image
    flat = image.reshape(-1, *image.shape[-3:])
    made = interpolate(flat, size=[*size], mode="bicubic", align_corners=False, antialias=antialias)
    return made.reshape(*image.shape[:-2], *size)


def normalize(image: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, inplace: bool) -> torch.Tensor:
    return (image if inplace else image.clone()).sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))


def grayscale_to_rgb(image: torch.Tensor) -> torch.Tensor:
    if image.shape[-3] != 3:
        raise TypeError("only what is needed here")
    return image


def stand_in() -> None:
    """Have torchvision be there. Before transformers is imported."""
    held: dict[str, dict[str, object]] = {
        "torchvision": {"__version__": "0.28.0"},
        "torchvision.io": {},
        "torchvision.transforms": {"InterpolationMode": InterpolationMode},
        "torchvision.transforms.functional": {"pil_to_tensor": None},
        "torchvision.transforms.v2": {},
        "torchvision.transforms.v2.functional": {
            "InterpolationMode": InterpolationMode,
            "resize": resize,
            "normalize": normalize,
            "grayscale_to_rgb": grayscale_to_rgb,
        },
    }
    for name, names in held.items():
        module = ModuleType(name)
        module.__spec__, module.__path__ = ModuleSpec(name, None, is_package=True), []
        vars(module).update(names)
        sys.modules[name] = module
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)


def recorded(folder: Path, model: str, case: Case) -> dict[str, Any]:
    """What a checkpoint's own processor makes of a prompt with films, and which frames of the first it has seen."""
    import transformers

    processor = transformers.AutoProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
    films = case.films
    metadata = [{"total_num_frames": len(film), "fps": case.fps} for film in films]
    sampled = {"do_sample_frames": True, "fps": None, **case.asked} if case.asked else {}
    batch = processor(
        text=case.text,
        videos=films,
        video_metadata=metadata,
        size=case.size(model),
        return_tensors="np",
        return_metadata=True,
        **sampled,
    )
    seen = batch.pop("video_metadata")[0].frames_indices
    made = {name: np.asarray(array) for name, array in batch.items() if name != "attention_mask"}
    return {**made, "seen": np.arange(len(films[0])) if seen is None else np.asarray(seen)}


def main() -> None:
    """Write all of it down."""
    stand_in()
    from tests.engines.tiny_processors import save_with_processor

    made: dict[str, Any] = {}
    for model in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            save_with_processor(Path(folder), model)
            for name, case in CASES.items():
                if model in case.models:
                    found = recorded(Path(folder), model, case)
                    made |= {f"{model}/{name}/{key}": array for key, array in found.items()}
    np.savez_compressed(RECORDED, **made)


if __name__ == "__main__":
    main()
