"""Tools for the attacked server: each gives an attacker something to get wrong."""

import trio
from pydantic import BaseModel

from tenantry import CallContext, prompt, resource, tool

SECRETS = {"acme": "canary-document-of-acme", "globex": "canary-document-of-globex"}


class Colour(BaseModel):
    """What is asked for."""

    colour: str


@tool(read_only=True)
async def echo(message: str) -> str:
    """Say a message back, unchanged."""
    return message


@tool(read_only=True)
async def own_secret(ctx: CallContext) -> str:
    """Give the one document of the caller's tenant."""
    return SECRETS[ctx.tenant]


@tool(read_only=True)
async def pause(seconds: float, message: str = "") -> str:
    """Say a message back after a while."""
    await trio.sleep(seconds)
    return message


@tool(read_only=True)
async def strange_text(codepoints: list[int]) -> str:
    """Give text made of these code points."""
    return "".join(map(chr, codepoints))


@tool(read_only=True)
async def steps(count: int, ctx: CallContext, seconds: float = 0.0, message: str = "") -> str:
    """Tell of each step, then say a message back."""
    for number in range(1, count + 1):
        await ctx.progress(number, total=count, message=f"{message} {number}")
        await trio.sleep(seconds)
    return message


@tool
async def ask_colour(ctx: CallContext) -> str:
    """Ask the person for a colour."""
    answer = await ctx.elicit("Which colour?", Colour)
    return f"{ctx.subject} chose {answer.content['colour']}" if answer.accepted else "none"


@tool(task="optional")
async def later(ctx: CallContext, seconds: float = 0.0) -> str:
    """Give the tenant's document after a while."""
    await trio.sleep(seconds)
    return SECRETS[ctx.tenant]


@tool
async def touch_note(ctx: CallContext) -> str:
    """Say that the tenant's note has changed."""
    ctx.updated("note://own")
    return "touched"


@tool(read_only=True)
def export_report(report_id: str, ctx: CallContext) -> str:
    """Export a report of the caller's tenant."""
    return f"report {report_id} of {ctx.tenant}"


@tool(destructive=True)
async def purge(ctx: CallContext) -> str:
    """Remove nothing, but ask for the scope that could."""
    return f"purged {ctx.tenant}"


@resource("note://own", name="note", mime_type="text/plain")
def note(ctx: CallContext) -> str:
    """The note of the caller's tenant."""
    return SECRETS[ctx.tenant]


@resource("ledger://own", name="ledger", mime_type="text/plain")
def ledger(ctx: CallContext) -> str:
    """The ledger, which one tenant alone has."""
    return f"ledger of {ctx.tenant}"


@prompt
def summary(topic: str, ctx: CallContext) -> str:
    """Summarise a topic."""
    return f"{topic} for {ctx.tenant}"


@prompt
def forecast(ctx: CallContext) -> str:
    """Look ahead, for one tenant alone."""
    return f"forecast for {ctx.tenant}"
