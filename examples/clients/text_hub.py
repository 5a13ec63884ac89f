"""Text by the hub's own client: `pip install huggingface_hub`.

python text_hub.py "Once upon a time" [--url URL]
"""

from __future__ import annotations

import argparse
import os

from huggingface_hub import InferenceClient

URL = os.environ.get("MAXPIPE_URL", "http://127.0.0.1:8000")


def write(text: str, url: str) -> None:
    """Print how a text goes on, while that is being written; then what the model thought of each token."""
    client = InferenceClient(url, token=os.environ.get("MAXPIPE_KEY"))
    for piece in client.text_generation(text, max_new_tokens=64, stream=True):
        print(piece, end="", flush=True)
    answer = client.text_generation(text, max_new_tokens=64, details=True)
    likely = sum(token.logprob for token in answer.details.tokens) / len(answer.details.tokens)
    print(f"\n{answer.details.finish_reason}; mean log probability of a token: {likely:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--url", default=URL)
    options = parser.parse_args()
    write(options.text, options.url)
