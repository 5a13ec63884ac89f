"""mlx-vlm's functions on this engine: change the import, and nothing else.

from max_pipelines.vlm import apply_chat_template, generate, load

model, processor = load("Qwen/Qwen2.5-0.5B-Instruct")
prompt = apply_chat_template(processor, model.config, "Describe the sea.")
print(generate(model, processor, prompt, max_tokens=100).text)
"""

from __future__ import annotations

from .batching import batch_generate
from .generating import generate, stream_generate
from .model import Model, load
from .results import BatchResponse, BatchStats, GenerationResult
from .templates import apply_chat_template

__all__ = [
    "BatchResponse",
    "BatchStats",
    "GenerationResult",
    "Model",
    "apply_chat_template",
    "batch_generate",
    "generate",
    "load",
    "stream_generate",
]
