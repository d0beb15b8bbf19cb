"""A folder of mail: a message for each student with the page attached, and a table for any mail merge. Nothing is sent.

    messages.csv            student, name, address, subject, text, and which page to attach
    messages/NAME.eml       the same as a whole message, which mail programs open
    pages/NAME.html         the pages

Addresses are the roster's. A message without one is written all the same, and has no recipient.
"""

import csv
import io
from collections.abc import Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from autograder.exports.common import aligned, digest, display_name, file_name, printable
from autograder.exports.csv_table import no_formula, one_cell
from autograder.exports.html import next_steps, student_page
from autograder.grades import Grade
from autograder.marks import Mark, points, sentence
from autograder.rubric import Rubric
from hw7.support.files import write_file

SUBJECT = "Homework 7: your points and feedback"
HEADER = ("student", "name", "address", "subject", "text", "attachment")


def export_mail(grades: Sequence[Grade], rubric: Rubric, out: Path) -> Path:
    """Writes the folder OUT; the path of its table. Raises HW7Error where the grades do not belong to the rubric, or a
    file cannot be written."""
    rows: list[Sequence[str]] = [HEADER]
    for mark in aligned(grades, rubric):
        name = file_name(mark.student)
        page, text = student_page(mark).encode(), printable(body(mark))
        write_file(out / "pages" / f"{name}.html", page)
        write_file(out / "messages" / f"{name}.eml", message(mark, text, page))
        known = [one_cell(display_name(mark.student)), one_cell(mark.name), mark.address, SUBJECT]
        rows.append([*known, no_formula(text), f"pages/{name}.html"])
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    write_file(out / "messages.csv", table.getvalue().encode())
    return out / "messages.csv"


def body(mark: Mark) -> str:
    """The text of the message: the points, how they come about, what to do next."""
    whose = mark.name or display_name(mark.student)
    lines = [f"{whose},", "", f"Homework 7: {points(mark.total)} of {points(mark.out_of)} points."]
    lines += [f"* {line}" for line in mark.how]
    if mark.problem:
        lines += ["", mark.problem if mark.absent else f"Your submission could not be graded: {mark.problem}"]
    for comment in mark.comments:
        lines += ["", f"{sentence(comment.text)} ({comment.who})"]
    if not mark.problem and (steps := next_steps(mark)):
        lines += ["", "What to do next:"]
        for step in steps:
            tasks = ", ".join(f"{task.task} {task.title}" for task in step.tasks)
            lines.append(f"* {tasks} ({points(step.gain)} to gain): {step.text}")
    if mark.manual:
        lines += ["", "Written answers are graded by hand and are not in these points."]
    lines += ["", "The attached page has the rest. Any browser opens it.", ""]
    return "\n".join(lines)


def message(mark: Mark, text: str, page: bytes) -> bytes:
    """The whole message; the same mark gives the same bytes."""
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = SUBJECT
    if mark.address:
        shown = " ".join(printable(mark.name).split())
        mail["To"] = Address(display_name=shown, addr_spec=mark.address)
    mail.set_content(text)
    mail.add_attachment(
        page, maintype="text", subtype="html", filename="homework-7.html", params={"charset": "utf-8"}
    )  # fmt: skip
    mail.set_boundary(f"=_hw7_{digest(mark.student)[:40]}")
    return mail.as_bytes()
