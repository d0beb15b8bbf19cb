"""The frames between grader and jail: what is sent comes back the same; whatever else comes is a Flood, never more."""

import math
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.jail.protocol import (
    _FRAME,
    _VALUE,
    DTYPES,
    MAGIC,
    TRUSTED,
    Flood,
    Limits,
    Reader,
    Record,
    Unsendable,
    encode,
)  # fmt: skip

QUICK = settings(max_examples=200, deadline=None)  # no deadline: the machine that tests may be busy

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=20).filter(lambda text: text.isprintable()),
    st.binary(max_size=20),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4).map(tuple),
)
tensors = st.builds(
    lambda dtype, shape, seed: (
        torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed)) * (seed % 7)
    ).to(dtype),
    st.sampled_from(list(DTYPES.values())),
    st.lists(st.integers(0, 3), max_size=8).map(tuple),
    st.integers(0, 100),
)


def read(data: bytes, limits: Limits = TRUSTED, step: int = 0) -> list[Record]:
    reader = Reader(limits)
    pieces = [data[i : i + step] for i in range(0, len(data), step)] if step else [data]
    return [record for piece in pieces for record in reader.feed(piece)]


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and a == b


@QUICK
@given(
    st.integers(0, 2**64 - 1),
    st.text(max_size=30).filter(lambda text: text.isprintable()),
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.one_of(values, tensors), max_size=4),
    st.integers(0, 50),
)
def test_what_is_sent_comes_back(index: int, note: str, sent: dict[str, object], step: int) -> None:
    (record,) = read(encode(index, 0, note, sent), step=step)
    assert (record.index, record.status, record.note) == (index, 0, note)
    assert list(record.values) == list(sent)
    assert all(same(sent[name], record.values[name]) for name in sent)


@QUICK
@given(st.binary(max_size=400), st.integers(0, 30))
def test_noise_is_a_flood_or_not_whole(data: bytes, step: int) -> None:
    """Nothing but Flood is ever raised, and no record comes of bytes that do not begin with the magic ones."""
    try:
        assert read(data, Limits(), step) == []
    except Flood:
        assert len(data) >= _FRAME.size


@QUICK
@given(tensors, st.data())
def test_one_byte_changed(tensor: torch.Tensor, data: st.DataObject) -> None:
    """A frame with one wrong byte is another frame, unfinished, or a Flood."""
    frame = bytearray(encode(3, 0, "note", {"0": tensor}))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        for record in read(bytes(frame), Limits()):
            assert all(isinstance(value, torch.Tensor) for value in record.tensors)
    except Flood:
        pass


@QUICK
@given(st.binary(max_size=200), st.integers(0, 3))
def test_any_body_is_a_record_of_tensors_or_a_flood(body: bytes, count: int) -> None:
    frame = _FRAME.pack(MAGIC, 0, 0, 0, count, len(body)) + body
    try:
        for record in read(frame, Limits()):
            assert len(record.tensors) == count
    except Flood:
        pass


def _value(
    kind: int, shape: tuple[int, ...], payload: bytes, *, length: int | None = None, dims: int | None = None
) -> bytes:
    head = _VALUE.pack(0, kind, len(shape) if dims is None else dims, len(payload) if length is None else length)
    return head + struct.pack(f"<{len(shape)}Q", *shape) + payload


def _frame(body: bytes = b"", *, status: int = 0, note: int = 0, count: int = 1, length: int | None = None) -> bytes:
    return _FRAME.pack(MAGIC, 0, status, note, count, len(body) if length is None else length) + b" " * note + body


FLOAT32 = next(code for code, dtype in DTYPES.items() if dtype is torch.float32)
FLOODS = {
    "no frame": b"Traceback (most recent call last)",
    "a pickle": b"\x80\x04\x95" + b"x" * 40,
    "a status of the other side": _frame(status=6, count=0),
    "a body of an exabyte": _frame(length=2**60),
    "a body just over the limit": _frame(length=Limits().body + 1),
    "a note over the limit": _frame(note=Limits().note + 1, count=0),
    "too many values": _frame(count=Limits().values + 1, length=8),
    "a value that is longer than its frame": _frame(_value(FLOAT32, (1,), b"1234", length=8)),
    "a value without its head": _frame(b"xx"),
    "nine dimensions": _frame(_value(FLOAT32, (1,) * 9, b"1234")),
    "255 dimensions, none of which comes": _frame(_value(FLOAT32, (), b"", dims=255)),
    "a shape that its bytes do not fill": _frame(_value(FLOAT32, (2,), b"1234")),
    "a shape whose product overflows": _frame(_value(FLOAT32, (2**33, 2**33), b"")),
    "a shape with 0 whose product overflows": _frame(_value(FLOAT32, (0, 2**62, 2**62), b"")),
    "an unknown dtype": _frame(_value(200, (1,), b"1234")),
    "a text where a tensor belongs": _frame(_value(4, (), b"text")),
    "bytes after the last value": _frame(_value(FLOAT32, (1,), b"1234") + b"x"),
    "two values of one name": _frame(2 * (_VALUE.pack(1, FLOAT32, 0, 4) + b"a1234"), count=2),
}  # fmt: skip


@pytest.mark.parametrize("data", FLOODS.values(), ids=FLOODS)
def test_floods(data: bytes) -> None:
    with pytest.raises(Flood):
        read(data, Limits())


def test_announced_bytes_are_not_allocated() -> None:
    """A frame that announces the limit and sends nothing holds its own few bytes."""
    reader = Reader(Limits())
    assert list(reader.feed(_frame(length=Limits().body))) == []
    assert len(reader._buffer) == _FRAME.size


def test_bytes_in_all() -> None:
    frame = encode(0, 0, "", {"0": torch.zeros(100)})
    reader = Reader(Limits(total=2 * len(frame)))
    assert len(list(reader.feed(2 * frame))) == 2
    with pytest.raises(Flood, match="in all"):
        list(reader.feed(frame))
    reader = Reader(Limits(total=2 * len(frame)))
    for _ in range(5):
        reader.expect({})
        assert len(list(reader.feed(2 * frame))) == 2


def test_an_answer_is_held_to_its_own_bound() -> None:
    """Before its bytes are there, by its index; what has no bound of its own is held to the limits of all."""
    large = encode(7, 0, "", {"0": torch.zeros(100)})
    many = encode(7, 0, "", {str(number): torch.zeros(1) for number in range(4)})
    for frame, bound in ((large, (1, 399)), (many, (3, 10**6))):
        reader = Reader(Limits())
        reader.expect({7: bound, 8: (9, 10**9)})
        with pytest.raises(Flood, match="at most"):
            list(reader.feed(frame[: _FRAME.size]))
        reader = Reader(Limits())
        reader.expect({6: bound})
        assert len(list(reader.feed(frame))) == 1
    reader = Reader(Limits(body=100, total=100))
    reader.expect({7: (1, 500)})  # asked for, so it may be more than anybody may send
    assert len(list(reader.feed(large))) == 1


def test_a_bool_is_0_or_1() -> None:
    code = next(code for code, dtype in DTYPES.items() if dtype is torch.bool)
    (record,) = read(_frame(_value(code, (3,), b"\x00\x02\xff")), Limits())
    assert record.tensors[0].view(torch.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(2, dtype=torch.complex64), torch.zeros((1,) * 9), torch.zeros(3, 3).to_sparse(), 2**63, object(),
        ("a",), 1j, "\ud800",
    ],
    ids=["complex", "nine dimensions", "sparse", "large int", "object", "strings", "complex number", "surrogate"],
)  # fmt: skip
def test_what_cannot_be_sent(value: object) -> None:
    with pytest.raises(Unsendable):
        encode(0, 0, "", {"x": value})


def test_views_are_sent_as_what_they_show() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    for view in (base.T, base[:, ::2], base[1], base.expand(2, 3, 4), base[0, 0]):
        (record,) = read(encode(0, 0, "", {"": view}))
        assert torch.equal(record.tensors[0], view)
