"""Just enough of Thrift's compact protocol to write Parquet's page headers and footer.

Specification: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from dataclasses import dataclass

I32, I64, BINARY, LIST, STRUCT = 5, 6, 8, 9, 12


@dataclass(frozen=True)
class Long:
    """A 64-bit integer; a plain `int` is written as 32 bits wide."""

    value: int


@dataclass(frozen=True)
class Struct:
    """Encoded bytes of a struct, so that it can be a field of another."""

    encoded: bytes


Value = int | Long | str | bytes | Struct | list["Value"]


def struct(fields: dict[int, Value | None]) -> Struct:
    """A struct from its field numbers (ascending) and values; a field that is None is left out."""
    encoded, before = bytearray(), 0
    for number, value in fields.items():
        if value is not None:
            kind, body = encode(value)
            delta = number - before
            encoded += bytes([delta << 4 | kind]) if delta < 16 else bytes([kind]) + varint(zigzag(number))
            encoded += body
            before = number
    return Struct(bytes(encoded) + b"\0")


def encode(value: Value) -> tuple[int, bytes]:
    """The type code of a value, and its bytes."""
    match value:
        case int():
            return I32, varint(zigzag(value))
        case Long(number):
            return I64, varint(zigzag(number))
        case str():
            return encode(value.encode())
        case bytes():
            return BINARY, varint(len(value)) + value
        case Struct(encoded):
            return STRUCT, encoded
    return LIST, encode_list(value)


def encode_list(values: list[Value]) -> bytes:
    encoded = [encode(value) for value in values]
    kind = encoded[0][0] if encoded else STRUCT
    size = bytes([len(values) << 4 | kind]) if len(values) < 15 else bytes([0xF0 | kind]) + varint(len(values))
    return size + b"".join(body for _, body in encoded)


def zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
