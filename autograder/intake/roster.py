"""The class roster: ids, names and addresses of all students, and which of them a submission's name means.

Names are compared by their letters, in any order of their words, as platforms write them. What two students share
decides nothing.
"""

import csv
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autograder.intake.submission import Location
from autograder.intake.text import readable
from hw7 import HW7Error
from hw7.support.system import expanded
from hw7.support.words import reason

# One address of mail, in ASCII and without what could begin another one or a header of its own.
_ADDRESS = re.compile(r"[0-9A-Za-z_][!#-'*+\-./0-9=?A-Z^_`a-z{|}~]*@[0-9A-Za-z][0-9A-Za-z.-]*")


def read_roster(path: Path) -> dict[str, str]:
    """{id: name} of a CSV file with the columns id and name, in this order or with a header that says so.

    Raises HW7Error where it is none, or an id is there twice.
    """
    return {id_: name for id_, (name, _) in _students(path).items()}


def read_addresses(path: Path) -> dict[str, str]:
    """{id: address} of those students whose line in the roster has one: in the column email, or the third where there
    is no header. Raises HW7Error as `read_roster` does."""
    return {id_: address for id_, (_, address) in _students(path).items() if address}


def _students(path: Path) -> dict[str, tuple[str, str]]:
    """Name and address of each student, by id."""
    path = expanded(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HW7Error(f"the roster {path} cannot be read as CSV in UTF-8: {reason(error)}") from error
    columns = {cell.strip().lower(): number for number, cell in enumerate(rows[0])} if rows else {}
    places, mail = (0, 1), 2
    if "id" in columns and "name" in columns:
        rows, places = rows[1:], (columns["id"], columns["name"])
        mail = next((columns[name] for name in ("email", "e-mail", "mail") if name in columns), -1)
    roster: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(rows, start=1):
        if len(row) <= max(places) or not row[places[0]].strip():
            raise HW7Error(f"the roster {path}, student {number}: a line needs an id and a name, not {','.join(row)!r}")
        id_, name = row[places[0]], row[places[1]].strip()  # an id is kept byte for byte
        address = row[mail].strip() if 0 <= mail < len(row) else ""
        if address and not _ADDRESS.fullmatch(address):
            raise HW7Error(
                f"the roster {path}, student {number}: {address!r} is no address of mail; correct it or leave it empty"
            )
        if id_ in roster:
            raise HW7Error(f"the roster {path} has the id {id_!r} twice")
        roster[id_] = name, address
    if not roster:
        raise HW7Error(f"the roster {path} names no students")
    return roster


def by_roster(found: Sequence[Location], roster: Mapping[str, str], exactly: bool) -> tuple[list[Location], list[str]]:
    """The submissions under the ids of the roster; submissions that are nobody's there.

    exactly: by id, byte for byte. Otherwise a name counts, too, where only one student has it.
    """
    by_word: dict[str, set[str]] = {}
    for id_, name in roster.items():
        for word in {_plain(id_), *_spellings(name)} - {""}:
            by_word.setdefault(word, set()).add(id_)
    whose = {word: ids.pop() for word, ids in by_word.items() if len(ids) == 1}
    mapped, strangers = list[Location](), list[str]()
    for each in found:
        guesses = [] if exactly else [whose[word] for word in _words_of(each.student) if word in whose]
        known = each.student if each.student in roster else next(iter(guesses), "")
        if not known:
            strangers.append(each.student)
        mapped.append(replace(each, student=known or each.student))
    return mapped, strangers


def the_one(student: str, students: Iterable[str]) -> str:
    """The student of this name, or the only one with this in the name. Raises HW7Error where it is not one."""
    students = list(students)
    if student in students:
        return student
    like = [name for name in students if student.casefold() in name.casefold()]
    if not like:
        raise HW7Error(f"there is no student {student!r}; see grades.csv for the names")
    if len(like) > 1:
        raise HW7Error(f"{student!r} may be {', '.join(map(readable, like[:10]))}: say which")
    return like[0]


def _words_of(student: str) -> Iterator[str]:
    """The whole of it, the name without a platform's number, and the number."""
    name, _, number = student.rpartition("_")
    yield _plain(student)
    if number.isdigit():
        yield _plain(name)
        yield _plain(number)


def _spellings(name: str) -> set[str]:
    """ "Doe, Jane" and "Jane Doe" are one, and "doejane", as Canvas writes it."""
    words = [word for word in re.split(r"[\s,]+", name) if word]
    return {_plain("".join(words[turn:] + words[:turn])) for turn in range(len(words))}


def _plain(text: str) -> str:
    """Letters and digits alone, small, without accents."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(char for char in letters if char.isalnum())
