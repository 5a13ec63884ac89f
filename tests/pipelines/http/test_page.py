"""The page at `/`, in a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from max_pipelines.config import Config, HttpConfig
from tests.pipelines.http.chromium import CHROMIUM, PATIENCE_S, Page, browsing
from tests.pipelines.http.facing import Facing, facing, trivial

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Debian's package chromium")

HEAR = """
window.heard = [];
const create = AudioContext.prototype.createBufferSource;
AudioContext.prototype.createBufferSource = function () {
  const source = create.call(this);
  const start = source.start;
  source.start = (when) => {
    const samples = source.buffer.getChannelData(0);
    const loudest = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    heard.push({ when, seconds: source.buffer.duration, loudest });
    start.call(source, when);
  };
  return source;
};
"""
INK = """(() => {
  const { data } = wave.getContext("2d").getImageData(0, 0, wave.width, wave.height);
  let ink = 0;
  for (let i = 3; i < data.length; i += 4) ink += data[i] > 0;
  return ink;
})()"""


@pytest.fixture
async def voice(tiny_voice: Config) -> AsyncIterator[Facing]:
    async with facing(tiny_voice) as served:
        yield served


@pytest.fixture
async def page(tmp_path: Path, voice: Facing) -> AsyncIterator[Page]:
    async with browsing(tmp_path / "browser", before=HEAR) as page:
        await page.go(voice.url)
        await page.until("document.getElementById('voice')")
        yield page
        assert not page.errors


async def test_it_speaks_draws_and_says_how_fast(page: Page, tmp_path: Path) -> None:
    await page.tell("text.value = 'One two three four five six seven eight.'; seed.value = 7; speak.click()")
    await page.until("heard.length")
    await page.until("!download.hidden")
    assert await page.tell("heard.every(({ loudest }) => loudest > 0)")
    gaps = "heard.slice(1).map((piece, i) => piece.when - heard[i].when - heard[i].seconds)"
    assert await page.tell(f"{gaps}.every((gap) => Math.abs(gap) < 1e-6)") or await page.tell("said.textContent")
    assert await page.tell(INK) > 2000
    assert (await page.tell("first.textContent")).endswith(" ms")
    assert float(await page.tell("factor.textContent")) > 0
    assert int((await page.tell("download.textContent")).split("(")[1].split()[0]) > 10
    await page.picture(tmp_path / "spoken.png")
    assert (tmp_path / "spoken.png").stat().st_size > 5_000


async def test_the_keyboard_is_enough(page: Page) -> None:
    await page.tell("document.getElementById('seed').focus()")
    await page.press("Enter")
    await page.until("heard.length")
    await page.tell("document.getElementById('tab-speech').focus()")
    await page.press("ArrowRight")
    assert await page.tell("document.getElementById('speech').hidden && !document.getElementById('chat').hidden")
    assert "No text model" in await page.tell("document.getElementById('chat').innerText")
    await page.press("ArrowRight")
    assert await page.tell("document.getElementById('chat').hidden && !document.getElementById('server').hidden")
    await page.until("workers.rows.length === 1")
    assert await page.tell("workers.rows[0].cells[1].textContent") == "works"
    await page.press("ArrowRight")
    assert not await page.tell("document.getElementById('speech').hidden")


async def test_stop_ends_the_sound_and_the_work(tmp_path: Path) -> None:
    async with facing(trivial(chunks=20_000, samples=240)) as served, browsing(tmp_path / "b", before=HEAR) as page:
        await page.go(served.url)
        await page.tell("speak.click()")
        await page.until("heard.length > 3 && !stop.disabled")
        await page.tell("document.getElementById('stop').click()")
        await page.until("said.textContent === 'Stopped.'")
        assert await page.tell("document.getElementById('stop').disabled")
        async with asyncio.timeout(PATIENCE_S):
            while (await served.gauges())["requests"]:
                await asyncio.sleep(0.01)
        assert not page.errors


async def test_it_asks_for_a_key_where_one_is_needed(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("right\n")
    keys.chmod(0o600)
    async with facing(trivial(), HttpConfig(keys=str(keys))) as served, browsing(tmp_path / "b", before=HEAR) as page:
        await page.go(served.url)
        await page.until("!document.querySelector('.key').hidden")
        await page.tell("key.value = 'right'; speak.click()")
        await page.until("heard.length")
