"""What is asked of the server itself: what it serves, and how it is."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeAlias, TypeVar

from max_interfaces import Failure, FailureKind, RequestFailed, StartFailed
from max_interfaces.lora import LoRARequest
from max_interfaces.messages import Adapt, Adapted, Describe, Described, Inspect, ModelInfo, Report

CHECK_S = 0.5  # how often a question without an answer is asked again; it costs the server next to nothing
REPORT_S = 5.0  # what a server gets to say how it is
ADAPT_S = 300.0  # … and to have all its workers load an adapter, one after the other where they share a disk

Asked: TypeAlias = Describe | Inspect | Adapt
Answer: TypeAlias = Described | Report | Adapted
AnswerT = TypeVar("AnswerT", Described, Report, Adapted)


class Question(Generic[AnswerT]):
    """One question for all who wait, asked again each CHECK_S while one of them does: it or its answer may be lost.

    `ask` sends it. `check` is called before it is sent again, and may raise why no answer will come.
    """

    def __init__(self, ask: Callable[[], None], check: Callable[[], None] | None = None) -> None:
        self._ask = ask
        self._check = check
        self._waiters: set[asyncio.Future[AnswerT]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def answer(self) -> AnswerT:
        """The next answer. Raises what `ask` does the first time, what `check` does, and what `fail` is given."""
        if not self._waiters:  # else it has been asked, and the answer is everybody's
            self._ask()
            self._ask_later()
        waiter: asyncio.Future[AnswerT] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)
            if not self._waiters:
                self._stop()

    def give(self, answer: AnswerT) -> bool:
        """Answer all who wait. False if nobody does."""
        waiters = self._release()
        for waiter in waiters:
            waiter.set_result(answer)
        return bool(waiters)

    def fail(self, problem: Exception) -> None:
        """No answer will come."""
        for waiter in self._release():
            waiter.set_exception(problem)

    def _release(self) -> list[asyncio.Future[AnswerT]]:
        """Those who wait; whoever comes after them asks anew."""
        waiters = [waiter for waiter in self._waiters if not waiter.done()]  # done: cancelled, but not yet awake
        self._waiters.clear()
        self._stop()
        return waiters

    def _ask_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(CHECK_S, self._ask_again)

    def _ask_again(self) -> None:
        try:
            if self._check is not None:
                self._check()
            with contextlib.suppress(RequestFailed):  # what was sent before may still be answered
                self._ask()
        except Exception as problem:  # it concerns those who wait, not the loop
            self.fail(problem)
        else:
            self._ask_later()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Questions:
    """All that one client asks. `send` and `check` are as in `Question`; only while the server starts it is checked."""

    def __init__(self, send: Callable[[Asked], None], check: Callable[[], None]) -> None:
        self._send = send
        self._adapted: dict[int, Question[Adapted]] = {}  # each is one of its own, by its number
        self._numbers = itertools.count(1)
        self._described: Question[Described] = Question(partial(send, Describe()), check)
        self._reported: Question[Report] = Question(partial(send, Inspect()))

    async def models(self) -> tuple[ModelInfo, ...]:
        """What is served, once it is ready. StartFailed if it will not be; what `check` raises."""
        described = await self._described.answer()
        if described.problem:
            raise StartFailed(described.problem)
        return described.models

    async def report(self) -> Report:
        """How the server is. RequestFailed if it cannot be asked, or does not answer within REPORT_S."""
        return await _within(REPORT_S, self._reported)

    async def adapt(self, request: LoRARequest, model: str) -> Adapted:
        """What became of an adapter. RequestFailed if nobody can be asked, or answers within ADAPT_S."""
        serial = next(self._numbers)
        adapt = Adapt(serial, model, request.operation, request.lora_name, request.lora_path or "")
        question: Question[Adapted] = Question(partial(self._send, adapt))
        self._adapted[serial] = question
        try:
            return await _within(ADAPT_S, question)
        finally:
            del self._adapted[serial]

    def take(self, answer: Answer) -> bool:
        """An answer came. False if nobody waits for it."""
        if isinstance(answer, Report):
            return self._reported.give(answer)
        if isinstance(answer, Described):
            return self._described.give(answer)
        question = self._adapted.get(answer.serial)
        return question is not None and question.give(answer)

    def fail_all(self, why: str) -> None:
        """Nothing more will come for anybody."""
        self._described.fail(StartFailed(why))
        lost = RequestFailed(Failure(FailureKind.CONNECTION_LOST, why))
        self._reported.fail(lost)
        for question in self._adapted.values():
            question.fail(lost)


async def _within(seconds: float, question: Question[AnswerT]) -> AnswerT:
    try:
        async with asyncio.timeout(seconds):
            return await question.answer()
    except TimeoutError:
        text = f"the server has not answered for {seconds:g} s"
        raise RequestFailed(Failure(FailureKind.CONNECTION_LOST, text)) from None
