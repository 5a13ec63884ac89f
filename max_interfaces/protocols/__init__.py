"""The protocols that make maxpipe pluggable. `pipeline` is the one that all others serve: a reader may stop there.

Each docstring states the contract: who owns what, when a call is safe, what it raises. The frozen values in between
declare their bounds and do not check them, for a step makes thousands of them; whatever crosses a border is checked.
"""

from .codec import AudioCodec, CodecStream, Frames, SpeechEncoder, StreamStart
from .constraint import TokenConstraint
from .generator import Adapters, TokenGenerator, Tokenizer
from .pipeline import Attempt, Chunk, Output, Pipeline
from .queues import PullQueue, PushQueue
from .sequences import Feature, Hypothesis, PromptReport, SequenceStart, TokenDelta

__all__ = [
    "Adapters",
    "Attempt",
    "AudioCodec",
    "Chunk",
    "CodecStream",
    "Feature",
    "Frames",
    "Hypothesis",
    "Output",
    "Pipeline",
    "PromptReport",
    "PullQueue",
    "PushQueue",
    "SequenceStart",
    "SpeechEncoder",
    "StreamStart",
    "TokenConstraint",
    "TokenDelta",
    "TokenGenerator",
    "Tokenizer",
]
