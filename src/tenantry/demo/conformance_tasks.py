"""The tools of the official conformance runner's scenarios for tasks."""

import trio
import trio.lowlevel

from tenantry import CallContext, Elicit, ToolError, tool
from tenantry.jsonrpc import Code, Object, RemoteProtocolError

CONFIRM: Object = {"type": "object", "properties": {"confirm": {"type": "boolean"}}, "required": ["confirm"]}
NAME: Object = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@tool
async def greet(name: str = "stranger") -> str:
    """Greet somebody, at once."""
    return f"Hello, {name}!"


@tool(task="optional")
async def slow_compute(seconds: float = 1, label: str = "") -> str:
    """Sleep, then say so."""
    await trio.sleep(seconds)
    return f"Computed {label} in {seconds:g} s"


@tool(task="required")
async def failing_job() -> str:
    """Fail after a second, as tools do."""
    await trio.sleep(1)
    raise ToolError("This job always fails")


@tool(task="optional")
async def protocol_error_job() -> str:
    """Fail in the protocol's way, without a result."""
    await trio.lowlevel.checkpoint()
    raise RemoteProtocolError(Code.INTERNAL_ERROR, "This job ends in a protocol error")


@tool(task="optional")
async def confirm_delete(filename: str, ctx: CallContext) -> str:
    """Ask before a file is deleted; no file is touched."""
    answers = await ctx.ask(confirm=Elicit(message=f"Delete {filename}?", schema=CONFIRM))
    answer = answers["confirm"]
    return f"{'Deleted' if answer.accepted and answer.content.get('confirm') else 'Kept'} {filename}"


@tool(task="optional")
async def multi_input(ctx: CallContext) -> str:
    """Ask two things at once."""
    answers = await ctx.ask(
        name=Elicit(message="What is your name?", schema=NAME),
        confirm=Elicit(message="Are you sure?", schema=CONFIRM),
    )
    return f"name: {answers['name'].action}, confirm: {answers['confirm'].action}"


@tool(task="after_asking")
async def test_tool_with_task(ctx: CallContext) -> str:
    """Ask for a name, then work for a while as a task."""
    answers = await ctx.ask(user_name=Elicit(message="What is your name?", schema=NAME))
    await ctx.background()
    await trio.sleep(0.1)
    return f"Done for {answers['user_name'].content.get('name', 'nobody')}"
