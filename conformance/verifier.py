"""By docs/audit-format.md alone: verifier.py DATA_DIRECTORY --key KEY [--checkpoint-copy FILE]; status 0: it stands."""

import argparse
import base64
import hashlib
import json
import re
import sqlite3
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

NOTE = re.compile(r"([^\n]+)\n(0|[1-9]\d*)\n([^\n]+)\n\n\u2014 ([^ \n]+) ([^\n]+)\n")
Key = tuple[str, bytes, bytes]  # name, id, public key


def need(condition: object, complaint: str) -> None:
    if not condition:
        sys.exit(f"the log does not stand: {complaint}")


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def root_of(stack: list[bytes]) -> bytes:
    root = stack[-1] if stack else sha()
    for left in stack[-2::-1]:
        root = sha(b"\1", left, root)
    return root


def opened(note: str, key: Key) -> tuple[int, bytes]:
    if (match := NOTE.fullmatch(note)) is None:
        raise ValueError("a checkpoint is no signed note")
    origin, size, root, signer, encoded = match.groups()
    signature = base64.b64decode(encoded)
    need(origin == signer == key[0] and signature[:4] == key[1], "a checkpoint is not of this log's key")
    need(base64.b64encode(signature).decode() == encoded, "a signature is not written as it should be")
    Ed25519PublicKey.from_public_bytes(key[2]).verify(signature[4:], f"{origin}\n{size}\n{root}\n".encode())
    return int(size), base64.b64decode(root)


def verify(path: Path, key: Key, copies: str) -> int:
    ask = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None).execute
    ask("BEGIN")
    checkpoints = {size: (number, *opened(note, key)) for size, number, note in ask("SELECT * FROM checkpoint")}
    heads = {size: (number, root) for size, number, root in ask("SELECT * FROM head")}
    tiles = {number * 256 + 256: hash_ for number, hash_ in ask("SELECT * FROM tile")}
    roots = dict(opened(note[0], key) for note in NOTE.finditer(copies) if note[1] == key[0])
    said, stack, full, tile = dict(ask("SELECT * FROM pruning")), list[bytes](), 2**63, None
    size = committed = signed = commits = notes = emptied = pruned = 0
    records = ask("SELECT seq, leaf, body FROM record ORDER BY seq")
    while True:
        root = root_of(stack)
        if size in checkpoints:
            notes, signed = notes + 1, size
            need(checkpoints.pop(size) == (notes, size, root), f"the checkpoint over {size} records is wrong")
        if size in heads:
            commits, committed = commits + 1, size
            need(heads.pop(size) == (commits, root), f"the commit up to record {size} has another root or number")
            need(size - signed < 1000, f"records {signed + 1} to {size} are without a checkpoint")
        need(roots.pop(size, root) == root, f"a copied checkpoint over {size} records has another root")
        need(tiles.pop(size, None) == tile, f"the tile up to record {size} is wrong")
        if (row := records.fetchone()) is None:
            break
        (seq, leaf, body), rest, level, tile, size = row, size, 0, None, size + 1
        need(seq == size and isinstance(leaf, bytes), f"record {size} is missing")
        need(body is None or sha(b"\0", body) == leaf, f"record {seq} was changed")
        entry = {} if body is None else json.loads(body)
        upto = entry["upto"] if entry.get("kind") == "log_pruned" else None
        need(said.pop(seq, None) == upto, f"what is said of a pruning at {seq} is wrong")
        emptied, pruned = seq if body is None else emptied, max(pruned, upto or 0)
        full = full if body is None or upto else min(full, seq)
        while rest & 1:
            leaf, rest, level = sha(b"\1", stack.pop(), leaf), rest >> 1, level + 1
            tile = leaf if level == 8 else tile
        stack.append(leaf)
    need(committed == size, f"records {committed + 1} to {size} belong to no commit")
    need(emptied <= pruned < full and not said, "records are without content and were not pruned, or the reverse")
    need(not (checkpoints or heads or tiles or roots), f"it is cut off behind record {size}")
    return size


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", type=Path)
parser.add_argument("--key", required=True)
parser.add_argument("--checkpoint-copy", type=Path, default="/dev/null")
if __name__ == "__main__":
    options = parser.parse_args()
    name, id_, encoded = options.key.split("+", 2)
    material, log = base64.b64decode(encoded), options.data / f"audit-{name.rpartition('/')[2]}.db"
    need(sha(name.encode(), b"\n", material)[:4].hex() == id_, "the key is no key")
    try:
        count = verify(log, (name, bytes.fromhex(id_), material[1:]), options.checkpoint_copy.read_text())
    except (sqlite3.Error, ValueError, TypeError, InvalidSignature) as error:
        sys.exit(f"the log does not stand: {error!r}")
    print(f"{name}: {count} records stand")
