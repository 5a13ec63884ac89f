"""The voice that is shipped, over the whole road, and heard by somebody who does not know what was said."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from max_interfaces import SamplingParams
from max_pipelines.client import Client
from max_voices.recipe.judge import Judge, word_error_rate
from max_voices.text import spell

CONFIG = Path(__file__).parents[2] / "configs" / "speech.yaml"
TEXTS = (
    "The train to the city leaves at half past nine.",
    "My sister made a cake for my birthday.",
    "We bought 12 eggs, some bread, and a bottle of milk.",
    "I was late for work because the bus did not come. Then it began to rain.",
)


def test_what_it_says_is_understood() -> None:
    judge = Judge()
    with Client.embedded(CONFIG) as client:
        rate = client.models[0].sample_rate
        heard = []
        for text in TEXTS:
            sound = np.concatenate(
                [chunk.audio_data for chunk in client.speak(text, sampling_params=SamplingParams(seed=1))]
            )
            assert 0.1 < sound.size / rate / len(spell(text).split()) < 1.0  # seconds a word: no runaway, nothing cut
            assert 0.1 < np.abs(sound).max() <= 1.0
            assert np.abs(sound[:16]).max() < 0.01  # it begins without a click
            assert np.abs(sound[-16:]).max() < 0.02  # and ends without one
            heard.append(judge.hear(spell(text), sound))
    assert word_error_rate(heard) < 0.5  # far above what is measured over 300 utterances; noise would be 1 and more
