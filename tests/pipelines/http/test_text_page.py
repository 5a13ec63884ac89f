"""The page's tab for text, in a real browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.pipelines.http.chromium import CHROMIUM, PATIENCE_S, Page, browsing
from tests.pipelines.http.facing import Facing, facing
from tests.pipelines.http.parrot import FAILS, FOR_EVER, parrot
from tests.tiny_text import make_tiny_text

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),  # one browser for all
    pytest.mark.skipif(not CHROMIUM, reason="needs Debian's package chromium"),
]

WATCH = """
window.at = (id) => document.getElementById(id);
window.sent = [];
const plain = window.fetch;
window.fetch = async (path, options) => {
  if (options?.body) sent.push({ path, ...JSON.parse(options.body) });
  const answer = await plain(path, options);
  return window.slow ? new Response(answer.body.pipeThrough(slowly()), answer) : answer;
};
const slowly = () => new TransformStream({
  async transform(chunk, to) {
    for (let cut = 0; cut < chunk.length; cut += 100) {  // less than an event
      to.enqueue(chunk.slice(cut, cut + 100));
      await new Promise(requestAnimationFrame);
    }
  },
});
window.copied = [];
navigator.clipboard.writeText = async (text) => { copied.push(text); };
window.lengths = [];
document.addEventListener("DOMContentLoaded", () => {
  const look = () => lengths.push(document.querySelector("#turns article:nth-child(2) > p")?.textContent.length ?? 0);
  new MutationObserver(look).observe(at("turns"), { subtree: true, childList: true, characterData: true });
});
"""
DONE = "!at('send').disabled"
WORDS = "[...document.querySelectorAll('#turns article > p')].map((said) => said.textContent)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    async with browsing(tmp_path_factory.mktemp("browser"), before=WATCH) as page:
        yield page


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Page) -> AsyncIterator[Page]:
    browser.errors.clear()
    yield browser
    assert not browser.errors


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def parroting() -> AsyncIterator[Facing]:
    async with parrot() as face:
        yield face


async def opened(page: Page, served: Facing) -> None:
    """The page, with its tab for text before us, as it comes."""
    await page.go(served.url)
    await page.until("!at('chat').hidden")


async def say(page: Page, text: str) -> None:
    """Write something and send it, by the keyboard."""
    await page.tell("at('question').focus()")
    await page.write(text)
    await page.press("Enter")


async def said(page: Page) -> Any:
    """All that was said, from the beginning."""
    return await page.tell(WORDS)


async def test_a_conversation_streams_in(page: Page, tmp_path: Path) -> None:
    async with facing(make_tiny_text(tmp_path, transport="thread")) as served:
        await opened(page, served)
        assert await page.tell("at('tab-text').ariaSelected") == "true"
        assert await page.tell("at('speech').querySelector('.work').hidden")
        await page.tell("at('most').value = 60; at('temperature').value = 0.5; at('text-seed').value = 7")
        await page.tell("at('system').value = 'Be brief.'; window.slow = true")  # or it might come within one frame
        await say(page, "the quick")
        await page.until(f"sent.length && {DONE}")
        first = await said(page)
        assert first[0] == "the quick"
        lengths = await page.tell("lengths")
        assert len(set(lengths)) > 5
        assert lengths == sorted(lengths)
        await say(page, "brown fox")
        await page.until(f"sent.length > 1 && {DONE}")
        asked = await page.tell("sent")
    assert {(each["path"], each["stream"], each["seed"]) for each in asked} == {("v1/chat/completions", True, 7)}
    assert {(each["temperature"], each["max_tokens"]) for each in asked} == {(0.5, 60)}
    assert [(each["role"], each["content"]) for each in asked[1]["messages"]] == [
        ("system", "Be brief."),
        ("user", "the quick"),
        ("assistant", first[1]),
        ("user", "brown fox"),
    ]
    assert (await page.tell("at('first-token').textContent")).endswith(" ms")
    assert float((await page.tell("at('pace').textContent")).removesuffix(" /s")) > 0
    assert await page.tell("at('tokens').textContent") == "60"
    assert "cut off" in await page.tell("at('written').textContent")
    await page.picture(tmp_path / "written.png")
    assert (tmp_path / "written.png").stat().st_size > 5_000


async def test_what_it_says_is_text_and_what_it_thinks_stands_apart(page: Page, parroting: Facing) -> None:
    await opened(page, parroting)
    await say(page, "<think>Well, well.</think><b>bold</b>")
    await page.until(f"sent.length && {DONE}")
    assert (await said(page))[1] == "<b>bold</b>"
    assert await page.tell("document.querySelectorAll('#turns b').length") == 0
    thoughts = "[...document.querySelectorAll('#turns details:not([hidden]) p')].map((said) => said.textContent)"
    assert await page.tell(thoughts) == ["Well, well."]
    assert not await page.tell("document.querySelector('#turns details:not([hidden])').open")
    await page.tell("document.querySelector('#turns .copy').click()")
    assert await page.tell("copied") == ["<b>bold</b>"]
    await page.tell("at('clear').click()")
    assert await page.tell("at('turns').childElementCount") == 0
    await say(page, "again")
    await page.until(f"sent.length > 1 && {DONE}")
    assert await page.tell("sent[1].messages.length") == 1


@pytest.mark.parametrize("stops", ["Escape", "the button"])
async def test_stop_ends_the_text_and_the_work(stops: str, page: Page, parroting: Facing) -> None:
    await opened(page, parroting)
    await page.tell("at('question').value = 'on and on" + FOR_EVER + "'; at('send').focus()")
    await page.press("Enter")
    await page.until("new Set(lengths).size > 5")
    assert await page.tell("document.activeElement.id") == "halt"
    assert (await parroting.gauges())["requests"] == 1
    await page.press("Escape" if stops == "Escape" else "Enter")
    await page.until("at('written').textContent === 'Stopped.'")
    assert await page.tell("[at('halt').disabled, at('send').disabled, document.activeElement.id]") == [
        *(True, False),
        "question",
    ]
    async with asyncio.timeout(PATIENCE_S):
        while (await parroting.gauges())["requests"]:
            await asyncio.sleep(0.01)
    assert (await said(page))[1].startswith("on and on")


async def test_an_answer_that_fails_says_why(page: Page, parroting: Facing) -> None:
    await opened(page, parroting)
    await say(page, "a long text that fails at its end" + FAILS)
    await page.until(f"sent.length && {DONE}")
    assert await page.tell("at('written').textContent") == "it has failed"
    assert (await said(page))[1].startswith("a long text")
    await page.tell("at('most').value = -1")
    await say(page, "more")
    assert await page.tell("sent.length") == 1  # the form says what is wrong with it
    await page.tell("at('most').value = 1e12")
    await page.press("Enter")
    await page.until(f"sent.length > 1 && {DONE}")
    assert "max_tokens" in await page.tell("at('written').textContent")
    assert await page.tell("at('question').value") == "more"  # nothing has come of it
    assert len(await said(page)) == 2
    (refused,) = page.errors
    assert "422" in refused
    page.errors.clear()


async def test_a_model_without_a_chat_template_goes_on_with_the_text(page: Page, tmp_path: Path) -> None:
    config = make_tiny_text(tmp_path, transport="thread")
    (tmp_path / "chat_template.jinja").unlink()
    async with facing(config) as served:
        await opened(page, served)
        await page.tell("at('most').value = 12; at('temperature').value = 0")
        await say(page, "the quick")
        await page.until(f"sent.length > 1 && {DONE}")
        whole = await served.post("/generate", {"inputs": "the quick", "parameters": {"max_new_tokens": 12}})
        await say(page, "fox")
        await page.until(f"sent.length > 2 && {DONE}")
    assert (await said(page))[1] == whole.json()["generated_text"]
    assert await page.tell("sent.map(({ path }) => path)") == ["v1/chat/completions", *["generate_stream"] * 2]
    assert await page.tell("sent[2].inputs") == f"the quick\n{(await said(page))[1]}\nfox"
    assert "no chat template" in await page.tell("at('hint').textContent")
    assert await page.tell("at('tokens').textContent") == "12"
    (refused,) = page.errors  # the browser's own line for the status by which the page learnt it
    assert "422" in refused
    page.errors.clear()
