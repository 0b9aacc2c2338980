"""The public checkpoint, and what a server does whose disk fails."""

from io import StringIO

import trio

from tenantry.audit import checkpoint
from tenantry.audit.checkpoint import Checkpoint
from tenantry.server import audit_log
from tenantry.server.audit_key import read_verifier
from tests.server.in_process import in_process, until


async def test_anybody_gets_the_newest_checkpoint_of_each_log(tmp_path):
    other = audit_log.AuditLog(tmp_path / audit_log.ADMIN_FILE_NAME)
    other.commit([], sign=True)
    other.close()
    path = tmp_path / audit_log.FILE_NAME
    async with in_process(tmp_path) as server:
        with trio.fail_after(5):
            await until(lambda: audit_log.latest_checkpoint(path) is not None)
            answer = await server.ask("GET", "/audit/checkpoint")
    notes = list(checkpoint.notes_in(StringIO(answer.body.decode())))

    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert [checkpoint.origin_of(note) for note in notes] == [
        "localhost/tenantry/audit/0",
        "localhost/tenantry/audit/admin",
    ]
    assert Checkpoint.parse(notes[0], read_verifier(path)).size == 0
