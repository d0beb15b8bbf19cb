"""Formulas of the report: MathML for the page, LaTeX for its text form. Each is one tree, written in both languages."""

from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Math:
    """A part of a formula in both languages."""

    mathml: str
    latex: str

    def __add__(self, other: "Math") -> "Math":
        return Math(self.mathml + other.mathml, f"{self.latex} {other.latex}")

    @property
    def block(self) -> str:
        """The MathML element that stands on a line of its own."""
        return f'<math display="block">{self.mathml}</math>'


BRACKETS = {"()": ("(", ")"), "⌊⌋": (r"\lfloor", r"\rfloor")}
GREEK = {"α": r"\alpha"}
OPERATORS = {"·": r"\cdot", "∥": r"\,\|\,", "−": "-"}


def name(letter: str) -> Math:
    return Math(f"<mi>{letter}</mi>", GREEK.get(letter, letter))


def word(text: str) -> Math:
    return Math(f'<mi mathvariant="normal">{escape(text)}</mi>', rf"\mathrm{{{text}}}")


def number(value: float) -> Math:
    return Math(f"<mn>{value:g}</mn>", f"{value:g}")


def sign(operator: str) -> Math:
    return Math(f"<mo>{operator}</mo>", OPERATORS.get(operator, operator))


def row(*parts: Math) -> Math:
    return Math(f"<mrow>{''.join(p.mathml for p in parts)}</mrow>", f"{{{' '.join(p.latex for p in parts)}}}")


def power(base: Math, exponent: Math) -> Math:
    return Math(f"<msup>{base.mathml}{exponent.mathml}</msup>", f"{base.latex}^{{{exponent.latex}}}")


def index(base: Math, sub: Math) -> Math:
    return Math(f"<msub>{base.mathml}{sub.mathml}</msub>", f"{base.latex}_{{{sub.latex}}}")


def over(top: Math, bottom: Math) -> Math:
    return Math(f"<mfrac>{top.mathml}{bottom.mathml}</mfrac>", rf"\frac{{{top.latex}}}{{{bottom.latex}}}")


def root(inside: Math) -> Math:
    return Math(f"<msqrt>{inside.mathml}</msqrt>", rf"\sqrt{{{inside.latex}}}")


def bracketed(*parts: Math, kind: str = "()") -> Math:
    """In brackets as tall as what is in them: round ones, or those that round down."""
    left, right = BRACKETS[kind]
    inside = row(*parts)
    mathml = f"<mrow><mo>{kind[0]}</mo>{inside.mathml}<mo>{kind[1]}</mo></mrow>"
    return Math(mathml, rf"\left{left} {inside.latex} \right{right}")


def distillation_loss() -> Math:
    """alpha T^2 KL(softmax(teacher / T) || softmax(student / T)) + (1 - alpha) CE(student, labels)."""
    alpha, temperature = name("α"), name("T")
    student, teacher = (index(name("z"), word(whose)) for whose in ("student", "teacher"))

    def softened(logits: Math) -> Math:
        return word("softmax") + bracketed(over(logits, temperature))

    divergence = word("KL") + bracketed(softened(teacher), sign("∥"), softened(student))
    entropy = word("CE") + bracketed(student, sign(","), name("y"))
    factor = alpha + sign("·") + power(temperature, number(2)) + sign("·")
    rest = bracketed(number(1), sign("−"), alpha) + sign("·")
    return name("L") + sign("=") + factor + divergence + sign("+") + rest + entropy


def width() -> Math:
    """Of a stage after step s: int(original width * keep_rate ** step)."""
    kept = index(name("w"), number(0)) + sign("·") + power(name("r"), name("s"))
    return index(name("w"), name("s")) + sign("=") + bracketed(kept, kind="⌊⌋")


def standard_error() -> Math:
    """Of an accuracy p on N images: sqrt(p (1 - p) / N)."""
    share = name("p") + bracketed(number(1), sign("−"), name("p"))
    return word("SE") + sign("=") + root(over(row(share), name("N")))
