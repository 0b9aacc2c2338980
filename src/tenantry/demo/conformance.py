"""The tools that the official conformance runner calls by name: content, messages on the way, and changes.

The names, texts and schemas are the runner's; its suites say what each fixture must do.
"""

from typing import Annotated, Any

import trio
from pydantic import BaseModel, Field

from tenantry import Audio, CallContext, Contents, Embedded, Image, Text, ToolError, tool
from tenantry.demo.conformance_media import PICTURE, SOUND

PAUSE_S = 0.05
# Long enough for a client that was let go to come back before the result is there.
ABSENCE_S = 0.5

# --- content


@tool
async def test_simple_text() -> str:
    """Give one text."""
    return "This is a simple text response for testing."


@tool
async def test_image_content() -> Image:
    """Give one picture."""
    return PICTURE


@tool
async def test_audio_content() -> Audio:
    """Give one sound."""
    return SOUND


@tool
async def test_embedded_resource() -> Embedded:
    """Give one resource inside of the result."""
    return Embedded(Contents("test://embedded-resource", "This is an embedded resource content.", "text/plain"))


@tool
async def test_multiple_content_types() -> list[Text | Image | Embedded]:
    """Give a text, a picture and a resource."""
    mixed = Contents("test://mixed-content-resource", '{"test":"data","value":123}', "application/json")
    return [Text("Multiple content types test:"), PICTURE, Embedded(mixed)]


@tool
async def test_error_handling() -> str:
    """Fail, always."""
    raise ToolError("This tool intentionally returns an error for testing")


# --- schemas


@tool(
    input_schema={
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    }
)
async def json_schema_2020_12_tool(arguments: dict[str, Any]) -> str:
    """Tool with JSON Schema 2020-12 features."""
    return f"Received: {', '.join(sorted(arguments))}"


@tool
async def test_param_header(
    region: Annotated[str, Field(description="Any text", json_schema_extra={"x-mcp-header": "Region"})],
) -> str:
    """Take an argument that is mirrored in a header."""
    return f"Region: {region}"


# --- messages on the way to the result


@tool
async def test_tool_with_logging(ctx: CallContext) -> str:
    """Send three log messages."""
    ctx.log("info", "Tool execution started")
    await trio.sleep(PAUSE_S)
    ctx.log("info", "Tool processing data")
    await trio.sleep(PAUSE_S)
    ctx.log("info", "Tool execution completed")
    return "Three messages were logged."


@tool
async def test_logging_tool(ctx: CallContext) -> str:
    """Send a log message, to those who asked for it."""
    ctx.log("info", "A message for those who asked for it")
    return "One message was logged."


@tool
async def test_tool_with_progress(ctx: CallContext) -> str:
    """Tell three times how far the call is."""
    await ctx.progress(0, 100)
    await trio.sleep(PAUSE_S)
    await ctx.progress(50, 100)
    await trio.sleep(PAUSE_S)
    await ctx.progress(100, 100)
    return "All of 100 is done."


@tool
async def test_reconnection(ctx: CallContext) -> str:
    """Let the client go in the middle of the call, to come back for the result."""
    await ctx.release()
    await trio.sleep(ABSENCE_S)
    return "The result was kept until you came back."


# --- changes that others hear of


@tool
async def test_trigger_tool_change(ctx: CallContext) -> str:
    """Tell the tenant that its tools have changed."""
    ctx.changed("tools")
    return "Told of changed tools."


@tool
async def test_trigger_prompt_change(ctx: CallContext) -> str:
    """Tell the tenant that its prompts have changed."""
    ctx.changed("prompts")
    return "Told of changed prompts."


@tool
async def test_trigger_resource_update(ctx: CallContext) -> str:
    """Say that the watched resource has changed."""
    ctx.updated("test://watched-resource")
    return "The resource has changed."


@tool
async def test_elicitation_url(ctx: CallContext) -> str:
    """Send the person to a page."""
    answer = await ctx.elicit_url("Please confirm on the page", "https://example.com/confirm")
    return f"The person chose to {answer.action}."


class Weather(BaseModel):
    """A result with a schema."""

    temperature: float
    conditions: str


@tool
async def test_structured_content() -> Weather:
    """Give a result that fits an output schema."""
    return Weather(temperature=21.5, conditions="fair")
