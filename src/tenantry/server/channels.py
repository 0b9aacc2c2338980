"""The way from a running call to its client, one class for each way of asking; the author of a tool sees none."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import trio

from tenantry.identity import Principal
from tenantry.jsonrpc import Id, Object
from tenantry.mcp import interaction
from tenantry.mcp.context import LEVELS
from tenantry.mcp.interaction import Background, BadAnswer, CannotAsk, Elicit, InputRequired, Question
from tenantry.mcp.revisions import Revision
from tenantry.server.changes import Changes
from tenantry.server.cut import Cut
from tenantry.server.inbox import Inbox
from tenantry.server.request_stream import RequestStream

# A person may take their time over a form; the call's own deadline stands still meanwhile.
ANSWER_TIMEOUT_S = 600.0


@dataclass(slots=True, kw_only=True)  # each call makes one, and freezing doubles what that takes
class Line:
    """What a channel is made of: who is at the other end, and how they are reached."""

    principal: Principal
    changes: Changes
    stream: RequestStream | None
    capabilities: Object
    progress_token: Id | None = None
    log_level: str | None = None


def progress_token(meta: object) -> Id | None:
    """The token that a request's `_meta` gives for `notifications/progress`; None for what is no token."""
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    return token if isinstance(token, (int, str)) and not isinstance(token, bool) else None


class Channel:
    """What all ways have in common: progress, log messages and changes; this one can't ask."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @property
    def capabilities(self) -> Object:
        """What the client says that it can do."""
        return self._line.capabilities

    async def ask(self, questions: dict[str, Question]) -> dict[str, Any]:
        """There is no way back from this client: raises `CannotAsk`."""
        raise CannotAsk({name: {} for question in questions.values() for name in question.needs()})

    async def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Send `notifications/progress`, where the client gave a token for it."""
        line = self._line
        if line.stream is None or line.progress_token is None:
            await trio.lowlevel.checkpoint()
            return
        params: Object = {"progressToken": line.progress_token, "progress": progress}
        if total is not None:
            params["total"] = total
        if message is not None:
            params["message"] = message
        await line.stream.send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

    def log(self, level: str, data: object, logger: str | None) -> None:
        """Queue `notifications/message`, where the client wants that level."""
        line = self._line
        if line.stream is None or line.log_level is None or LEVELS.index(level) < LEVELS.index(line.log_level):
            return
        params: Object = {"level": level, "data": data}
        if logger is not None:
            params["logger"] = logger
        line.stream.post({"jsonrpc": "2.0", "method": "notifications/message", "params": params})

    async def release(self) -> None:
        """End the connection and not the call, where the client's revision can come back for the rest."""
        if self._line.stream is not None:
            await self._line.stream.release()

    async def background(self) -> None:
        """Nothing: only a modern client's call can go on as a task."""
        await trio.lowlevel.checkpoint()

    def changed(self, kind: str) -> None:
        """Tell the tenant of a changed list; `kind` is `tools`, `resources` or `prompts`."""
        self._line.changes.list_changed(kind.removesuffix("s"), self._line.principal.tenant)

    def updated(self, uri: str) -> None:
        """Tell the tenant of a changed resource."""
        self._line.changes.updated(uri, self._line.principal.tenant)

    def _require(self, questions: Mapping[str, Question]) -> None:
        missing = interaction.unsupported(questions, self.capabilities)
        if missing:
            raise CannotAsk(missing)


class LegacyChannel(Channel):
    """Asks by a request on the call's stream, and waits for the response that the client posts."""

    def __init__(self, line: Line, *, inbox: Inbox, session: bytes, revision: Revision, cut: Cut) -> None:
        super().__init__(line)
        self._inbox = inbox
        self._session = session
        self._revision = revision
        self._cut = cut

    async def ask(self, questions: dict[str, Question]) -> dict[str, Any]:
        """Ask one after the other; raises `CannotAsk` and `BadAnswer`."""
        self._require(questions)
        if not self._revision.selects_many and any(
            isinstance(question, Elicit) and question.selects_many for question in questions.values()
        ):
            raise CannotAsk({"elicitation": {}})
        await self._inbox.opened(self._session)
        return {key: question.answer(await self._request(question)) for key, question in questions.items()}

    async def _request(self, question: Question) -> Object:
        if self._line.stream is None:
            raise CannotAsk(question.needs())
        with self._inbox.expect(self._session) as waiting, _paused(self._cut.scope):
            await self._line.stream.send(
                {
                    "jsonrpc": "2.0",
                    "id": waiting.id,
                    "method": question.method,
                    "params": question.params(mode=self._revision.modes_of_elicitation),
                }
            )
            with trio.move_on_after(ANSWER_TIMEOUT_S):
                return await waiting.result()
        raise BadAnswer("the client did not answer in time")


class ModernChannel(Channel):
    """Asks by ending the call: what is asked is answered when the client sends the call again."""

    def __init__(self, line: Line, *, answers: Mapping[str, Object], becomes_task: bool) -> None:
        """`becomes_task` says whether `background` ends this run, for a task to begin."""
        super().__init__(line)
        self._answers = answers
        self._becomes_task = becomes_task

    async def background(self) -> None:
        """Raise `Background` where a task is to begin."""
        await trio.lowlevel.checkpoint()
        if self._becomes_task:
            raise Background

    async def ask(self, questions: dict[str, Question]) -> dict[str, Any]:
        """Give the answers that came with the call; raises `InputRequired` for those that did not."""
        await trio.lowlevel.checkpoint()
        self._require(questions)
        missing = {key: question for key, question in questions.items() if key not in self._answers}
        if missing:
            raise InputRequired(missing)
        return {key: question.answer(self._answers[key]) for key, question in questions.items()}


class TaskChannel(Channel):
    """Asks by the task's own state, and waits for `tasks/update`."""

    def __init__(
        self,
        line: Line,
        *,
        park: Callable[[dict[str, Question]], Awaitable[dict[str, Object]]],
        answers: Mapping[str, Object],
    ) -> None:
        super().__init__(line)
        self._park = park
        self._answers = answers

    async def ask(self, questions: dict[str, Question]) -> dict[str, Any]:
        """Park the task until all is answered; raises `CannotAsk` and `BadAnswer`."""
        self._require(questions)
        open_questions = {key: question for key, question in questions.items() if key not in self._answers}
        answers = {**self._answers, **(await self._park(open_questions) if open_questions else {})}
        return {key: question.answer(answers[key]) for key, question in questions.items()}


class _paused:  # noqa: N801  # a context manager, used as one
    """A deadline that stands still inside of the block."""

    def __init__(self, scope: trio.CancelScope | None) -> None:
        self._scope = scope
        self._left = 0.0

    def __enter__(self) -> None:
        if self._scope is not None:
            self._left = self._scope.deadline - trio.current_time()
            self._scope.deadline = float("inf")

    def __exit__(self, *_: object) -> None:
        if self._scope is not None:
            self._scope.deadline = trio.current_time() + self._left
