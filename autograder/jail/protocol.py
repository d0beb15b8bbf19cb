"""The wire protocol: calls and answers as frames of raw values. Nothing is ever unpickled.

    frame = magic, index, status, length of the note, number of values, length of the body | note | body
    value = length of the name, kind, number of dimensions, length of the payload | dimensions | name | payload

A kind is a row of KINDS or DTYPES. The reader takes bytes as they come, in pieces of any size, and checks every number
against its `Limits` before it keeps a byte of what the number announces. Whatever is not exactly such a frame raises
Flood: the one who sent it may be hostile, and is not listened to any more.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

MAGIC = b"HW7\x01"
_FRAME = struct.Struct("<4sQBHIQ")
_VALUE = struct.Struct("<BBBQ")
MAX_DIMS = 8
MAX_SIZE = 2**40  # entries along the dimensions that are not 0: far from where any product overflows

KINDS = {"none": 0, "bool": 1, "int": 2, "float": 3, "str": 4, "ints": 5, "bytes": 6}
_SCALARS = {KINDS["bool"]: (bool, "<?"), KINDS["int"]: (int, "<q"), KINDS["float"]: (float, "<d")}
DTYPES = dict(enumerate((
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
), start=16))  # fmt: skip
_CODES = {dtype: code for code, dtype in DTYPES.items()}
TEXT = _CODES[torch.uint8]  # the kind of a tensor that is a text's bytes

EXIT_WITHOUT_MEMORY = 90  # how a process ends that has no memory left to read a call or to answer

LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # where str.splitlines cuts, as nbformat does
LINE_BYTES = 100  # of memory, that each line takes beside its letters once a notebook is written


def weight(text: str) -> int:
    """What an output's text takes of the room for output, in bytes: its lines count, too."""
    return len(text.encode("utf-8", "replace")) + LINE_BYTES * sum(map(text.count, LINE_ENDS))


class Flood(Exception):
    """More, larger or other records than may come. The message says which, for the teacher."""


class Unsendable(ValueError):
    """A value that has no place in a frame, and its name there."""

    name = ""


@dataclass(frozen=True)
class Limits:
    """What may come: by frame (values, bytes of the body and of the note) and in all. Where an index has a bound of its
    own (`Reader.expect`), that takes the place of the first two."""

    values: int = 4096
    body: int = 16 * 2**20
    total: int = 64 * 2**20
    note: int = 8192  # bytes: 2,000 characters of any script
    name: int = 255
    statuses: int = 6  # 0 .. 5 are what the side that runs the submission may say
    kinds: frozenset[int] = frozenset(DTYPES)  # answers are tensors


TRUSTED = Limits(2**16, 2**40, 2**50, 2**16 - 1, 255, 1, frozenset(DTYPES) | frozenset(KINDS.values()))
"""For the way in, where the grader writes and the jailed process reads."""


@dataclass(frozen=True)
class Record:
    """A frame that was read: an answer's index, status, tensors and note, or a call's index, inputs and program."""

    index: int
    status: int
    note: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(self.values.values())


# ---- writing ---------------------------------------------------------------------------------------------------


def encode(index: int, status: int, note: str, values: Mapping[str, Any]) -> bytes:
    """One frame. Raises Unsendable for a value of another kind than those of `cases.Value` and bytes."""
    body = b"".join(part for name, value in values.items() for part in _value(name, value))
    text = note.encode("utf-8", "replace")[: Limits.note]
    return _FRAME.pack(MAGIC, index, status, len(text), len(values), len(body)) + text + body


def _value(name: str, value: Any) -> tuple[bytes, ...]:
    label = name.encode()
    try:
        if len(label) > Limits.name:
            raise Unsendable(f"a name of {len(label)} bytes")
        kind, dims, payload = _payload(value)
    except Unsendable as error:
        error.name = name
        raise
    sizes = struct.pack(f"<{len(dims)}Q", *dims)
    return _VALUE.pack(len(label), kind, len(dims), len(payload)), sizes, label, payload


def _payload(value: Any) -> tuple[int, tuple[int, ...], bytes]:
    """Kind, dimensions and bytes."""
    if isinstance(value, Tensor):
        return _tensor_payload(value)
    try:
        for kind, (scalar, form) in _SCALARS.items():  # bool before int, which it is, too
            if isinstance(value, scalar):
                return kind, (), struct.pack(form, value)
        match value:
            case None:
                return KINDS["none"], (), b""
            case str():
                return KINDS["str"], (), value.encode()
            case bytes():
                return KINDS["bytes"], (), value
            case tuple() | list():
                return KINDS["ints"], (len(value),), struct.pack(f"<{len(value)}q", *value)
    except (struct.error, UnicodeEncodeError) as error:
        raise Unsendable(f"{value!r}: {error}") from error
    raise Unsendable(f"a {type(value).__name__} cannot be sent")


def _tensor_payload(tensor: Tensor) -> tuple[int, tuple[int, ...], bytes]:
    if tensor.dtype not in _CODES or tensor.layout is not torch.strided or tensor.dim() > MAX_DIMS:
        raise Unsendable(f"a tensor of {tensor.dtype}, {tensor.layout}, {tensor.dim()} dimensions cannot be sent")
    shape = tuple(tensor.shape)
    if tensor.numel() == 0:
        return _CODES[tensor.dtype], shape, b""
    flat = tensor.detach().cpu().resolve_neg().contiguous().reshape(-1)
    return _CODES[tensor.dtype], shape, flat.view(torch.uint8).numpy().tobytes()


# ---- reading ---------------------------------------------------------------------------------------------------


class Reader:
    """Takes bytes as they come and gives the frames that are whole. After a Flood it is of no more use."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._total = 0
        self._bounds: Mapping[int, tuple[int, int]] = {}
        self._most_in_all = limits.total
        self._buffer = bytearray()

    def expect(self, bounds: Mapping[int, tuple[int, int]]) -> None:
        """Starts counting the bytes in all anew. bounds: values and bytes of the body that may come, by index."""
        self._total, self._bounds = 0, bounds
        self._most_in_all = max(self._limits.total, sum(size for _, size in bounds.values()))

    def feed(self, data: bytes | memoryview) -> Iterator[Record]:
        """The frames that these bytes complete. Raises Flood."""
        self._buffer += data
        while len(self._buffer) >= _FRAME.size:
            needed = _FRAME.size + self._announced()
            if len(self._buffer) < needed:
                return
            frame, self._buffer = bytes(self._buffer[:needed]), self._buffer[needed:]
            self._total += needed
            yield _parse(frame, self._limits)

    def _announced(self) -> int:
        """Bytes that follow the head, once all it says is within the limits."""
        limits = self._limits
        magic, index, status, note, values, body = _FRAME.unpack_from(self._buffer)
        if magic != MAGIC:
            raise Flood("bytes that are no frame")
        if status >= limits.statuses:
            raise Flood(f"status {status}")
        most_values, most_bytes = self._bounds.get(index, (limits.values, limits.body))
        for what, number, limit in (
            ("values", values, most_values),
            ("bytes of a note", note, limits.note),
            ("bytes in one answer", body, most_bytes),
            ("bytes in all", self._total + body, self._most_in_all),
        ):
            if number > limit:
                raise Flood(f"{number:,} {what}, at most {limit:,}")
        return int(note + body)


def _parse(frame: bytes, limits: Limits) -> Record:
    view, position = memoryview(frame), 0

    def take(length: int) -> memoryview:
        nonlocal position
        if length > len(view) - position:
            raise Flood("a value that is longer than its frame")
        position += length
        return view[position - length : position]

    _, index, status, note_length, count, _ = _FRAME.unpack(take(_FRAME.size))
    note = str(take(note_length), "utf-8", "replace")
    values: dict[str, Any] = {}
    for number in range(count):
        name_length, kind, dims, length = _VALUE.unpack(take(_VALUE.size))
        if kind not in limits.kinds:
            raise Flood(f"a value of kind {kind}")
        if dims > MAX_DIMS:
            raise Flood(f"{dims} dimensions, at most {MAX_DIMS}")
        shape = struct.unpack(f"<{dims}Q", take(8 * dims))
        name = str(take(name_length), "utf-8", "replace") or str(number)
        if name in values:
            raise Flood("two values of one name")
        values[name] = _read_value(kind, shape, take(length))
    if position != len(frame):
        raise Flood("bytes after the last value")
    return Record(index, status, note, values)


def _read_value(kind: int, shape: tuple[int, ...], payload: memoryview) -> Any:
    if kind in DTYPES:
        return _read_tensor(DTYPES[kind], shape, payload)
    try:
        if kind in _SCALARS:
            return struct.unpack(_SCALARS[kind][1], payload)[0]
        if kind == KINDS["ints"]:
            return struct.unpack(f"<{len(payload) // 8}q", payload)
        if kind == KINDS["none"]:
            return None
        return str(payload, "utf-8") if kind == KINDS["str"] else bytes(payload)
    except (struct.error, UnicodeDecodeError) as error:
        raise Flood(f"a value that cannot be read: {error}") from error


def _read_tensor(dtype: torch.dtype, shape: tuple[int, ...], payload: memoryview) -> Tensor:
    if math.prod(max(size, 1) for size in shape) > MAX_SIZE:
        raise Flood(f"a shape of {shape}")
    if math.prod(shape) * dtype.itemsize != len(payload):
        raise Flood(f"{len(payload):,} bytes for a shape of {shape} of {dtype}")
    if not payload:
        return torch.empty(shape, dtype=dtype)
    if dtype is torch.bool:  # a byte that is neither 0 nor 1 would be a bool that is neither
        return (torch.frombuffer(bytearray(payload), dtype=torch.uint8) != 0).reshape(shape)
    return torch.frombuffer(bytearray(payload), dtype=dtype).reshape(shape)
