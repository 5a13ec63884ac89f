"""What a client asks of the server itself, without a server: who shares an answer, and when it is asked again."""

from __future__ import annotations

import asyncio

import pytest

from max_interfaces import Failure, FailureKind, RequestFailed
from max_interfaces.messages import Described, Report
from max_pipelines.client import questions
from max_pipelines.client.questions import Question

TIMES = 3


@pytest.fixture(autouse=True)
def insistent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a question without an answer were asked again at once."""
    monkeypatch.setattr(questions, "CHECK_S", 0.001)


class Way:
    """Where questions go: open for the first TIMES of them, then its queue is full."""

    def __init__(self) -> None:
        self.sent = 0
        self.full = asyncio.Event()

    def ask(self) -> None:
        """Send one."""
        if self.sent == TIMES:
            self.full.set()
            raise RequestFailed(Failure(FailureKind.CONNECTION_LOST, "its queue is full"))
        self.sent += 1


async def asked(question: Question[Report]) -> asyncio.Future[Report]:
    """One who waits."""
    waiting = asyncio.ensure_future(question.answer())
    await asyncio.sleep(0)
    return waiting


async def test_all_who_wait_share_one_question_and_its_answer() -> None:
    way = Way()
    question: Question[Report] = Question(way.ask)
    first, second, third = [await asked(question) for _ in "123"]
    assert way.sent == 1
    first.cancel()
    assert question.give(Report({"requests": 1}))
    assert not question.give(Report({"requests": 2}))  # nobody's
    late = await asked(question)
    assert way.sent == 2
    assert (await second).gauges == (await third).gauges == {"requests": 1}
    assert question.give(Report({"requests": 3}))
    assert (await late).gauges == {"requests": 3}


async def test_one_that_cannot_be_asked_again_may_still_be_answered() -> None:
    way = Way()
    question: Question[Report] = Question(way.ask)
    waiting = await asked(question)
    await way.full.wait()
    assert question.give(Report())
    await waiting
    with pytest.raises(RequestFailed, match="full"):  # nothing was sent, so nothing would come
        await question.answer()


@pytest.mark.parametrize("cancelled", [True, False])
async def test_what_nobody_waits_for_is_not_asked_again(cancelled: bool) -> None:
    way, fence = Way(), Way()
    question: Question[Report] = Question(way.ask)
    waiting = await asked(question)
    if cancelled:
        waiting.cancel()
    else:
        question.give(Report())
    await asyncio.wait([waiting])
    other = await asked(Question(fence.ask))
    await fence.full.wait()
    assert way.sent == 1
    other.cancel()


async def test_what_a_check_finds_is_raised_to_all_who_wait() -> None:
    way = Way()

    def check() -> None:
        raise OSError("no file left to look with")

    question: Question[Described] = Question(way.ask, check)
    for problem in await asyncio.gather(question.answer(), question.answer(), return_exceptions=True):
        assert isinstance(problem, OSError)
    assert way.sent == 1
