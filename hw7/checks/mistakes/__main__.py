"""docs/mistakes.md, made from the tables: `python -m hw7.checks.mistakes`."""

from hw7.checks.mistakes import load_mistakes


def as_page() -> str:
    """docs/mistakes.md: the table for people."""
    lines = [
        "# Known mistakes",
        "",
        "Where a wrong answer is what one of these mistakes gives, the public tests and the grader say so. Some rows",
        "are found out from all answers together, and told in words of their own: what the function computes, which",
        "layer is another, which tensor was left. This page is written from `hw7/checks/mistakes/` by",
        "`python -m hw7.checks.mistakes`.",
        "",
        "| id | tasks | what was done | hint | known from |",
        "| --- | --- | --- | --- | --- |",
    ]
    for each in load_mistakes().values():
        source = "found out" if each.diagnosed else each.source
        cells = (f"`{each.id}`", ", ".join(each.tasks), each.title, each.hint, source)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_page(), end="")
