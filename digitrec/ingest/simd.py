"""Sixty-four bytes of CSV at once: digits to values, without a branch.

Written as LLVM vectors inside a Numba intrinsic, so that it becomes AVX-512 (with VBMI2's byte compression, about
4 bytes a cycle), AVX2 or NEON, whatever the processor has; LLVM spells out what it has not.

The idea: at the comma that ends a field, the field's last digits are one, two and three bytes back. So four loads,
shifted by one byte each, give every field's value at the position of its comma, and one compression brings the values
together. Classifying bytes into masks is from Langdale & Lemire, "Parsing Gigabytes of JSON per Second" (2019).
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 64
BYTE = ir.IntType(8)
MASK = ir.IntType(LANES)
VECTOR = ir.VectorType(BYTE, LANES)
BITS = ir.VectorType(ir.IntType(1), LANES)


def splat(value: int) -> ir.Constant:
    return ir.Constant(VECTOR, [value] * LANES)


class Lanes:
    """The few vector operations that are needed, on one IR builder."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def load(self, address: Any, back: int) -> Any:
        """The 64 bytes that begin `back` bytes before `address`."""
        builder = self.builder
        moved = builder.sub(address, ir.Constant(address.type, back))
        return builder.load(builder.inttoptr(moved, VECTOR.as_pointer()), align=1)

    def store(self, vector: Any, address: Any) -> None:
        self.builder.store(vector, self.builder.inttoptr(address, VECTOR.as_pointer()), align=1)

    def mask(self, comparison: str, vector: Any, value: int) -> Any:
        """Bit i tells whether lane i compares so (unsigned) with `value`."""
        return self.builder.bitcast(self.builder.icmp_unsigned(comparison, vector, splat(value)), MASK)

    def keep(self, vector: Any, mask: Any) -> Any:
        """`vector` where `mask` is set, else 0."""
        return self.builder.select(self.builder.bitcast(mask, BITS), vector, splat(0))

    def times_ten(self, vector: Any) -> Any:
        add = self.builder.add
        double = add(vector, vector)
        four = add(double, double)
        return add(add(four, four), double)

    def compress(self, vector: Any, mask: Any) -> Any:
        """The lanes whose mask bit is set, moved together to the front."""
        name = f"llvm.experimental.vector.compress.v{LANES}i8"
        function = self.builder.module.declare_intrinsic(name, (), ir.FunctionType(VECTOR, [VECTOR, BITS, VECTOR]))
        return self.builder.call(function, [vector, self.builder.bitcast(mask, BITS), splat(0)])

    def history(self, mask: Any, before: Any, back: int) -> Any:
        """Bit i is bit i - `back` of `mask`, running on from the block `before`."""
        builder = self.builder
        fresh = builder.shl(mask, ir.Constant(MASK, back))
        return builder.or_(fresh, builder.lshr(before, ir.Constant(MASK, LANES - back)))


def parse_lanes_typing(typing_context: Any, address: Any, digits_before: Any, out: Any) -> Any:
    """Parse the 64 bytes at `address` (as integer), up to the first line end among them.

    `digits_before` is the mask of digits of the 64 bytes before, 0 at the start of a row. Three bytes before `address`
    must be readable. Writes 64 bytes at `out`, of which the first `fields` are values: of the fields that end here.

    Returns four uint64 masks: of digits; of line ends; of delimiters up to the first line end; and one that is 0
    unless something is odd up to there: a byte that is no digit, comma or line end, an empty field, one of four digits
    or more, a value above 255.
    """
    u64 = types.uint64
    signature = types.UniTuple(u64, 4)(u64, u64, u64)
    return signature, emit_parse_lanes


def emit_parse_lanes(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    address, before, out = arguments
    lanes = Lanes(builder)
    digits, ends, delimiters, strange = emit_masks(lanes, address)
    once, twice, thrice, four_times = emit_runs(lanes, digits, before)
    zero = splat(ord("0"))
    units = builder.sub(lanes.load(address, 1), zero)
    tens = lanes.keep(builder.sub(lanes.load(address, 2), zero), twice)
    hundreds = lanes.keep(builder.sub(lanes.load(address, 3), zero), thrice)
    upper = builder.add(tens, lanes.times_ten(hundreds))
    values = builder.add(units, lanes.times_ten(upper))
    large = builder.or_(
        lanes.mask(">", upper, 25), builder.and_(lanes.mask("==", upper, 25), lanes.mask(">", units, 5))
    )
    wrong = builder.or_(builder.not_(once), builder.or_(four_times, large))
    odd = builder.or_(builder.and_(delimiters, wrong), strange)
    lanes.store(lanes.compress(values, delimiters), out)
    return context.make_tuple(builder, signature.return_type, (digits, ends, delimiters, odd))


def emit_masks(lanes: Lanes, address: Any) -> tuple[Any, Any, Any, Any]:
    """Masks of digits, of line ends, and, up to the first line end, of delimiters and of all other bytes."""
    builder = lanes.builder
    raw = lanes.load(address, 0)
    digits = lanes.mask("<", builder.sub(raw, splat(ord("0"))), 10)
    ends = builder.or_(lanes.mask("==", raw, ord("\n")), lanes.mask("==", raw, ord("\r")))
    row = builder.xor(ends, builder.sub(ends, ir.Constant(MASK, 1)))
    delimiters = builder.or_(lanes.mask("==", raw, ord(",")), ends)
    strange = builder.not_(builder.or_(digits, delimiters))
    return digits, ends, builder.and_(delimiters, row), builder.and_(strange, row)


def emit_runs(lanes: Lanes, digits: Any, before: Any) -> tuple[Any, Any, Any, Any]:
    """Masks of the lanes that have at least one, two, three and four digits right before them."""
    runs = [lanes.history(digits, before, 1)]
    for back in (2, 3, 4):
        runs.append(lanes.builder.and_(runs[-1], lanes.history(digits, before, back)))
    return runs[0], runs[1], runs[2], runs[3]


parse_lanes: Any = intrinsic(parse_lanes_typing)
