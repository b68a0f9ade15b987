"""Byte-pair encoding, learned from a text: which neighbouring tokens to join, and in what order.

Sennrich et al. 2016 (arXiv:1508.07909), starting from the 256 bytes as GPT-2 does, so that no text is unknown.  The
text is first cut into words, and no token reaches across a cut.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from heapq import heapify, heappop, heappush
from typing import TypeAlias

import regex

# GPT-2's cut, in the quicker spelling that tiktoken gives it: an English ending ('s, 'll ...), or letters, or digits,
# or other signs, the last three with one space before them; then what is left of the spaces.
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
END_OF_TEXT = "<|endoftext|>"
BAR_DELAY_SECONDS = 1.0  # seconds before a bar is shown

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
    Ends early when no pair occurs twice.  Takes time in proportion to the words' length, however long a word is; on a
    terminal, a bar shows how far it is after a second.
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
        # The heap's first entry is the next merge, ties and all.  A count that changes is pushed anew, and its old
        # entry is passed over when it surfaces: cheaper than finding it.
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
    """Different words, one after the other in one row of tokens, and the places where each pair stands.

    A pair's place is that of its left token.  A joined token stands in the place of its first part, and the places of
    the others are linked out, so that joining one pair costs the same in a word of any length.
    """

    def __init__(self, words: Counter[bytes]) -> None:
        n = sum(map(len, words))
        self.tokens = list(b"".join(words))  # -1 where a token has become part of the one before it
        self.before, self.after = list(range(-1, n - 1)), list(range(1, n + 1))  # -1: none in the same word
        self.times: list[int] = []
        for word, times in words.items():
            if word:
                self.before[len(self.times)] = -1
                self.times += [times] * len(word)
                self.after[len(self.times) - 1] = -1
        self.counts: Counter[Pair] = Counter()
        # No pair comes to one place twice, since new tokens have larger ids; and a pair's places are all found at one
        # merge, from left to right: so they are in order, and each stands here once.
        self.places: defaultdict[Pair, list[int]] = defaultdict(list)
        for place, following in enumerate(self.after):
            if following >= 0:
                pair = self.tokens[place], self.tokens[following]
                self.counts[pair] += self.times[place]
                self.places[pair].append(place)

    def join(self, pair: Pair, token: int) -> list[Pair]:
        """Replace every occurrence of the pair by the token; returns the pairs whose counts have changed."""
        tokens, before, after = self.tokens, self.before, self.after
        left, right = pair
        changes: defaultdict[Pair, int] = defaultdict(int)
        for place in self.places.pop(pair):
            second = after[place]
            if tokens[place] != left or second < 0 or tokens[second] != right:
                continue  # joined to a neighbour since
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
    """The number of times each word occurs, in UTF-8.  END_OF_TEXT separates passages and belongs to none of them."""
    words = regex.compile(GPT2_PATTERN)
    return Counter(
        word.encode("utf-8", errors="replace")  # a lone surrogate has no UTF-8, and nothing to teach
        for passage in text.split(END_OF_TEXT)
        for word in words.findall(passage)
    )
