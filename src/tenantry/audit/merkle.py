"""The Merkle tree over a log (RFC 9162 section 2.1, the same tree as RFC 6962's), with SHA-256.

A tree grows as a compact range: the hashes of the perfect subtrees that its leaves fill, the largest first. That is
all that must be kept to append, and it is never more than one hash for each bit of the size.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256().digest()
# A tile is a perfect subtree of that many leaves whose hash is worth keeping: with it, the tree and its proofs are
# rebuilt without looking at each leaf.
TILE_LEVEL = 8
TILE = 1 << TILE_LEVEL

SubtreeHash = Callable[[int, int], bytes]
"""Gives the root over the leaves from the first index up to, and without, the second."""


def leaf_hash(entry: bytes) -> bytes:
    """Hash one entry; the prefix keeps a leaf from passing for a node (RFC 9162 section 2.1.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into the one above them."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(subtrees: Sequence[bytes]) -> bytes:
    """Give the root over perfect subtrees that follow one another, each smaller than the one before."""
    if not subtrees:
        return EMPTY_ROOT
    *rest, root = subtrees
    for left in reversed(rest):
        root = node_hash(left, root)
    return root


class CompactRange:
    """What of a tree is needed to append to it and to tell its root."""

    __slots__ = ("size", "subtrees")

    def __init__(self, size: int = 0, subtrees: Iterable[bytes] = ()) -> None:
        self.size = size
        """How many leaves there are."""
        self.subtrees = list(subtrees)

    def copy(self) -> "CompactRange":
        """A second one that grows by itself."""
        return CompactRange(self.size, self.subtrees)

    def append(self, leaf: bytes) -> bytes | None:
        """Add the hash of a leaf; give the hash of the tile that it completes, or None."""
        tile = None
        subtrees, size, level = self.subtrees, self.size, 0
        while size & 1:
            leaf = node_hash(subtrees.pop(), leaf)
            size >>= 1
            level += 1
            if level == TILE_LEVEL:
                tile = leaf
        subtrees.append(leaf)
        self.size += 1
        return tile

    def root(self) -> bytes:
        """The root over all leaves."""
        return root_of(self.subtrees)


def rebuilt(tiles: Iterable[bytes], leaves: Iterable[bytes]) -> CompactRange:
    """Make the compact range of whole tiles with less than one tile's leaves behind them."""
    whole = CompactRange()
    for tile in tiles:
        whole.append(tile)
    rest = CompactRange()
    for leaf in leaves:
        rest.append(leaf)
    return CompactRange(whole.size * TILE + rest.size, whole.subtrees + rest.subtrees)


def _split(size: int) -> int:
    # The greatest power of two that is smaller than the size: where RFC 9162 parts a tree.
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_path(index: int, size: int, subtree: SubtreeHash) -> list[bytes]:
    """Give the path from leaf `index` to the root over `size` leaves (RFC 9162 section 2.1.3.1).

    Raises ValueError where there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(begin, middle))
            begin = middle
    return path[::-1]


def included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Tell whether the path leads from that leaf to the root (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    number, last, hash_ = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if number & 1 or number == last:
            hash_ = node_hash(sibling, hash_)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            hash_ = node_hash(hash_, sibling)
        number, last = number >> 1, last >> 1
    return last == 0 and hash_ == root


def consistency_path(first: int, second: int, subtree: SubtreeHash) -> list[bytes]:
    """Give what shows that the tree over `second` leaves goes on from that over `first` (RFC 9162 section 2.1.4.1).

    Raises ValueError unless 0 < first <= second.
    """
    if not 0 < first <= second:
        raise ValueError(f"a tree of {second} does not go on from one of {first}")
    path: list[bytes] = []
    begin, end, whole = 0, second, True
    while first != end:
        middle = begin + _split(end - begin)
        if first <= middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(begin, middle))
            begin, whole = middle, False
    if not whole:
        path.append(subtree(begin, end))
    return path[::-1]


def consistent(first: int, second: int, path: Sequence[bytes], first_root: bytes, second_root: bytes) -> bool:
    """Tell whether the path shows that the second tree goes on from the first (RFC 9162 section 2.1.4.2)."""
    if first == second:
        return not path and first_root == second_root
    if not 0 < first < second or not path:
        return False
    # A first tree that is one perfect subtree is its own beginning of the path.
    steps = [first_root, *path] if first & (first - 1) == 0 else list(path)
    number, last = first - 1, second - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            new = node_hash(new, step)
        number, last = number >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root
