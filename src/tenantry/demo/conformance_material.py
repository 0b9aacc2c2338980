"""The prompts and resources that the official conformance runner asks for by name."""

import json
from typing import Annotated

from pydantic import Field

from tenantry import CallContext, Contents, Elicit, Embedded, Image, Message, Text, prompt, resource
from tenantry.demo.conformance_media import PICTURE

WORDS = ("paris", "park", "party", "hello", "world")

# --- prompts


@prompt
def test_simple_prompt() -> str:
    """A prompt without arguments."""
    return "This is a simple prompt for testing."


@prompt(complete={"arg1": lambda typed: [word for word in WORDS if word.startswith(typed)]})
def test_prompt_with_arguments(
    arg1: Annotated[str, Field(description="First test argument")],
    arg2: Annotated[str, Field(description="Second test argument")],
) -> str:
    """A prompt with two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@prompt
def test_prompt_with_embedded_resource(
    resource_uri: Annotated[str, Field(alias="resourceUri", description="URI of the resource to embed")],
) -> list[Embedded | Text]:
    """A prompt with a resource inside."""
    contents = Contents(resource_uri, "Embedded resource content for testing.", "text/plain")
    return [Embedded(contents), Text("Please process the embedded resource above.")]


@prompt
def test_prompt_with_image() -> list[Image | Text]:
    """A prompt with a picture inside."""
    return [PICTURE, Text("Please analyze the image above.")]


@prompt
async def test_input_required_result_prompt(ctx: CallContext) -> Message:
    """A prompt that asks before it is made."""
    schema = {"type": "object", "properties": {"context": {"type": "string"}}, "required": ["context"]}
    answers = await ctx.ask(user_context=Elicit(message="What context should the prompt use?", schema=schema))
    return Message("user", Text(f"Context: {answers['user_context'].content.get('context', 'none')}"))


# --- resources


@resource("test://static-text", name="static-text", mime_type="text/plain")
def static_text() -> str:
    """A resource of text."""
    return "This is the content of the static text resource."


@resource("test://static-binary", name="static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """A resource of bytes."""
    return PICTURE.data


@resource("test://template/{id}/data", name="template-data", mime_type="application/json")
def template_data(id: str) -> str:  # noqa: A002  # the variable's name in the template
    """A resource for each id."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@resource("test://watched-resource", name="watched-resource", mime_type="text/plain")
def watched_resource() -> str:
    """A resource to subscribe to."""
    return "This is the content of the watched resource."
