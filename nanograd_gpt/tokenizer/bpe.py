"""Byte-pair encoding learned from a text: the token pairs to merge, in order.

Sennrich et al. 2016 (arXiv:1508.07909), starting from the 256 bytes as GPT-2 does, so that any text can be encoded.
The text is first split into words; tokens do not cross word boundaries.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from heapq import heapify, heappop, heappush
from typing import TypeAlias

import regex

# GPT-2's word pattern, in tiktoken's faster form: an English contraction ('s, 'll ...), or letters, digits or other
# symbols, each with an optional leading space; then the remaining whitespace.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
END_OF_TEXT = "<|endoftext|>"
BAR_DELAY_SECONDS = 1.0  # before a progress bar is shown

Pair: TypeAlias = tuple[int, int]


def learn_ranks(text: str, n_merges: int) -> dict[bytes, int]:
    """Ranks of the 256 bytes and of up to n_merges merged tokens, as a tiktoken.Encoding takes them.

    A byte's rank is its value; a merged token's rank is 256 + the index of its merge.
    """
    tokens = [bytes([value]) for value in range(256)]
    for left, right in learn_merges(text, n_merges):
        tokens.append(tokens[left] + tokens[right])
    return {token: rank for rank, token in enumerate(tokens)}


def learn_merges(text: str, n_merges: int) -> list[Pair]:
    """The pairs to merge, in order; merge number m makes token 256 + m.

    Each is the most frequent pair after the merges before it; ties go to the smaller left id, then the smaller right
    id.  Overlapping occurrences all count ("aaa" has a-a twice), but are merged from the left.  Stops early when no
    pair occurs twice.  Runs in time proportional to the total length of the distinct words, with no penalty for long
    ones; on a terminal, a progress bar appears after a second.
    """
    from tqdm import tqdm  # slow to import

    on_terminal = sys.stderr.isatty()
    with tqdm(
        desc="tokenizer",
        total=n_merges,
        unit="merge",
        delay=BAR_DELAY_SECONDS,
        file=sys.stderr,
        disable=not on_terminal,
    ) as bar:
        words = Words(count_words(text))
        # The heap's first entry is the next merge, with ties resolved.  A changed count is pushed again, and its stale
        # entry is skipped when popped: cheaper than removing it.
        heap = [(-count, pair) for pair, count in words.counts.items()]
        heapify(heap)
        merges: list[Pair] = []
        while heap and len(merges) < n_merges:
            negative_count, best = heappop(heap)
            if -negative_count != words.counts[best]:
                continue
            if words.counts[best] < 2:
                break
            for pair in words.join(best, 256 + len(merges)):
                heappush(heap, (-words.counts[pair], pair))
            merges.append(best)
            bar.update()
    return merges


class Words:
    """The distinct words as one array of tokens with linked lists, and the positions of each pair.

    A pair's position is that of its left token.  A merged token takes the position of its first part, and the other
    part is unlinked, so that a merge costs the same in a word of any length.
    """

    def __init__(self, words: Counter[bytes]) -> None:
        n = sum(map(len, words))
        self.tokens = list(b"".join(words))  # -1 where a token was merged into the one before it
        self.before, self.after = list(range(-1, n - 1)), list(range(1, n + 1))  # -1: end of the word
        self.times: list[int] = []
        for word, times in words.items():
            if word:
                self.before[len(self.times)] = -1
                self.times += [times] * len(word)
                self.after[len(self.times) - 1] = -1
        self.counts: Counter[Pair] = Counter()
        # Positions are sorted and unique: a pair's positions all arise in one merge, from left to right, and no pair
        # arises at a position twice, since new tokens have larger ids.
        self.places: defaultdict[Pair, list[int]] = defaultdict(list)
        for place, following in enumerate(self.after):
            if following >= 0:
                pair = self.tokens[place], self.tokens[following]
                self.counts[pair] += self.times[place]
                self.places[pair].append(place)

    def join(self, pair: Pair, token: int) -> list[Pair]:
        """Replace every occurrence of the pair by the token; returns the pairs whose counts changed."""
        tokens, before, after = self.tokens, self.before, self.after
        left, right = pair
        changes: defaultdict[Pair, int] = defaultdict(int)
        for place in self.places.pop(pair):
            second = after[place]
            if tokens[place] != left or second < 0 or tokens[second] != right:
                continue  # merged with a neighbour since
            times, previous, following = self.times[place], before[place], after[second]
            changes[pair] -= times
            if previous >= 0:
                changes[tokens[previous], left] -= times
                changes[tokens[previous], token] += times
                self.places[tokens[previous], token].append(previous)
            if following >= 0:
                changes[right, tokens[following]] -= times
                changes[token, tokens[following]] += times
                self.places[token, tokens[following]].append(place)
                before[following] = place
            tokens[place], tokens[second], after[place] = token, -1, following
        changed = [other for other, change in changes.items() if change]
        for other in changed:
            self.counts[other] += changes[other]
        return changed


def count_words(text: str) -> Counter[bytes]:
    """Counts of the words in UTF-8.  END_OF_TEXT separates passages and is not part of a word."""
    words = regex.compile(GPT2_PATTERN)
    return Counter(
        word.encode("utf-8", errors="replace")  # a lone surrogate has no UTF-8
        for passage in text.split(END_OF_TEXT)
        for word in words.findall(passage)
    )
