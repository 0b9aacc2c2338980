"""Tenantry: a multi-tenant MCP server that is its own authorization server.

What a module of tools needs is here: `tool`, `ToolError` and `CallContext`.
"""

from tenantry.mcp.tools import CallContext, ToolError, tool
from tenantry.version import __version__

__all__ = ["CallContext", "ToolError", "__version__", "tool"]
