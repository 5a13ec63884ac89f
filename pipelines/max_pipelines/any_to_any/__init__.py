"""transformers' any-to-any on this engine: change the import, and nothing else.

from max_pipelines.any_to_any import pipeline

pipe = pipeline("any-to-any", model="Qwen/Qwen2.5-Omni-3B")
chat = [{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]
print(pipe(text=chat, max_new_tokens=20, return_full_text=False)[0]["generated_text"])
"""

from __future__ import annotations

from .device import infer_device
from .model import AutoModelForMultimodalLM, MultimodalModel
from .processor import AutoProcessor, Inputs, MultimodalProcessor
from .task import AnyToAnyPipeline, pipeline

__all__ = [
    "AnyToAnyPipeline",
    "AutoModelForMultimodalLM",
    "AutoProcessor",
    "Inputs",
    "MultimodalModel",
    "MultimodalProcessor",
    "infer_device",
    "pipeline",
]
