"""Tenantry: a multi-tenant MCP server that is its own authorization server.

What a module of tools, prompts and resources needs is here.
"""

from tenantry.mcp.content import Audio, Contents, Embedded, Image, Message, Text
from tenantry.mcp.context import CallContext
from tenantry.mcp.interaction import CannotAsk, Elicit, Elicited, ElicitUrl, ListRoots, Sample, Sampled
from tenantry.mcp.prompts import prompt
from tenantry.mcp.resources import resource
from tenantry.mcp.tools import ToolError, tool
from tenantry.version import __version__

__all__ = [
    "Audio",
    "CallContext",
    "CannotAsk",
    "Contents",
    "Elicit",
    "ElicitUrl",
    "Elicited",
    "Embedded",
    "Image",
    "ListRoots",
    "Message",
    "Sample",
    "Sampled",
    "Text",
    "ToolError",
    "__version__",
    "prompt",
    "resource",
    "tool",
]
