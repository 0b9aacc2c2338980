"""Content blocks: what tools, prompts and resources give back beside plain text (MCP, tools, tool result)."""

import base64
from dataclasses import dataclass

from tenantry.jsonrpc import Object


@dataclass(frozen=True, slots=True)
class Text:
    """Text for the model."""

    text: str

    def block(self) -> Object:
        """The block on the wire."""
        return {"type": "text", "text": self.text}


@dataclass(frozen=True, slots=True)
class Image:
    """An image, by its bytes."""

    data: bytes
    mime_type: str

    def block(self) -> Object:
        """The block on the wire."""
        return {"type": "image", "data": base64.b64encode(self.data).decode(), "mimeType": self.mime_type}


@dataclass(frozen=True, slots=True)
class Audio:
    """A sound, by its bytes; clients before 2025-03-26 know no such block."""

    data: bytes
    mime_type: str

    def block(self) -> Object:
        """The block on the wire."""
        return {"type": "audio", "data": base64.b64encode(self.data).decode(), "mimeType": self.mime_type}


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a resource: text or bytes."""

    uri: str
    data: str | bytes
    mime_type: str | None = None

    def body(self) -> Object:
        """The entry of a `resources/read` result."""
        entry: Object = {"uri": self.uri}
        if self.mime_type is not None:
            entry["mimeType"] = self.mime_type
        if isinstance(self.data, str):
            return {**entry, "text": self.data}
        return {**entry, "blob": base64.b64encode(self.data).decode()}


@dataclass(frozen=True, slots=True)
class Embedded:
    """A resource inside of a result."""

    contents: Contents

    def block(self) -> Object:
        """The block on the wire."""
        return {"type": "resource", "resource": self.contents.body()}


Block = Text | Image | Audio | Embedded
BLOCKS = (Text, Image, Audio, Embedded)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt."""

    role: str
    """`user` or `assistant`."""
    content: Block

    def body(self) -> Object:
        """The entry of a `prompts/get` result."""
        return {"role": self.role, "content": self.content.block()}
