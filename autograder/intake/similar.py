"""Pairs of submissions whose code is alike: passages of tokens that two share and that nobody was given.

The passages are the k-grams of winnowing (Schleimer, Wilkerson and Aiken, "Winnowing: Local Algorithms for Document
Fingerprinting", 2003), as in MOSS; a class is small enough to keep all of them. Left out are those of what was given,
and those that more than a third of the class has. Submissions are read as text (`lexing`) and never run.
docs/similar.md says what is measured, and what it is no proof of.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from autograder.intake.layouts import FoundSubmissions
from autograder.intake.lexing import Source, lex
from autograder.intake.submission import Submission, take_in
from hw7 import HW7Error
from hw7.solution import PROJECT, need_clone
from hw7.support.system import expanded

PASSAGE = 12  # tokens of the shortest passage that counts
LEAST = 100  # tokens that two must share, whatever their share is
AT_LEAST = 0.3  # the share of either's own code from which on a pair is listed
MOST_TOKENS = 50_000  # of one submission; code like the reference's has 13,000 in 100,000 bytes, the most allowed
COMMON, FEWEST = 1 / 3, 10  # passages that more than this share of at least so many submissions have are common
ASSIGNMENT = "assignments/hw7"  # in the project: what students get to fill in
_TRIED = 16  # places in the other submission where a passage's longest match is looked for
_NONE = -1  # in place of a passage's number, where no passage begins that counts
Grams: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Document:
    """One submission as it is compared. every: for each token of all its files, one after another, the number of the
    passage that begins there, or _NONE where the file ends too soon. passages: the same, _NONE where it does not count.
    own: how many tokens are in passages that count."""

    student: str
    sources: Mapping[str, Source]
    digests: Mapping[str, str] = field(repr=False)  # of its files
    weights: str  # the digest of its weights
    every: Grams = field(repr=False)
    passages: Grams = field(repr=False)
    own: int = 0
    cut: bool = False  # it has more than MOST_TOKENS

    def place(self, token: int) -> tuple[str, int]:
        """The file of this token of all, and the token's number in there."""
        for path, source in self.sources.items():
            if token < len(source.tokens):
                return path, token
            token -= len(source.tokens)
        raise IndexError(token)


@dataclass(frozen=True)
class Pair:
    """Two submissions that are alike. shares: of each one's own code, what the other has as well, 0 to 1. tokens: how
    many those are, the smaller number. same: files that have the same bytes, by their paths in both."""

    documents: tuple[Document, Document]
    shares: tuple[float, float]
    tokens: int
    same: tuple[tuple[str, str], ...] = ()
    same_weights: bool = False

    @property
    def same_bytes(self) -> bool:
        """Whether all files of both have the same bytes."""
        first, second = (sorted(document.digests.values()) for document in self.documents)
        return first == second


@dataclass(frozen=True)
class Similar:
    """What was found. pairs: most suspicious first. left_out: submissions that could not be compared, with the reason.
    cut: students of whose code only the first MOST_TOKENS tokens were compared."""

    pairs: tuple[Pair, ...]
    compared: int
    left_out: Mapping[str, str]
    cut: tuple[str, ...]


@dataclass(frozen=True)
class Given:
    """What all students had: its passages, in order, and the digests of its files."""

    passages: Grams = field(repr=False)
    digests: frozenset[str] = field(repr=False)


class Passage(NamedTuple):
    """What two have in common in one place: the files, and the first token there of each; how many tokens, and which of
    them count in each, for what was given or is common may stand among them."""

    paths: tuple[str, str]
    starts: tuple[int, int]
    length: int
    counts: tuple[Flags, Flags]


def handed_out(more: Sequence[Path]) -> list[Path]:
    """The folders with Python that all students have: the assignment, the library and `more`.

    Raises HW7Error where the assignment is not there and nothing else is named.
    """
    if not more:
        need_clone(ASSIGNMENT)
    folders = [PROJECT / ASSIGNMENT, PROJECT / "hw7", *more]
    return [folder for folder in folders if folder.is_dir() or folder in more]


def read_given(directories: Iterable[Path | str]) -> Given:
    """What is in all Python files under these folders. Raises HW7Error where there are none, or one cannot be read."""
    files: list[bytes] = []
    for directory in map(expanded, directories):
        paths = [path for path in sorted(directory.rglob("*.py")) if path.is_file()]
        if not paths:
            raise HW7Error(f"there are no Python files in {directory}: name the folder with what students were given")
        try:
            files += [path.read_bytes() for path in paths]
        except OSError as error:
            raise HW7Error(f"{error.filename} cannot be read: {error.strerror}") from error
    return given_by(files)


def given_by(files: Sequence[bytes]) -> Given:
    """What is in these Python files."""
    passages = [np.empty(0, np.int64), *(_grams(lex(data, MOST_TOKENS)) for data in files)]
    return Given(np.unique(np.concatenate(passages)), frozenset(hashlib.sha256(data).hexdigest() for data in files))


def read_all(submissions: FoundSubmissions, progress: bool = False) -> Iterator[Submission]:
    """Reads one submission after another. One that several students handed in together is one, and has all names."""
    together: dict[object, list[int]] = defaultdict(list)
    for number, location in enumerate(submissions.found):
        together[location.path, location.members, number if location.problem else None].append(number)
    for numbers in tqdm(together.values(), desc="reading", unit="", disable=None if progress else True):
        names = " + ".join(submissions.found[number].student for number in numbers)
        yield replace(take_in(submissions.found[numbers[0]]), student=names)


def find_similar(
    submissions: Iterable[Submission],
    given: Given,
    at_least: float = AT_LEAST,
    least: int = LEAST,
    progress: bool = False,
) -> Similar:
    """All pairs of which one has at least the share `at_least` of its own code in common with the other, and `least`
    tokens; and all with a file of so many tokens of which both have the same bytes.

    What was given does not count, nor what more than a third of at least 10 submissions have (those that differ: copies
    of one count once).
    """
    documents, left_out = list[Document](), dict[str, str]()
    for submission in submissions:
        if submission.problem:
            left_out[submission.student] = submission.problem
            continue
        document = _without(_document(submission), given.passages)
        if document.own < least:
            left_out[document.student] = f"Its own code has {document.own} tokens: fewer than {least} say nothing."
        else:
            documents.append(document)
    distinct = list({document.passages.tobytes(): document for document in documents}.values())
    files = _same_files(documents, distinct, given.digests, least)
    common = _common(distinct)
    documents = [_without(document, common) for document in documents]
    covered = _covered(documents, progress)
    own = np.array([max(document.own, 1) for document in documents])
    shares = covered / own[:, None]
    suspicious = (np.maximum(shares, shares.T) >= at_least) & (np.minimum(covered, covered.T) >= least)
    numbers = {(int(i), int(j)) for i, j in np.argwhere(np.triu(suspicious, 1))} | files.keys()
    pairs = []
    for i, j in sorted(numbers):
        both = documents[i], documents[j]
        same_weights = bool(both[0].weights) and both[0].weights == both[1].weights
        tokens = int(min(covered[i, j], covered[j, i]))
        found = (float(shares[i, j]), float(shares[j, i]))
        pairs.append(Pair(both, found, tokens, tuple(files.get((i, j), ())), same_weights))
    pairs.sort(key=lambda pair: (not pair.same_bytes, -round(max(pair.shares), 2), -pair.tokens))
    cut = tuple(document.student for document in documents if document.cut)
    return Similar(tuple(pairs), len(documents), left_out, cut)


def passages_of(pair: Pair) -> list[Passage]:
    """What the two have in common, in the order of the first one's files; each time the longest match in the other."""
    first, second = (document.every for document in pair.documents)
    counting = [_in_passages(document.passages != _NONE) for document in pair.documents]
    places: dict[int, list[int]] = defaultdict(list)
    for at, passage in enumerate(second.tolist()):
        if passage != _NONE and len(places[passage]) < _TRIED:
            places[passage].append(at)
    found, at = [], 0
    while at < len(first):
        begins = places.get(int(first[at]), ())
        if not begins:
            at += 1
            continue
        alike, before = max((_in_common(first[at:], second[there:]), -there) for there in begins)
        length, there = alike + PASSAGE - 1, -before
        counts = counting[0][at : at + length], counting[1][there : there + length]
        if counts[0].any() and counts[1].any():
            (path, start), (other, other_start) = pair.documents[0].place(at), pair.documents[1].place(there)
            found.append(Passage((path, other), (start, other_start), length, counts))
        at += length
    return found


def _in_common(first: Grams, second: Grams) -> int:
    """How many passages, one after another from the first on, are the same. None of them crosses the end of a file."""
    length = min(len(first), len(second))
    other = (first[:length] != second[:length]) | (first[:length] == _NONE)
    return int(other.argmax()) if other.any() else length


# ---- one submission's passages ---------------------------------------------------------------------------------


def _document(submission: Submission) -> Document:
    sources, left = dict[str, Source](), MOST_TOKENS
    for path, data in sorted(submission.files.items(), key=lambda file: len(file[1])):  # padding hides no other file
        if left < 0:
            break
        sources[path] = lex(data, left + 1)
        left -= len(sources[path].tokens)
    sources = dict(sorted(sources.items()))
    digests = {path: hashlib.sha256(data).hexdigest() for path, data in submission.files.items()}
    weights = hashlib.sha256(submission.weights).hexdigest() if submission.weights else ""
    passages = np.concatenate([np.empty(0, np.int64), *(_grams(source, padded=True) for source in sources.values())])
    return Document(submission.student, sources, digests, weights, passages, passages, cut=left < 0)


def _grams(source: Source, padded: bool = False) -> Grams:
    """A number for each PASSAGE tokens that follow one another: the same for the same tokens in every process. padded:
    one for each token, _NONE at the last, where too few tokens follow."""
    kinds = {
        kind: hashlib.blake2b(kind.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for kind in {token.kind for token in source.tokens}
    }
    ids = np.frombuffer(b"".join(kinds[token.kind] for token in source.tokens), "<u8")
    count = max(len(ids) - PASSAGE + 1, 0)
    grams = np.zeros(count, np.uint64)
    for at in range(PASSAGE):  # a polynomial of the tokens' numbers, modulo 2**64
        grams = grams * np.uint64(0x9E3779B97F4A7C15) + ids[at : at + count]
    numbers = (grams >> np.uint64(1)).astype(np.int64)  # no number is _NONE
    return np.concatenate([numbers, np.full(len(ids) - count, _NONE)]) if padded else numbers


def _in_passages(begins: Flags) -> Flags:
    """Which tokens are in a passage that begins at one of these."""
    inside = begins.copy()
    for at in range(1, PASSAGE):
        inside[at:] |= begins[:-at]
    return inside


def _without(document: Document, passages: Grams) -> Document:
    """The document without the tokens that are in these passages, in order: none that touches one counts any more."""
    ordered = np.append(passages, np.iinfo(np.int64).max)  # so that there is one to look at for each
    taken = _in_passages(ordered[np.searchsorted(ordered, document.passages)] == document.passages)
    touched = taken.copy()
    for at in range(1, PASSAGE):
        touched[:-at] |= taken[at:]
    left = np.where(touched, _NONE, document.passages)
    return replace(document, passages=left, own=int(_in_passages(left != _NONE).sum()))


# ---- all submissions' passages ----------------------------------------------------------------------------------


def _common(distinct: Sequence[Document]) -> Grams:
    """Passages that more than the share COMMON of these documents have; none where they are fewer than FEWEST."""
    if len(distinct) < FEWEST:
        return np.empty(0, np.int64)
    each = np.concatenate([np.unique(document.passages) for document in distinct])
    passages, counts = np.unique(each[each != _NONE], return_counts=True)
    return passages[counts > COMMON * len(distinct)]


def _same_files(
    documents: Sequence[Document], distinct: Sequence[Document], known: frozenset[str], least: int
) -> dict[tuple[int, int], list[tuple[str, str]]]:
    """Files of `least` tokens and more that are the same to the byte in two documents: the paths in both, by the
    documents' numbers. No file that was given or that is common."""
    places: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for number, document in enumerate(documents):
        for path, source in document.sources.items():
            if len(source.tokens) >= least and document.digests[path] not in known:
                places[document.digests[path]].append((number, path))
    counts = Counter(digest for document in distinct for digest in set(document.digests.values()))
    most = COMMON * len(distinct) if len(distinct) >= FEWEST else len(distinct)
    found: dict[tuple[int, int], list[tuple[str, str]]] = defaultdict(list)
    for digest, files in places.items():
        if counts[digest] <= most:
            for (i, path), (j, other) in combinations(files, 2):
                if i != j:
                    found[i, j].append((path, other))
    return dict(found)


def _covered(documents: Sequence[Document], progress: bool) -> npt.NDArray[np.int64]:
    """[i, j]: how many tokens of document i are in passages that document j has as well."""
    total = len(documents)
    covered = np.zeros((total, total), np.int64)
    if not total:
        return covered
    # For each passage, the documents that have it: holders[first[p] : first[p + 1]].
    each = [np.unique(document.passages[document.passages != _NONE]) for document in documents]
    numbers, passage = np.unique(np.concatenate(each), return_inverse=True)
    owner = np.repeat(np.arange(total, dtype=np.min_scalar_type(-total)), [len(some) for some in each])
    holders = owner[np.argsort(passage, kind="stable")]
    first = np.concatenate([[0], np.cumsum(np.bincount(passage, minlength=len(numbers)))])
    for i, document in enumerate(tqdm(documents, desc="comparing", unit="", disable=None if progress else True)):
        begins = np.flatnonzero(document.passages != _NONE)
        held = np.searchsorted(numbers, document.passages[begins])
        counts = first[held + 1] - first[held]
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        others = holders[np.repeat(first[held], counts) + offsets]
        order = np.argsort(others, kind="stable")  # by document, and in each by place
        others, places = others[order], np.repeat(begins, counts)[order]
        # A passage adds its tokens up to where that document's next one begins.
        steps = np.minimum(np.diff(places, append=0), PASSAGE)
        steps[np.diff(others, append=-1) != 0] = PASSAGE
        covered[i] = np.bincount(others, weights=steps, minlength=total)
    return covered
