"""Speech by OpenAI's own package: `pip install openai`.

python speech_openai.py "What is to be said." [--url URL] [-o FILE]
"""

from __future__ import annotations

import argparse
import os

from openai import OpenAI

URL = os.environ.get("MAXPIPE_URL", "http://127.0.0.1:8000")


def speak(text: str, url: str, file: str) -> None:
    """Write an mp3 file while its sound is being made."""
    client = OpenAI(base_url=f"{url}/v1", api_key=os.environ.get("MAXPIPE_KEY", "none"))
    speech = client.audio.speech.with_streaming_response
    with speech.create(model="tts-1", voice="alloy", input=text, response_format="mp3") as answer:
        answer.stream_to_file(file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--url", default=URL)
    parser.add_argument("-o", "--output", default="speech.mp3")
    options = parser.parse_args()
    speak(options.text, options.url, options.output)
