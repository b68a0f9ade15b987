"""Byte-pair encoding, learned from a text: which neighbouring tokens to join, and in what order.

Sennrich et al. 2016 (arXiv:1508.07909), starting from the 256 bytes as GPT-2 does, so that no text is unknown.  The
text is first cut into words, and no token reaches across a cut.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import TypeAlias

import regex

# GPT-2's cut, in the quicker spelling that tiktoken gives it: an English ending ('s, 'll ...), or letters, or digits,
# or other signs, the last three with one space before them; then what is left of the spaces.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
END_OF_TEXT = "<|endoftext|>"

Word: TypeAlias = list[int]
Pair: TypeAlias = tuple[int, int]


def learn_ranks(text: str, n_merges: int) -> dict[bytes, int]:
    """The 256 bytes and up to n_merges tokens joined from them, each with its rank, as a tiktoken.Encoding wants them.

    A byte's rank is its value; a joined token's rank is 256 + the number of merges before its own.
    """
    tokens = [bytes([value]) for value in range(256)]
    for left, right in learn_merges(text, n_merges):
        tokens.append(tokens[left] + tokens[right])
    return {token: rank for rank, token in enumerate(tokens)}


def learn_merges(text: str, n_merges: int) -> list[Pair]:
    """The pairs to join, first to last; merge number m makes token 256 + m.

    Each is the pair that occurs most often once those before it are joined; of equals, the one with the smaller ids,
    the left id first.  Occurrences may overlap in the counting ("aaa" holds a-a twice) but are joined from the left.
    Ends early when no pair occurs twice.
    """
    counted = count_words(text)
    words: list[Word] = [list(word) for word in counted]
    times = list(counted.values())

    pair_counts: Counter[Pair] = Counter()
    words_with: defaultdict[Pair, set[int]] = defaultdict(set)
    for i, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += times[i]
            words_with[pair].add(i)

    # The heap's first entry is the next merge, ties and all.  A count that changes is pushed anew, and its old entry
    # is passed over when it surfaces: cheaper than finding it.
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < n_merges:
        negative_count, best = heappop(heap)
        if -negative_count != pair_counts[best]:
            continue
        if pair_counts[best] < 2:
            break
        changes: Counter[Pair] = Counter()
        for i in words_with.pop(best):  # a word may have lost the pair since it was noted: then nothing changes
            before, after = words[i], join(words[i], best, 256 + len(merges))
            words[i] = after
            for pair in pairwise(before):
                changes[pair] -= times[i]
            for pair in pairwise(after):
                changes[pair] += times[i]
                words_with[pair].add(i)
        for pair, change in changes.items():
            if change:
                pair_counts[pair] += change
                heappush(heap, (-pair_counts[pair], pair))
        merges.append(best)
    return merges


def count_words(text: str) -> Counter[bytes]:
    """How often each word occurs, in UTF-8.  END_OF_TEXT parts the passages and belongs to none of them."""
    words = regex.compile(GPT2_PATTERN)
    return Counter(
        word.encode("utf-8", errors="replace")  # a lone surrogate has no UTF-8, and nothing to teach
        for passage in text.split(END_OF_TEXT)
        for word in words.findall(passage)
    )


def join(word: Word, pair: Pair, token: int) -> Word:
    """The word with every occurrence of the pair, from the left, replaced by the token."""
    joined: Word = []
    i = 0
    while i < len(word):
        if tuple(word[i : i + 2]) == pair:
            joined.append(token)
            i += 2
        else:
            joined.append(word[i])
            i += 1
    return joined
