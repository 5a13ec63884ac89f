"""Films as Qwen's processors of them make features, without torchvision: the same numbers by torch alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import BatchFeature
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.utils.hub import PushToHubMixin

LEAST, MOST = 128 * 28 * 28, 768 * 28 * 28  # pixels of a frame
LEAST_FRAMES, MOST_FRAMES = 4, 768  # if so many a second are asked for


class QwenFilms(PushToHubMixin):  # it is written out like other parts
    """Stands in the place of transformers' `Qwen2VLVideoProcessor`; `images` is the one of the checkpoint's images."""

    model_input_names = ("pixel_values_videos", "video_grid_thw")

    def __init__(self, images: Any) -> None:
        self.patch_size: int = images.patch_size
        self.merge_size: int = images.merge_size
        self.temporal_patch_size: int = images.temporal_patch_size
        self._mean: Sequence[float] = images.image_mean
        self._std: Sequence[float] = images.image_std

    def to_dict(self) -> dict[str, object]:
        """Nothing that would be saved."""
        return {}

    def fetch_videos(self, videos: object, **_: object) -> object:
        """They have been read."""
        return videos

    def frames(self, total: int, film_fps: float | None, fps: float | None, num_frames: int | None) -> Sequence[int]:
        """Which of a film's frames are seen: all, or `fps` a second, or `num_frames`. ValueError if that cannot be.

        Source: transformers' `Qwen2VLVideoProcessor.sample_frames`.
        """
        if fps is not None and num_frames is not None:
            raise ValueError("fps and num_frames exclude each other")
        together = self.temporal_patch_size
        if num_frames is not None:
            count = round(num_frames / together) * together
        elif fps is not None:
            if film_fps is None or not fps > 0:
                raise ValueError(f"fps = {fps}: must be more than 0, of a film that says how fast it is")
            most = min(MOST_FRAMES, total) // together * together
            count = math.floor(min(max(total / film_fps * fps, LEAST_FRAMES), most, total) / together) * together
        else:
            return range(total)
        if not 0 < count <= total:
            raise ValueError(f"the film has {total} frames, of which {count} were to be seen; ask for fewer")
        return [int(index) for index in torch.arange(0, total, total / count).int()[:count]]

    def __call__(
        self, videos: Sequence[NDArray[np.uint8]], size: Any = None, return_tensors: str | None = None, **_: object
    ) -> BatchFeature:
        """Patches float32 `[patches, values]` of all films, uint8 `[frames, height, width, 3]`, and each one's grid.

        `size` has the fewest and the most pixels of a frame, `shortest_edge` and `longest_edge`.
        """
        bounds = {"shortest_edge": LEAST, "longest_edge": MOST, **(dict(size) if size is not None else {})}
        made = [self._patches(torch.from_numpy(np.ascontiguousarray(film)), bounds) for film in videos]
        return BatchFeature(
            {
                "pixel_values_videos": torch.cat([patches for patches, _ in made]).numpy(),
                "video_grid_thw": np.array([grid for _, grid in made]),
            }
        )

    def _patches(self, film: Tensor, bounds: dict[str, int]) -> tuple[Tensor, tuple[int, int, int]]:
        patch, merge, together = self.patch_size, self.merge_size, self.temporal_patch_size
        height, width = smart_resize(
            film.shape[1],
            film.shape[2],
            factor=patch * merge,
            min_pixels=bounds["shortest_edge"],
            max_pixels=bounds["longest_edge"],
        )
        frames = film.permute(0, 3, 1, 2)
        if frames.shape[-2:] != (height, width):
            frames = interpolate(frames, size=(height, width), mode="bicubic", antialias=True)
        mean, std = (torch.tensor(values)[:, None, None] * 255 for values in (self._mean, self._std))
        values = (frames.float() - mean) / std
        missing = -len(values) % together
        values = torch.cat((values, values[-1:].expand(missing, -1, -1, -1)))
        grid = len(values) // together, height // patch, width // patch
        cut = values.view(grid[0], together, 3, grid[1] // merge, merge, patch, grid[2] // merge, merge, patch)
        return cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(math.prod(grid), -1), grid
