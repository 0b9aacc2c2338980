"""The tree against the values that Certificate Transparency's implementations publish, and against its definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.audit import merkle
from tenantry.audit.merkle import CompactRange, leaf_hash

ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        *("", "00", "10", "2021", "3031", "40414243"),
        *("5051525354555657", "606162636465666768696a6b6c6d6e6f"),
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
D0_2 = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
D0_4 = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
D0 = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
D1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
D2_4 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
D4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
D4_6 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
D4_8 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D6 = "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f"
D6_8 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"


def by_definition(entries: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, word by word."""
    if not entries:
        return merkle.EMPTY_ROOT
    if len(entries) == 1:
        return leaf_hash(entries[0])
    half = 1
    while half * 2 < len(entries):
        half *= 2
    return merkle.node_hash(by_definition(entries[:half]), by_definition(entries[half:]))


def subtree_of(entries: list[bytes]) -> merkle.SubtreeHash:
    return lambda begin, end: by_definition(entries[begin:end])


def grown(entries: list[bytes]) -> CompactRange:
    tree = CompactRange()
    for entry in entries:
        tree.append(leaf_hash(entry))
    return tree


@pytest.mark.parametrize("size", range(9))
def test_the_root_is_the_published_one(size):
    assert grown(ENTRIES[:size]).root().hex() == ROOTS[size]


@pytest.mark.parametrize(
    ("index", "size", "path"),
    [
        (0, 1, []),
        (0, 8, [D1, D2_4, D4_8]),
        (5, 8, [D4, D6_8, D0_4]),
        (2, 3, [D0_2]),
        (1, 5, [D0, D2_4, D4]),
    ],
)
def test_inclusion_paths_are_the_published_ones(index, size, path):
    hashes = merkle.inclusion_path(index, size, subtree_of(ENTRIES))
    assert [hash_.hex() for hash_ in hashes] == path
    assert merkle.included(leaf_hash(ENTRIES[index]), index, size, hashes, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        (1, 1, []),
        (1, 8, [D1, D2_4, D4_8]),
        (6, 8, [D4_6, D6_8, D0_4]),
        (2, 5, [D2_4, D4]),
        (2, 8, [D2_4, D4_8]),
        (6, 7, [D4_6, D6, D0_4]),
    ],
)
def test_consistency_paths_are_the_published_ones(first, second, path):
    hashes = merkle.consistency_path(first, second, subtree_of(ENTRIES))
    assert [hash_.hex() for hash_ in hashes] == path
    assert merkle.consistent(first, second, hashes, bytes.fromhex(ROOTS[first]), bytes.fromhex(ROOTS[second]))


def entries_of(size: int) -> list[bytes]:
    return [b"%d" % number for number in range(size)]


@given(size=st.integers(1, 70), data=st.data())
def test_every_inclusion_path_leads_to_the_root_and_no_spoilt_one_does(size, data):
    entries = entries_of(size)
    index = data.draw(st.integers(0, size - 1))
    root, leaf = by_definition(entries), leaf_hash(entries[index])
    path = merkle.inclusion_path(index, size, subtree_of(entries))

    assert merkle.included(leaf, index, size, path, root)
    assert not merkle.included(leaf_hash(b"other"), index, size, path, root)
    assert not merkle.included(leaf, index + 1, size, path, root)
    assert not merkle.included(leaf, -1, size, path, root)
    assert not merkle.included(leaf, index, size, [*path, root], root)
    if path:
        assert not merkle.included(leaf, index, size, path[:-1], root)
        spoilt = data.draw(st.integers(0, len(path) - 1))
        path[spoilt] = bytes(32)
        assert not merkle.included(leaf, index, size, path, root)


@given(sizes=st.tuples(st.integers(1, 70), st.integers(1, 70)).map(sorted), data=st.data())
def test_every_consistency_path_binds_both_roots_and_no_spoilt_one_does(sizes, data):
    first, second = sizes
    entries = entries_of(second)
    roots = by_definition(entries[:first]), by_definition(entries)
    path = merkle.consistency_path(first, second, subtree_of(entries))

    assert merkle.consistent(first, second, path, *roots)
    assert not merkle.consistent(first, second, [*path, bytes(32)], *roots)
    assert not merkle.consistent(first, second, path, bytes(32), roots[1])
    assert not merkle.consistent(first, second, path, roots[0], bytes(32))
    if path:
        path[data.draw(st.integers(0, len(path) - 1))] = bytes(32)
        assert not merkle.consistent(first, second, path, *roots)
        assert not merkle.consistent(first, second, [], *roots)


def test_what_can_not_be_proven_is_refused():
    subtree = subtree_of(ENTRIES)
    for index, size in ((1, 1), (-1, 4), (8, 8)):
        with pytest.raises(ValueError, match="no leaf"):
            merkle.inclusion_path(index, size, subtree)
    for first, second in ((0, 4), (5, 4)):
        with pytest.raises(ValueError, match="go on"):
            merkle.consistency_path(first, second, subtree)
    assert not merkle.consistent(0, 4, [bytes(32)], merkle.EMPTY_ROOT, bytes(32))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 1000])
def test_a_tree_is_rebuilt_out_of_its_tiles_and_the_leaves_behind_them(size):
    tree, tiles = CompactRange(), []
    leaves = [leaf_hash(entry) for entry in entries_of(size)]
    for leaf in leaves:
        tile = tree.append(leaf)
        if tile is not None:
            tiles.append(tile)

    assert len(tiles) == size // merkle.TILE
    again = merkle.rebuilt(tiles, leaves[len(tiles) * merkle.TILE :])
    assert (again.size, again.subtrees) == (tree.size, tree.subtrees)


def test_a_copy_grows_by_itself():
    tree = grown(ENTRIES[:3])
    other = tree.copy()
    other.append(leaf_hash(ENTRIES[3]))
    assert (tree.root().hex(), other.root().hex()) == (ROOTS[3], ROOTS[4])
