"""Films as Qwen's processors of them make features, without torchvision: the same numbers by torch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import BatchFeature
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.processing_utils import VideosKwargs
from transformers.utils.constants import (
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from transformers.utils.hub import PushToHubMixin
from transformers.video_utils import VideoMetadata

Frames: TypeAlias = NDArray[np.uint8]
Grid: TypeAlias = tuple[int, int, int]  # pairs of frames, and patches down and across
USUAL_FPS = 24.0  # of a film that says nothing: transformers' own
WIDEST = 200  # times as wide as high, or the other way round
SETTINGS = (
    "patch_size", "merge_size", "temporal_patch_size", "image_mean", "image_std", "size", "fps", "num_frames",
    "min_frames", "max_frames", "do_sample_frames", "cap_pixels_per_frame", "max_video_tokens",
)  # fmt: skip
UNDERSTOOD = {"do_resize": True, "do_rescale": True, "do_normalize": True, "do_center_crop": False, "resample": 3}


@dataclass(frozen=True, slots=True, eq=False)
class SeenFilm:
    """Frames uint8 `[frames, height, width, 3]`: those `indices` of a film of `total` frames, `fps` of them a second.

    `asked_fps` is how many a second were asked for, `sound` float32 `[samples]` if it is heard.
    """

    frames: Frames
    indices: Sequence[int]
    total: int
    fps: float | None = None
    asked_fps: float | None = None
    sound: NDArray[np.float32] | None = None

    @property
    def metadata(self) -> VideoMetadata:
        """The same as transformers has it."""
        return VideoMetadata(self.total, self.fps or USUAL_FPS, frames_indices=list(self.indices))

    @property
    def shown_fps(self) -> float:
        """How many of its frames are seen a second."""
        return self.asked_fps or self.metadata.sampled_fps


class FilmKwargs(VideosKwargs, total=False):
    """What a call may say beside what all processors of videos are told."""

    min_pixels: int
    max_pixels: int


class QwenFilms(PushToHubMixin):  # it is written out like other parts
    """Stands in the place of transformers' `Qwen2VLVideoProcessor`: `size` has the pixels that a frame may have."""

    model_input_names: ClassVar[list[str]] = ["pixel_values_videos", "video_grid_thw"]  # processors join lists
    valid_kwargs: ClassVar[Any] = FilmKwargs
    edges: ClassVar[Mapping[str, str]] = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}  # older names
    patch_size = 14
    merge_size = 2
    temporal_patch_size = 2
    image_mean: Sequence[float] = OPENAI_CLIP_MEAN
    image_std: Sequence[float] = OPENAI_CLIP_STD
    size: Mapping[str, int] = {"shortest_edge": 128 * 28 * 28, "longest_edge": 768 * 28 * 28}
    fps: float | None = None
    num_frames: int | None = None
    min_frames = 4
    max_frames = 768
    do_sample_frames = False
    cap_pixels_per_frame = False
    max_video_tokens = 128_000

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """`settings` are those of a checkpoint. ValueError for one that would make other numbers than ours."""
        for name, value in UNDERSTOOD.items():
            if settings.get(name) not in (None, value):
                raise ValueError(f"its processor of videos has {name} = {settings[name]!r:.80}; only {value} is known")
        for name in SETTINGS:
            if settings.get(name) is not None:
                setattr(self, name, settings[name])
        self.size = self._bounds(settings)

    def to_dict(self) -> dict[str, object]:
        """Nothing that would be saved."""
        return {}

    def fetch_videos(self, videos: object, **_: object) -> object:
        """They have been read."""
        return videos

    def frames(self, total: int, film_fps: float | None, fps: float | None, num_frames: int | None) -> Sequence[int]:
        """Which of a film's frames are seen: `fps` a second, or `num_frames`, or what the checkpoint says, or all.

        ValueError if that cannot be. Source: `sample_frames` of transformers' processor.
        """
        if fps is not None and num_frames is not None:
            raise ValueError("fps and num_frames exclude each other")
        if fps is None and num_frames is None:
            if not self.do_sample_frames:
                return range(total)
            fps, num_frames = (self.fps, None) if self.num_frames is None else (None, self.num_frames)
        if fps is not None and not fps > 0:
            raise ValueError(f"fps = {fps}: must be more than 0")
        count = total if fps is num_frames is None else self._count(total, film_fps, fps, num_frames)
        if not 0 < count <= total:
            raise ValueError(f"the film has {total} frames, of which {count} were to be seen; ask for fewer")
        return self._spread(total, count)

    def tokens(self, films: Sequence[Frames], options: Mapping[str, Any]) -> int:
        """How many placeholders they take; the options are those of a call. ValueError for films that none fits."""
        bounds = self._bounds(options)
        return sum(math.prod(self._grid(film, bounds)) for film in films) // self.merge_size**2

    def __call__(
        self,
        videos: Sequence[Frames],
        video_metadata: Sequence[VideoMetadata] = (),
        return_metadata: bool = False,
        **options: Any,
    ) -> BatchFeature:
        """Patches float32 `[patches, values]` of all films, uint8 `[frames, height, width, 3]`, and each one's grid."""
        bounds = self._bounds(options)
        grids = [self._grid(film, bounds) for film in videos]
        values = 3 * self.temporal_patch_size * self.patch_size**2
        patches = np.empty((sum(math.prod(grid) for grid in grids), values), np.float32)
        rest = torch.from_numpy(patches)
        for film, grid in zip(videos, grids, strict=True):
            for group in self._groups(film, grid):
                rest[: len(group)] = group
                rest = rest[len(group) :]
        made = {"pixel_values_videos": patches, "video_grid_thw": np.array(grids)}
        return BatchFeature(made | ({"video_metadata": list(video_metadata)} if return_metadata else {}))

    def _count(self, total: int, film_fps: float | None, fps: float | None, num_frames: int | None) -> int:
        together = self.temporal_patch_size
        if fps is None:
            return round((num_frames or 0) / together) * together
        if film_fps is None:
            raise ValueError(f"fps = {fps}: the film does not say how fast it is; set num_frames")
        most = min(self.max_frames, total) // together * together
        return math.floor(min(max(total / film_fps * fps, self.min_frames), most, total) / together) * together

    def _spread(self, total: int, count: int) -> Sequence[int]:
        return [int(index) for index in torch.arange(0, total, total / count).int()[:count]]

    def _bounds(self, options: Mapping[str, Any]) -> dict[str, int]:
        """`shortest_edge` and `longest_edge`, which are numbers of pixels. ValueError for a size without them."""
        bounds = dict(options.get("size") or self.size)
        bounds |= {edge: options[name] for name, edge in self.edges.items() if options.get(name) is not None}
        if not bounds.get("shortest_edge") or not bounds.get("longest_edge"):
            raise ValueError("size: films need its shortest_edge and its longest_edge, numbers of pixels")
        return bounds

    def _grid(self, film: Frames, bounds: Mapping[str, int]) -> Grid:
        count, height, width, _ = film.shape
        height, width = self._resized(count, height, width, bounds)
        return -(-count // self.temporal_patch_size), height // self.patch_size, width // self.patch_size

    def _resized(self, count: int, height: int, width: int, bounds: Mapping[str, int]) -> tuple[int, int]:
        factor, most = self.patch_size * self.merge_size, bounds["longest_edge"]
        if self.cap_pixels_per_frame:
            share = int(self.max_video_tokens * factor**2 * 0.9) * self.temporal_patch_size // count
            most = max(min(most, share), int(bounds["shortest_edge"] * 1.05))
        made: tuple[int, int] = smart_resize(height, width, factor, bounds["shortest_edge"], most)
        return made

    def _groups(self, film: Frames, grid: Grid) -> Iterator[Tensor]:
        """The patches of each pair of frames; the last frame stands in for what is missing.

        One pair after the other, so that no more than its floats are there beside the result.
        """
        patch, merge, together = self.patch_size, self.merge_size, self.temporal_patch_size
        size = grid[1] * patch, grid[2] * patch
        mean, std = (torch.tensor(values)[:, None, None] * 255 for values in (self.image_mean, self.image_std))
        for at in range(0, len(film), together):
            frames = torch.tensor(film[at : at + together]).permute(0, 3, 1, 2)
            if frames.shape[-2:] != size:
                frames = interpolate(frames, size=size, mode="bicubic", antialias=True)
            values = frames.float().sub_(mean).div_(std)
            values = torch.cat((values, values[-1:].expand(together - len(values), -1, -1, -1)))
            cut = values.view(together, 3, grid[1] // merge, merge, patch, grid[2] // merge, merge, patch)
            yield cut.permute(2, 5, 3, 6, 1, 0, 4, 7).reshape(grid[1] * grid[2], -1)


class Qwen3Films(QwenFilms):
    """Stands in the place of transformers' `Qwen3VLVideoProcessor`: `size` has the pixels of all frames together."""

    valid_kwargs: ClassVar[Any] = VideosKwargs
    edges: ClassVar[Mapping[str, str]] = {}
    patch_size = 16
    image_mean = IMAGENET_STANDARD_MEAN
    image_std = IMAGENET_STANDARD_STD
    size: Mapping[str, int] = {"shortest_edge": 128 * 32 * 32, "longest_edge": 768 * 32 * 32}
    fps: float | None = 2
    do_sample_frames = True
    max_video_tokens = 768  # a frame

    def _count(self, total: int, film_fps: float | None, fps: float | None, num_frames: int | None) -> int:
        if fps is None:
            return num_frames or 0
        count = int(total / (film_fps or USUAL_FPS) * fps)
        return min(max(count, self.min_frames), self.max_frames, total)

    def _spread(self, total: int, count: int) -> Sequence[int]:
        return [int(index) for index in np.linspace(0, total - 1, count).round()]

    def _resized(self, count: int, height: int, width: int, bounds: Mapping[str, int]) -> tuple[int, int]:
        """Source: `smart_resize` beside transformers' processor; its rule of images, but for the whole film."""
        factor, together = self.patch_size * self.merge_size, self.temporal_patch_size
        least, most = bounds["shortest_edge"], bounds["longest_edge"]
        if count < together:
            raise ValueError(f"a film of {count} frames: at least {together} are to be seen")
        if self.cap_pixels_per_frame:
            share = min(self.max_video_tokens * factor**2, most // count)
            most = max(share, int(least * 1.05)) * count
        if (small := min(height, width)) < factor:
            height, width = int(height * (factor / small)), int(width * (factor / small))
        if max(height, width) > WIDEST * min(height, width):
            raise ValueError(f"frames of {width} × {height} pixels: one side is more than {WIDEST} times the other")
        sides = [round(side / factor) * factor for side in (height, width)]
        pixels = round(count / together) * together * math.prod(sides)
        if pixels > most:
            shrunk = math.sqrt(count * height * width / most)
            sides = [max(factor, math.floor(side / shrunk / factor) * factor) for side in (height, width)]
        elif pixels < least:
            grown = math.sqrt(least / (count * height * width))
            sides = [math.ceil(side * grown / factor) * factor for side in (height, width)]
        return sides[0], sides[1]
