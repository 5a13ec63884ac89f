"""The voice of a Pipecat bot: `pip install 'pipecat-ai[openai]'`.

python speech_pipecat.py "What is to be said." [--url URL] [-o FILE]

In a bot the same service stands between its language model and `transport.output()`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import wave

from pipecat.frames.frames import EndFrame, Frame, TTSAudioRawFrame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.workers.runner import WorkerRunner

URL = os.environ.get("MAXPIPE_URL", "http://127.0.0.1:8000")
RATE = 24_000  # that of the API's pcm


def voice(url: str) -> OpenAITTSService:
    """Pipecat's TTS for OpenAI, at our address."""
    settings = OpenAITTSService.Settings(model="tts-1", voice="alloy")
    return OpenAITTSService(
        base_url=f"{url}/v1", api_key=os.environ.get("MAXPIPE_KEY", "none"), sample_rate=RATE, settings=settings
    )


class Recorder(FrameProcessor):
    """Where a bot has its transport: writes what is said."""

    def __init__(self, out: wave.Wave_write) -> None:
        super().__init__()
        self._out = out

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take the next frame."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self._out.writeframes(frame.audio)
        await self.push_frame(frame, direction)


async def speak(text: str, url: str, file: str) -> None:
    """Write what a bot would say."""
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, RATE, 0, "NONE", ""))
        params = PipelineParams(audio_out_sample_rate=RATE)
        worker = PipelineWorker(Pipeline([voice(url), Recorder(out)]), params=params)
        await worker.queue_frames([TTSSpeakFrame(text), EndFrame()])
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(worker)
        await runner.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--url", default=URL)
    parser.add_argument("-o", "--output", default="speech.wav")
    options = parser.parse_args()
    asyncio.run(speak(options.text, options.url, options.output))
