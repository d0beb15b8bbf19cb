"""What a layer is called, and what is different about it, in words."""

from hw7.checks.diagnosis.models.edits import Delta
from hw7.checks.diagnosis.models.layers import BORDERS, Facet, Layer

NAMES = {
    "linear": "linear layer", "add": "addition", "multiply": "product of two tensors",
    "resize": "change of the image's size", "slice": "cut", "concatenate": "concatenation",
    "padding": "padding of its own", "product": "matrix product",
}  # fmt: skip


def name(layer: Layer, article: bool = False) -> str:
    """A layer in a word: "ReLU6", "2x2 max pooling", "a softmax"."""
    facets = layer.facets
    match layer.family:
        case "activation" | "global" | "pool" | "batch norm":
            word = str(facets["which"])
            word = f"global {word}" if layer.family == "global" and word in ("average", "maximum") else word
            word = f"{size(facets['kernel'])} {word}" if layer.family == "pool" else word
        case "dropout":
            word = f"dropout (p = {facets['number']:.3g})"
        case "shift" | "scale":
            word = f"{'addition of' if layer.family == 'shift' else 'multiplication by'} {facets['number']:.4g}"
        case "other":
            which = facets["which"]
            word = f"another operation ({which})" if which else "another operation"
        case "convolution":
            depthwise = "depthwise " if facets["groups"] == "each" else ""
            word = f"{depthwise}{size(facets['kernel'])} convolution"
        case _:
            word = NAMES.get(layer.family, layer.family)
    if not article or word.startswith(("a ", "an ", "another ")) or layer.family in ("pool", "dropout", "padding"):
        return word
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def bare(layer: Layer) -> str:
    """The same without an article, for "there is no …"."""
    return name(layer).removeprefix("a ").removeprefix("an ")


def size(value: Facet) -> str:
    numbers = value if isinstance(value, tuple) else (value,)
    return "x".join(f"{number:g}" for number in numbers)


def plainly(value: Facet) -> str:
    """A pair of two equal numbers as one."""
    if isinstance(value, tuple) and len(set(value)) == 1:
        return f"{value[0]:g}"
    return size(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float | int) else value


def _padding(value: Facet, layer: Layer) -> str:
    if value == "same":
        kernel = layer.facets["kernel"]
        assert isinstance(kernel, tuple)
        value = tuple((k - 1) / 2 for k in kernel)
    return plainly(value)


def clause(layer: Layer, delta: Delta) -> str:
    """What is different about a layer, as what it has: "stride 1 where 2 belongs"."""
    facet, wanted, got = delta
    match facet:
        case "kernel":
            return f"a {size(got)} window where {size(wanted)} belongs"
        case "padding":
            return f"padding {_padding(got, layer)} where {_padding(wanted, layer)} belongs"
        case "groups" if wanted == "each":
            return f"{counted_as(got, 'group')} where there should be one for each channel"
        case "groups":
            groups = "one group for each channel" if got == "each" else counted_as(got, "group")
            return f"{groups} where {plainly(wanted)} belongs"
        case "bias":
            return "a bias where none belongs" if got else "no bias where one belongs"
        case "outputs" if got == -1:
            return f"as many outputs as inputs where {plainly(wanted)} belong"
        case "outputs":
            wanted_words = "as many as inputs" if wanted == -1 else plainly(wanted)
            return f"{counted_as(got, 'output')} where {wanted_words} belong{'s' if wanted == 1 else ''}"
        case "border":
            kinds = [BORDERS[int(each)] if isinstance(each, float | int) else "zeros" for each in (got, wanted)]
            return f"a border padded by {kinds[0]} where {kinds[1]} belong"
        case "batch":
            return (
                "the batch's own statistics where the running ones belong"
                if got
                else "the running statistics in train mode"
            )
        case "scale":
            return "no scale and shift to learn" if not got else "a scale and shift"
        case "own":
            return (
                "weights that are none of the network's parameters" if got == 0 else "weights worked out in each call"
            )
        case "eps" | "momentum":
            return f"{facet} {got:g} where {wanted:g} belongs"
        case "up":
            return (
                "an output size that is rounded up, not down" if got else "an output size that is rounded down, not up"
            )
        case "number":
            return f"the factor {plainly(got)} where {plainly(wanted)} belongs"
    return f"{facet} {plainly(got)} where {plainly(wanted)} belongs"


def counted_as(value: Facet, noun: str) -> str:
    return f"{plainly(value)} {noun}{'' if value == 1 else 's'}"


def family_word(layer: Layer) -> str:
    return "convolution" if layer.family == "convolution" else bare(layer)


def over_all(which: Facet) -> str:
    return f"global {which}" if which in ("average", "maximum") else str(which)


def article(word: str) -> str:
    if word.startswith("global") or word.endswith(" norm"):
        return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
    return word
