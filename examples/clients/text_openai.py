"""A chat by OpenAI's own package: `pip install openai`.

python text_openai.py "What is to be answered." [--url URL] [--model NAME]
"""

from __future__ import annotations

import argparse
import os

from openai import OpenAI

URL = os.environ.get("MAXPIPE_URL", "http://127.0.0.1:8000")


def chat(text: str, url: str, model: str | None) -> None:
    """Print an answer while it is being written."""
    client = OpenAI(base_url=f"{url}/v1", api_key=os.environ.get("MAXPIPE_KEY", "none"))
    model = model or client.models.list().data[0].id
    messages = [{"role": "user", "content": text}]
    for chunk in client.chat.completions.create(model=model, messages=messages, stream=True, max_tokens=256):
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--url", default=URL)
    parser.add_argument("--model")
    options = parser.parse_args()
    chat(options.text, options.url, options.model)
