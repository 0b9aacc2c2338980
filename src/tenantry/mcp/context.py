"""What a tool, prompt or resource may do while it runs: one face towards its author, whatever the client speaks."""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import BaseModel

from tenantry.identity import Principal
from tenantry.jsonrpc import Object
from tenantry.mcp.interaction import Elicit, Elicited, ElicitUrl, ListRoots, Question, Sample, Sampled

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


class Channel(Protocol):
    """The way to the client of one call; each era has its own."""

    @property
    def capabilities(self) -> Object:
        """What the client has declared."""

    def ask(self, questions: dict[str, Question]) -> Awaitable[dict[str, Any]]:
        """Give the answer to every question; raises `CannotAsk`, `BadAnswer` or `InputRequired`."""

    def progress(self, progress: float, total: float | None, message: str | None) -> Awaitable[None]:
        """Tell how far the call is, where the client asked for it."""

    def log(self, level: str, data: object, logger: str | None) -> None:
        """Send a log message, where the client asked for that level."""

    def release(self) -> Awaitable[None]:
        """Let the client go and come back later for the rest, where it can."""

    def background(self) -> Awaitable[None]:
        """Go on as a task where the call waits for that; raises `Background`."""

    def changed(self, kind: str) -> None:
        """Tell those of the caller's tenant who listen that a list has changed."""

    def updated(self, uri: str) -> None:
        """Tell those of the caller's tenant who have subscribed that a resource has changed."""


@dataclass(slots=True, kw_only=True)
class CallContext:
    """The caller, and the way to them; a function receives it in the parameter annotated with this type.

    What is asked may lead to the function being begun anew with the answers: ask before you act.
    """

    principal: Principal
    channel: Channel
    _asked: int = field(default=0, init=False)

    @property
    def tenant(self) -> str:
        """The caller's tenant: whatever a tool reads or changes must stay inside it."""
        return self.principal.tenant

    @property
    def subject(self) -> str:
        """The person on whose behalf the call is made."""
        return self.principal.subject

    def supports(self, capability: str) -> bool:
        """Whether the client has declared that capability, such as `sampling`."""
        return capability in self.channel.capabilities

    def elicit(self, message: str, schema: Object | type[BaseModel]) -> Awaitable[Elicited]:
        """Ask the person to fill in a form of plain fields; raises `CannotAsk` where the client has none."""
        return self._ask(Elicit(message=message, schema=schema))

    def elicit_url(self, message: str, url: str) -> Awaitable[Elicited]:
        """Ask the person to go to a URL; raises `CannotAsk` where the client can't."""
        return self._ask(ElicitUrl(message=message, url=url, elicitation_id=f"elicitation-{self._asked + 1}"))

    def sample(self, prompt: str, *, max_tokens: int = 1000, system_prompt: str | None = None) -> Awaitable[Sampled]:
        """Ask the client's model; raises `CannotAsk` where the client lends none."""
        return self._ask(Sample(prompt=prompt, max_tokens=max_tokens, system_prompt=system_prompt))

    def list_roots(self) -> Awaitable[list[Object]]:
        """Ask for the client's root directories; raises `CannotAsk` where it has none."""
        return self._ask(ListRoots())

    def ask(self, **questions: Question) -> Awaitable[dict[str, Any]]:
        """Ask several things at once; the answers come back under the same names."""
        return self.channel.ask(questions)

    def progress(self, progress: float, total: float | None = None, message: str | None = None) -> Awaitable[None]:
        """Tell how far the call is; each value must be greater than the one before."""
        return self.channel.progress(progress, total, message)

    def log(self, level: str, data: object, logger: str | None = None) -> None:
        """Send a log message to the client; `level` is one of syslog's eight names. Raises ValueError for another."""
        if level not in LEVELS:
            raise ValueError(f"{level!r} is no log level")
        self.channel.log(level, data, logger)

    def release(self) -> Awaitable[None]:
        """Let the client go in the middle of a long call; it comes back for the result where its revision can."""
        return self.channel.release()

    def background(self) -> Awaitable[None]:
        """Go on as a task from here, in a tool of `task="after_asking"`; elsewhere nothing happens.

        What was asked before is asked while the client waits; the function is then begun anew with the answers.
        """
        return self.channel.background()

    def changed(self, kind: str) -> None:
        """Say that the tenant's list of `tools`, `prompts` or `resources` has changed."""
        self.channel.changed(kind)

    def updated(self, uri: str) -> None:
        """Say that a resource of the tenant has changed."""
        self.channel.updated(uri)

    def _ask(self, question: Question) -> Awaitable[Any]:
        # Numbered in the order of asking: a run that is begun anew asks the same under the same key.
        self._asked += 1
        key = f"{question.method.split('/')[0]}-{self._asked}"
        return _one(self.channel.ask({key: question}), key)


class _one:  # noqa: N801  # an awaitable without `async def`: this module only hands on
    def __init__(self, answers: Awaitable[dict[str, Any]], key: str) -> None:
        self._answers = answers
        self._key = key

    def __await__(self) -> Any:  # noqa: ANN401
        answers = yield from self._answers.__await__()
        return answers[self._key]
