"""What a server asks of its client in the middle of a call: values, for every era the same.

A legacy client gets each question as a request on the call's stream; a modern one gets all of them in an
`InputRequiredResult` and sends the call again with the answers; a task waits for `tasks/update`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jsonschema_rs
from pydantic import BaseModel

from tenantry.jsonrpc import Object

ACTIONS = ("accept", "decline", "cancel")
MAX_PROBLEM_LENGTH = 300
_FORMS: Object = {"form": {}}
_BLOCK_TYPES = ("text", "image", "audio", "tool_use", "tool_result")


class BadAnswer(Exception):
    """What the client answered is no answer to what it was asked."""


class CannotAsk(Exception):
    """The client can't be asked: it did not declare the capability, or there is no way back to it."""

    def __init__(self, needed: Object) -> None:
        super().__init__(f"the client does not support {', '.join(needed)}")
        self.needed = needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Elicited:
    """A person's answer."""

    action: Literal["accept", "decline", "cancel"]
    content: Object = field(default_factory=dict)
    """The filled-in form, only where `action` is `accept`."""

    @property
    def accepted(self) -> bool:
        """Whether the person filled the form in."""
        return self.action == "accept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Elicit:
    """Ask the person to fill in a form (MCP, elicitation)."""

    message: str
    schema: Object | type[BaseModel]
    """A flat object schema, or a pydantic model of plain fields."""
    method = "elicitation/create"

    def params(self, *, mode: bool) -> Object:
        """The request's parameters; `mode` where the revision names it."""
        return {**({"mode": "form"} if mode else {}), "message": self.message, "requestedSchema": self._schema}

    def needs(self) -> Object:
        """The client capability without which the question must not be sent."""
        return {"elicitation": {"form": {}}}

    def answer(self, result: Object) -> Elicited:
        """Read the client's result; raises `BadAnswer`, also where a form that was sent does not fit its schema."""
        action, content = result.get("action"), result.get("content", {})
        if action not in ACTIONS or not isinstance(content, dict):
            raise BadAnswer("an elicitation is answered with an action and an object")
        if action != "accept":
            return Elicited(action=action)
        problem = next(jsonschema_rs.Draft202012Validator(self._schema).iter_errors(content), None)
        if problem is not None:
            raise BadAnswer(f"the form does not fit: {problem.message[:MAX_PROBLEM_LENGTH]}")
        return Elicited(action=action, content=content)

    @property
    def selects_many(self) -> bool:
        """Whether a field takes several values, which older revisions have not."""
        fields = self._schema.get("properties", {}).values()
        return any(isinstance(item, dict) and item.get("type") == "array" for item in fields)

    @property
    def _schema(self) -> Object:
        return self.schema if isinstance(self.schema, dict) else _plain_schema(self.schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class ElicitUrl:
    """Ask the person to do something at a URL, out of the client's sight (MCP 2025-11-25, elicitation)."""

    message: str
    url: str
    elicitation_id: str
    method = "elicitation/create"

    def params(self, *, mode: bool) -> Object:  # noqa: ARG002  # the same in every revision that has it
        """The request's parameters."""
        return {"mode": "url", "message": self.message, "url": self.url, "elicitationId": self.elicitation_id}

    def needs(self) -> Object:
        """The client capability without which the question must not be sent."""
        return {"elicitation": {"url": {}}}

    def answer(self, result: Object) -> Elicited:
        """Read the client's result; raises `BadAnswer`."""
        if result.get("action") not in ACTIONS:
            raise BadAnswer("an elicitation is answered with an action")
        return Elicited(action=result["action"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What the client's model said."""

    text: str
    body: Object
    """The client's whole result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Ask the client's model (MCP, sampling)."""

    prompt: str
    max_tokens: int = 1000
    system_prompt: str | None = None
    method = "sampling/createMessage"

    def params(self, *, mode: bool) -> Object:  # noqa: ARG002  # the same in every revision
        """The request's parameters."""
        body: Object = {
            "messages": [{"role": "user", "content": {"type": "text", "text": self.prompt}}],
            "maxTokens": self.max_tokens,
        }
        return body if self.system_prompt is None else {**body, "systemPrompt": self.system_prompt}

    def needs(self) -> Object:
        """The client capability without which the question must not be sent."""
        return {"sampling": {}}

    def answer(self, result: Object) -> Sampled:
        """Read the client's result; raises `BadAnswer`."""
        content = result.get("content")
        blocks: list[Any] = content if isinstance(content, list) else [content]
        if result.get("role") not in ("assistant", "user") or not all(map(_is_block, blocks)):
            raise BadAnswer("a sampling request is answered with a message of content blocks")
        return Sampled(text="".join(block.get("text", "") for block in blocks), body=result)


@dataclass(frozen=True, slots=True)
class ListRoots:
    """Ask for the client's root directories (MCP, roots)."""

    method = "roots/list"

    def params(self, *, mode: bool) -> Object:  # noqa: ARG002  # the same in every revision
        """The request's parameters."""
        return {}

    def needs(self) -> Object:
        """The client capability without which the question must not be sent."""
        return {"roots": {}}

    def answer(self, result: Object) -> list[Object]:
        """Read the client's result; raises `BadAnswer`."""
        roots = result.get("roots")
        if not isinstance(roots, list) or not all(isinstance(root, dict) for root in roots):
            raise BadAnswer("roots are answered with a list")
        return roots


Question = Elicit | ElicitUrl | Sample | ListRoots
Questions = Mapping[str, Question]
"""Questions by the key that their answers come back under."""


class InputRequired(BaseException):
    """A call can't go on without answers: ends its run, to be begun again when they are there.

    No `Exception`, because a tool that catches those must not catch this.
    """

    def __init__(self, questions: Questions) -> None:
        super().__init__("input required")
        self.questions = questions


class Background(BaseException):
    """A call has asked all that it must know, and can go on as a task; no `Exception`, for the same reason."""


def unsupported(questions: Questions, capabilities: Object) -> Object:
    """Those needed capabilities that the client has not declared; empty where all may be asked."""
    missing: Object = {}
    for question in questions.values():
        for name, features in question.needs().items():
            declared = capabilities.get(name)
            if not isinstance(declared, dict):
                missing.setdefault(name, {})
            # An empty elicitation capability means forms alone (MCP 2025-11-25, elicitation, capabilities).
            elif any(feature not in (declared or _FORMS) for feature in features):
                missing[name] = {**missing.get(name, {}), **features}
    return missing


def requests(questions: Questions) -> dict[str, Object]:
    """The questions as an `inputRequests` map (2026-07-28, multi round-trip requests)."""
    return {
        key: {"method": question.method, "params": question.params(mode=True)} for key, question in questions.items()
    }


def answers_of(params: Object) -> dict[str, Object]:
    """The `inputResponses` of a request, {} where it has none; raises `BadAnswer` where they are no map of objects."""
    answers = params.get("inputResponses", {})
    if not isinstance(answers, dict) or not all(isinstance(answer, dict) for answer in answers.values()):
        raise BadAnswer("inputResponses is an object of objects")
    return answers


def _is_block(block: object) -> bool:
    if not isinstance(block, dict) or block.get("type") not in _BLOCK_TYPES:
        return False
    return block["type"] != "text" or isinstance(block.get("text"), str)


def _plain_schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    schema.pop("title", None)
    schema.pop("description", None)
    return schema
