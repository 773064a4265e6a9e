"""Counter-based random bits: the same numbers for the same counter, on any machine and library version.

Philox-4x32 with ten rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC 2011), vectorised over counters with NumPy's integer arithmetic alone. NumPy does not promise that its
`Generator` methods give the same stream in every version, so nothing here uses them.
"""

from __future__ import annotations

import hashlib

import numpy as np

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)

_FEW = 1000  # draws that are compared with all before them, in all rows at once, sooner than a tree is walked

Key = tuple[int, int]


def key_of(*parts: object) -> Key:
    """The 64-bit key of a named stream: the first eight bytes of SHA-256 over the parts."""
    raw = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(raw[:4], "little"), int.from_bytes(raw[4:8], "little")


def philox(counter: tuple[np.ndarray, ...], key: Key) -> tuple[np.ndarray, ...]:
    """Four 32-bit words (as uint64 arrays) for each counter of four 32-bit words (arrays that broadcast)."""
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in counter)
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def words(key: Key, episodes: np.ndarray, purpose: int, count: int) -> np.ndarray:
    """`count` random 32-bit words (uint64 [B, count]) for each episode number (int64 [B]) and purpose."""
    numbers = np.asarray(episodes).astype(np.uint64)[:, None]
    blocks = np.arange(-(-count // 4), dtype=np.uint64)[None]
    out = philox((numbers & _LOW, numbers >> _SHIFT, np.asarray(purpose, np.uint64), blocks), key)
    return np.stack(np.broadcast_arrays(*out), axis=-1).reshape(len(numbers), -1)[:, :count]


def below(bits: np.ndarray, limit: np.ndarray | int) -> np.ndarray:
    """Whole numbers 0..limit-1 (int64) of 32-bit words, by multiply and shift (bias under limit / 2**32)."""
    return ((bits * np.asarray(limit).astype(np.uint64)) >> _SHIFT).astype(np.int64)


def distinct(bits: np.ndarray, limit: np.ndarray | int) -> np.ndarray:
    """Ordered draws without replacement: int64 [..., k], distinct along the last axis, each below `limit`.

    `bits` is [..., k]; `limit` broadcasts against its leading axes. Every ordered choice is equally likely.
    Draw j picks a rank among the numbers not yet taken, which is then counted up past those taken.
    Where `limit` is below k, only the first `limit` draws mean anything. Time grows with k log k.
    """
    count = bits.shape[-1]
    if count > _FEW:
        limits = np.broadcast_to(np.asarray(limit, np.int64), bits.shape[:-1])
        ranks = below(bits, np.maximum(limits[..., None] - np.arange(count), 1)).reshape(-1, count)
        many = [_of_many(row, most) for row, most in zip(ranks.tolist(), limits.ravel().tolist(), strict=True)]
        return np.asarray(many, np.int64).reshape(bits.shape)
    # The narrowest numbers that hold every pick, and draws first: the loop then works on whole contiguous planes.
    most = int(np.max(limit, initial=0)) + count
    dtype = next(each for each in (np.int16, np.int32, np.int64) if most < np.iinfo(each).max)
    words = np.ascontiguousarray(np.moveaxis(bits, -1, 0))
    place = np.arange(count, dtype=dtype).reshape(-1, *(1,) * (words.ndim - 1))
    ranks = below(words, np.maximum(np.asarray(limit, np.int64) - place.astype(np.int64), 1)).astype(dtype)
    picks = np.empty(words.shape, dtype)
    taken = np.full(words.shape, np.iinfo(dtype).max, dtype)  # the first j planes: the earlier draws, rising
    for j in range(count):
        # taken[i] - i is the number of free places below taken[i]; the rank goes past it if it has them all.
        past = (taken[:j] - place[:j] <= ranks[j]).view(np.int8).sum(axis=0, dtype=dtype)
        pick = np.add(ranks[j], past, out=picks[j])
        taken[1 : j + 1] = np.minimum(taken[1 : j + 1], np.maximum(taken[:j], pick))
        np.minimum(taken[0], pick, out=taken[0])
    return np.moveaxis(picks, 0, -1).astype(np.int64, order="C")


def _of_many(ranks: list[int], limit: int) -> list[int]:
    """The numbers at these ranks among those not yet taken, one row of `distinct`.

    `free` is a binary tree over the numbers: node n has nodes 2n and 2n + 1, and counts the free numbers below it.
    """
    levels = (max(limit, len(ranks)) + len(ranks)).bit_length()
    free = [count for level in range(levels + 1) for count in [1 << (levels - level)] * (1 << level)]
    free.insert(0, 0)
    picks = []
    for rank in ranks:
        node = 1
        for _ in range(levels):
            free[node] -= 1
            node *= 2
            if rank >= free[node]:
                rank -= free[node]
                node += 1
        free[node] = 0
        picks.append(node - (1 << levels))
    return picks


def shuffled(bits: np.ndarray) -> np.ndarray:
    """A random order of 0..T-1 in each row (int64 [B, T]) from 32-bit words [B, T]."""
    # The place in the low bits makes every key unique, so that any sorting algorithm gives the same order.
    keys = (bits << _SHIFT) | np.arange(bits.shape[-1], dtype=np.uint64)
    return (np.sort(keys, axis=-1) & _LOW).astype(np.int64)
