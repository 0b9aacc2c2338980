"""`tenantry audit verify`, `prove`, `check`, `consistency` and `key`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

from tenantry.audit import checkpoint, proof, record
from tenantry.audit.checkpoint import BadCheckpoint, BadKey, Checkpoint, VerifierKey
from tenantry.audit.proof import BadProof, GrowthProof
from tenantry.cli.audit.logs import chosen, complain, place, readable
from tenantry.cli.serve import DEFAULT_DATA
from tenantry.server import audit_log
from tenantry.server.audit_key import name_of, read_verifier


def verify(
    *,
    data: Path = DEFAULT_DATA,
    log: str | None = None,
    key: list[str] | None = None,
    checkpoint_copy: Path | None = None,
) -> int:
    """Check whole logs: every record, every root, every signature.

    Exit status 0 where all stand; 1 where one does not, and then the first bad record and what stands before it are
    said; 2 where the check could not be made as asked.

    Parameters
    ----------
    data
        The server's data directory.
    log
        Only the log of this name.
    key
        The log's public key as `tenantry audit key` shows it, kept elsewhere; for several logs, several times. Without
        it, the key beside the log is taken.
    checkpoint_copy
        The file that `serve --checkpoint-copy` writes, or what was fetched of /audit/checkpoint: without it, a log
        that was put back whole to an earlier state can't be told from that state.
    """
    try:
        keys = [VerifierKey.parse(given) for given in key or ()]
        copied = {checkpoint.origin_of(note) for note in _copies(checkpoint_copy)}
    except (BadKey, OSError) as error:
        complain(f"nothing was checked: {error}")
        return 2
    paths = chosen(data, log)
    of_logs = {path: _key_of(path, keys) for path in paths}
    missing = copied - {found.name for found in of_logs.values() if found is not None} if log is None else set()
    for origin in sorted(missing):
        complain(f"there are checkpoints of {origin}, and there is no such log or no such key")
    stand = [_verify(path, found, checkpoint_copy) for path, found in of_logs.items()]
    return 0 if all(stand) and not missing else 1


def _key_of(path: Path, given: list[VerifierKey]) -> VerifierKey | None:
    if given:
        return next((key for key in given if key.name.endswith(f"/{name_of(path)}")), None)
    try:
        return read_verifier(path)
    except (BadKey, OSError):
        return None


def _verify(path: Path, key: VerifierKey | None, copy: Path | None) -> bool:
    if key is None:
        complain(f"{path}: its key can't be read, or none was given for it")
        return False
    copies = (note for note in _copies(copy) if checkpoint.origin_of(note) == key.name)
    with _progress(path) as (bar, task):
        count, problem = audit_log.verify(
            path, key=key, copies=copies, on_progress=lambda done: bar.update(task, completed=done)
        )
    if problem is None:
        print(f"{path}: {count} records, no hole, every one as it was written")
        return True
    complain(f"{path}: {problem}; records 1 to {count} stand" if count else f"{path}: {problem}")
    return False


def _copies(copy: Path | None) -> Iterator[str]:
    if copy is not None:
        with copy.open(errors="replace", newline="\n") as lines:
            yield from checkpoint.notes_in(lines)


@contextmanager
def _progress(path: Path) -> Iterator[tuple[Progress, TaskID]]:
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        try:
            total = audit_log.size_of(path)
        except audit_log.AuditLogUnreadable:
            total = 0
        yield bar, bar.add_task(path.name, total=total)


def prove(seq: str, /, *, data: Path = DEFAULT_DATA) -> int:
    """Write a proof that a record stands in a log to stdout: the record, a few hashes, a signed checkpoint.

    Exit status 0, or 1 where there is nothing to prove.

    Parameters
    ----------
    seq
        The record's sequence number, NAME:SEQ in another log than the server's.
    data
        The server's data directory.
    """
    try:
        name, number = place(seq)
        proven = audit_log.prove_record(audit_log.path_of(data, name), number)
    except (audit_log.NotProvable, audit_log.AuditLogUnreadable) as error:
        complain(error)
        return 1
    except ValueError:
        complain(f"{seq} is no SEQ and no NAME:SEQ")
        return 2
    sys.stdout.write(proven.to_text())
    return 0


def consistency(kept: Path, /, *, data: Path = DEFAULT_DATA) -> int:
    """Write a proof to stdout that a log has only grown since a checkpoint that somebody kept.

    Exit status 0, or 1 where there is nothing to prove.

    Parameters
    ----------
    kept
        A file with the checkpoint; of several, the last counts.
    data
        The server's data directory.
    """
    try:
        note = list(_copies(kept))[-1]
        path = audit_log.path_of(data, checkpoint.origin_of(note).rpartition("/")[2])
        proven = audit_log.prove_growth(path, note, Checkpoint.parse(note, read_verifier(path)))
    except (OSError, IndexError, BadKey, BadCheckpoint) as error:
        complain(f"{kept} holds no checkpoint of a log in {data}: {error}")
        return 2
    except (audit_log.NotProvable, audit_log.AuditLogUnreadable) as error:
        complain(error)
        return 1
    sys.stdout.write(proven.to_text())
    return 0


def check(file: Path, /, *, key: str) -> int:
    """Check a proof, with nothing but it and the log's public key. Exit status 0 if it holds, 1 if not, else 2.

    Parameters
    ----------
    file
        What `prove` or `consistency` wrote.
    key
        The log's public key, from somebody you trust: what `tenantry audit key` shows.
    """
    try:
        trusted = VerifierKey.parse(key)
        text = file.read_text()
    except (BadKey, OSError, UnicodeDecodeError) as error:
        complain(f"nothing was checked: {error}")
        return 2
    try:
        proven = proof.parse(text)
        if isinstance(proven, GrowthProof):
            first, second = proven.check(trusted)
            print(f"{second.origin}: what {first.size} records were is unchanged in {second.size}")
            return 0
        under = proven.check(trusted)
        time = readable(record.decode(proven.record)["time"])
    except (BadProof, ValueError) as error:
        complain(error)
        return 1
    print(f"{under.origin}: record {proven.seq} of {under.size}, {time}:\n{proven.record.decode()}")
    return 0


def key(*, data: Path = DEFAULT_DATA, log: str | None = None) -> int:
    """Show the logs' public keys, one a line: what others need to check proofs and checkpoints.

    Parameters
    ----------
    data
        The server's data directory.
    log
        Only the log of this name.
    """
    for path in chosen(data, log):
        try:
            print(read_verifier(path))
        except (BadKey, OSError) as error:
            complain(f"{path}: its key can't be read: {error}")
            return 1
    return 0
