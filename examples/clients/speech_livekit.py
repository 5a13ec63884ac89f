"""The voice of a LiveKit agent: `pip install livekit-agents livekit-plugins-openai`.

python speech_livekit.py "What is to be said." [--url URL] [-o FILE]

In an agent the same object is given to its session: `AgentSession(tts=voice(url), …)`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import wave

from livekit.plugins import openai

URL = os.environ.get("MAXPIPE_URL", "http://127.0.0.1:8000")


def voice(url: str) -> openai.TTS:
    """LiveKit's TTS for OpenAI, at our address. As pcm nothing has to be decoded on the way."""
    key = os.environ.get("MAXPIPE_KEY", "none")
    return openai.TTS(base_url=f"{url}/v1", api_key=key, model="tts-1", voice="alloy", response_format="pcm")


async def speak(text: str, url: str, file: str) -> None:
    """Write what an agent would say."""
    tts = voice(url)
    with wave.open(file, "wb") as out:
        out.setparams((tts.num_channels, 2, tts.sample_rate, 0, "NONE", ""))
        async with tts.synthesize(text) as sound:
            async for heard in sound:
                out.writeframes(heard.frame.data.tobytes())
    await tts.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--url", default=URL)
    parser.add_argument("-o", "--output", default="speech.wav")
    options = parser.parse_args()
    asyncio.run(speak(options.text, options.url, options.output))
