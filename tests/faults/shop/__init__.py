"""The tools of the server under load: each ends in another way."""

import trio

from tenantry import CallContext, ToolError, tool


@tool
async def quick(text: str) -> str:
    """Answer at once."""
    return text


@tool
async def wrong(text: str) -> str:
    """Fail."""
    raise ToolError(f"no {text}")


@tool
async def talk(text: str, ctx: CallContext) -> str:
    """Tell of its progress: the answer is a stream."""
    await ctx.progress(1, total=2)
    await trio.sleep(0.001)
    await ctx.progress(2, total=2)
    return text


@tool
async def high(text: str) -> str:
    """Need a scope that the callers have not asked for."""
    return text


@tool
async def far(text: str) -> str:
    """Belong to another tenant."""
    return text
