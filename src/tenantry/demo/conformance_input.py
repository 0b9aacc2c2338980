"""The tools of the official conformance runner that ask the client for something in the middle of a call."""

import json

from tenantry import CallContext, Elicit, Elicited, ListRoots, Sample, tool
from tenantry.jsonrpc import Object


def _form(required: tuple[str, ...] = (), **fields: Object) -> Object:
    schema: Object = {"type": "object", "properties": fields}
    return {**schema, "required": list(required)} if required else schema


TEXT: Object = {"type": "string"}
NAME_FORM = _form(("name",), name=TEXT)


def _outcome(answer: Elicited) -> str:
    return f"action={answer.action}, content={json.dumps(answer.content)}"


# --- one question


@tool
async def test_sampling(prompt: str, ctx: CallContext) -> str:
    """Ask the client's model."""
    answer = await ctx.sample(prompt, max_tokens=100)
    return f"LLM response: {answer.text}"


@tool
async def test_missing_capability(ctx: CallContext) -> str:
    """Need a client that lends its model."""
    answer = await ctx.sample("Say anything", max_tokens=10)
    return answer.text


@tool
async def test_elicitation(message: str, ctx: CallContext) -> str:
    """Ask the person for a name and an address."""
    schema = _form(
        ("username", "email"),
        username={"type": "string", "description": "User's response"},
        email={"type": "string", "description": "User's email address"},
    )
    return f"User response: {_outcome(await ctx.elicit(message, schema))}"


@tool
async def test_streaming_elicitation(ctx: CallContext) -> str:
    """Ask the person, in whichever way the client's revision has."""
    answer = await ctx.elicit("Please confirm", _form(("ok",), ok={"type": "boolean"}))
    return _outcome(answer)


# --- forms


@tool
async def test_elicitation_sep1034_defaults(ctx: CallContext) -> str:
    """Ask with a default for each plain type."""
    schema = _form(
        name={"type": "string", "description": "User name", "default": "John Doe"},
        age={"type": "integer", "description": "User age", "default": 30},
        score={"type": "number", "description": "User score", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "description": "Whether the user is verified", "default": True},
    )
    return f"Elicitation completed: {_outcome(await ctx.elicit('Review the defaults', schema))}"


def _titled(noun: str) -> list[Object]:
    words = ("First", "Second", "Third")
    return [{"const": f"value{number}", "title": f"{word} {noun}"} for number, word in enumerate(words, start=1)]


@tool
async def test_elicitation_sep1330_enums(ctx: CallContext) -> str:
    """Ask with each kind of choice."""
    plain: Object = {"type": "string", "enum": ["option1", "option2", "option3"]}
    schema = _form(
        untitledSingle=plain,
        titledSingle={"type": "string", "oneOf": _titled("Option")},
        legacyEnum={
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        untitledMulti={"type": "array", "items": plain},
        titledMulti={"type": "array", "items": {"anyOf": _titled("Choice")}},
    )
    return f"Elicitation completed: {_outcome(await ctx.elicit('Choose from each list', schema))}"


# --- questions under names of their own


@tool
async def test_input_required_result_elicitation(ctx: CallContext) -> str:
    """Ask for a name, and greet."""
    answers = await ctx.ask(user_name=Elicit(message="What is your name?", schema=NAME_FORM))
    return f"Hello, {answers['user_name'].content.get('name', 'stranger')}!"


@tool
async def test_input_required_result_sampling(ctx: CallContext) -> str:
    """Ask the client's model for a capital."""
    answers = await ctx.ask(capital_question=Sample(prompt="What is the capital of France?", max_tokens=100))
    return f"The model said: {answers['capital_question'].text}"


@tool
async def test_input_required_result_list_roots(ctx: CallContext) -> str:
    """Ask for the client's root directories."""
    answers = await ctx.ask(client_roots=ListRoots())
    return f"Roots: {', '.join(str(root.get('uri')) for root in answers['client_roots'])}"


@tool
async def test_input_required_result_request_state(ctx: CallContext) -> str:
    """Ask, and go on only with the state that came back whole."""
    confirm = Elicit(message="Please confirm", schema=_form(("ok",), ok={"type": "boolean"}))
    answers = await ctx.ask(confirm=confirm)
    return f"state-ok: {_outcome(answers['confirm'])}"


@tool
async def test_input_required_result_tampered_state(ctx: CallContext) -> str:
    """Ask, and refuse a state that somebody changed."""
    confirm = Elicit(message="Please confirm", schema=_form(("ok",), ok={"type": "boolean"}))
    answers = await ctx.ask(confirm=confirm)
    return f"The state was whole: {_outcome(answers['confirm'])}"


@tool
async def test_input_required_result_multiple_inputs(ctx: CallContext) -> str:
    """Ask for three things at once."""
    answers = await ctx.ask(
        user_name=Elicit(message="What is your name?", schema=NAME_FORM),
        greeting=Sample(prompt="Generate a greeting", max_tokens=50),
        client_roots=ListRoots(),
    )
    name = answers["user_name"].content.get("name", "stranger")
    return f"{answers['greeting'].text} {name}, {len(answers['client_roots'])} roots"


@tool
async def test_input_required_result_multi_round(ctx: CallContext) -> str:
    """Ask for two things, one after the other."""
    first = await ctx.ask(step1=Elicit(message="Step 1: What is your name?", schema=NAME_FORM))
    colour = Elicit(message="Step 2: What is your favorite color?", schema=_form(("color",), color=TEXT))
    second = await ctx.ask(step2=colour)
    return f"{first['step1'].content.get('name')} likes {second['step2'].content.get('color')}."


@tool
async def test_input_required_result_capabilities(ctx: CallContext) -> str:
    """Ask only for what the client can give."""
    questions: dict[str, Elicit | Sample | ListRoots] = {
        "sampling": Sample(prompt="Say anything", max_tokens=50),
        "elicitation": Elicit(message="What is your name?", schema=NAME_FORM),
        "roots": ListRoots(),
    }
    asked = {name: question for name, question in questions.items() if ctx.supports(name)}
    answers = await ctx.ask(**asked)
    return f"Answered: {', '.join(sorted(answers)) or 'nothing, for nothing can be asked'}"
