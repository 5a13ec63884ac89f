"""The weights that are shipped."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, LlamaForCausalLM

from max_codecs.chunks import ChunkSchedule
from max_codecs.snac.codec import SnacCodec
from max_codecs.snac.model import load_model
from max_codecs.snac.noise import CounterNoise
from max_interfaces.protocols import StreamStart
from max_voices import FOLDER, load_voice
from max_voices.recipe.export import speech_format
from max_voices.recipe.generate import Speaker
from max_voices.recipe.layout import TOKENS, prompt
from max_voices.recipe.levels import with_gains
from max_voices.recipe.model import Cache


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker(FOLDER)


def test_all_of_it_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 25_000_000


@pytest.mark.parametrize("part", ["lm", "codec"])
def test_weights_are_float16_safetensors(part: str) -> None:
    with safe_open(FOLDER / part / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


def test_transformers_reads_the_language_model_and_agrees(speaker: Speaker) -> None:
    model = LlamaForCausalLM.from_pretrained(FOLDER / "lm", dtype=torch.float32)
    ids = torch.tensor([prompt("hello there.")])
    with torch.inference_mode():
        theirs = model(ids).logits
        ours = speaker.model(ids, torch.arange(ids.shape[1])[None], Cache.empty(1, ids.shape[1]))
        logits = ours @ speaker.model.model.embed_tokens.weight.t()
    torch.testing.assert_close(logits, theirs, atol=1e-3, rtol=1e-3)


def test_the_tokenizer_writes_the_prompt() -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER / "lm")
    assert tokenizer("<soh><voice_slt>hello, it's me.<eot><soa>")["input_ids"] == prompt("hello, it's me.")


def test_a_short_text_is_spoken(speaker: Speaker) -> None:
    spoken = speaker.write(["thank you very much."], seed=1)[0]
    sound = speaker.sound(spoken.audio_ids)
    assert spoken.ended
    assert 0.4 < len(sound) / 16_000 < 3.0
    assert np.abs(sound).max() > 0.02
    assert speaker.write(["thank you very much."], seed=1)[0] == spoken  # the seed decides


@pytest.mark.parametrize("sizes", [(1,), (1, 2, 4, 8), (3,), (50,)])
def test_the_shipped_codec_streams_what_it_decodes_at_once(sizes: tuple[int, ...]) -> None:
    model = load_model(FOLDER / "codec")
    frames = np.random.default_rng(1).integers(0, model.config.codebook_size, (60, model.config.codes_per_frame))
    stream = SnacCodec(model).open(StreamStart(seed=7))
    parts = [stream.push(frames[part]) for part in ChunkSchedule(sizes).slices(len(frames))]
    streamed = np.concatenate([*parts, stream.flush()])
    np.testing.assert_allclose(streamed, model.decode(frames, CounterNoise(7)), rtol=0, atol=1e-5)


def test_voice_json_says_what_the_recipe_does() -> None:
    form = load_voice()
    gains = {voice.name: voice.gain_db for voice in form.layout.prompt.voices}
    assert form == with_gains(speech_format(tuple(gains)), gains)
    text = [TOKENS[character] for character in "hello."]
    assert form.layout.prompt.build(text, voice="slt").ids == tuple(prompt("hello."))


def test_voice_json_is_read_strictly(tmp_path: Path) -> None:
    fields = json.loads((FOLDER / "voice.json").read_text())
    (tmp_path / "voice.json").write_text(json.dumps(fields | {"nonsense": 1}))
    with pytest.raises(ValueError, match="nonsense"):
        load_voice(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_voice(tmp_path / "nowhere")


def test_importing_the_package_imports_neither_torch_nor_the_recipe() -> None:
    code = "import sys, max_voices; print('torch' in sys.modules, 'max_voices.recipe' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]
