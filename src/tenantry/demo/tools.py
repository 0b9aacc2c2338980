"""The demo's tools; each works on the caller's tenant alone, so that a leak between tenants would be seen."""

from typing import Annotated

from pydantic import BaseModel, Field

from tenantry import CallContext, ToolError, tool


class Document(BaseModel):
    """One document of a tenant."""

    id: str
    title: str
    text: str


class Report(BaseModel):
    """One report of a tenant."""

    id: str
    tenant: str
    title: str
    rows: list[list[str]]


_TOPICS = ("Onboarding", "Pricing", "Incident review", "Roadmap", "Travel policy")
_documents: dict[str, list[Document]] = {}


def _documents_of(tenant: str) -> list[Document]:
    if tenant not in _documents:
        _documents[tenant] = [
            Document(id=f"d{number}", title=topic, text=f"{topic} of {tenant}: for its own people only.")
            for number, topic in enumerate(_TOPICS, start=1)
        ]
    return _documents[tenant]


@tool(read_only=True, open_world=False)
async def echo(message: Annotated[str, Field(description="What to say back")]) -> str:
    """Say a message back, unchanged."""
    return message


@tool(read_only=True, open_world=False)
async def search_documents(
    query: Annotated[str, Field(description="Words to look for in title and text; empty finds all")],
    ctx: CallContext,
) -> dict[str, object]:
    """Search the documents of your tenant."""
    words = query.lower().split()
    found = [
        document
        for document in _documents_of(ctx.tenant)
        if all(word in f"{document.title} {document.text}".lower() for word in words)
    ]
    return {"tenant": ctx.tenant, "documents": found}


@tool(read_only=True, open_world=False)
def export_report(
    report_id: Annotated[str, Field(alias="reportId", description="The report's id, such as r1")],
    ctx: CallContext,
) -> Report:
    """Export a report of your tenant."""
    if report_id not in ("r1", "r2"):
        raise ToolError(f"{ctx.tenant} has no report {report_id[:64]}")
    rows = [[document.id, document.title] for document in _documents_of(ctx.tenant)]
    return Report(id=report_id, tenant=ctx.tenant, title=f"Documents of {ctx.tenant}", rows=rows)


@tool(destructive=True, idempotent=True, open_world=False)
async def admin_purge(
    confirm: Annotated[bool, Field(description="Must be true")],
    ctx: CallContext,
) -> dict[str, object]:
    """Remove all documents of your tenant, until the server starts again."""
    if not confirm:
        raise ToolError("nothing was removed: confirm must be true")
    removed = len(_documents_of(ctx.tenant))
    _documents[ctx.tenant] = []
    return {"tenant": ctx.tenant, "removed": removed}
