"""Sixteen numbers at once, in LLVM's own terms: what the engine's vector operations are written in.

Numba does not turn loops over units into vector code by itself. So Python writes the code of each operation here, once,
while Numba compiles a kernel that calls it. LLVM turns it into the instructions of the processor: one each with
AVX-512, two to four without. Results are the same on every processor to the bit: nothing is fused, and sums are taken
in a fixed order.

    Lanes      a vector of 16 while code is written; operators add instructions
    Variable   lanes in memory, which a loop or a branch changes
    Code       one operation: its arguments by number, loads and stores
    Rows       sixteen units of the loop: their rows of `near_f` and `near_i`

The operations say in NumPy what they do; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from envs.engine.state.layout import LANES

__all__ = [
    "INDEX",
    "INT",
    "INTS",
    "MASK",
    "REAL",
    "Code",
    "Lanes",
    "Rows",
    "Variable",
    "dot",
    "each_bit",
    "each_set",
    "operation",
]

# Numba's decorator has no types of its own: the functions that it makes take no context.
operation: Any = intrinsic

FLOATS = ir.VectorType(ir.FloatType(), LANES)
INTS = ir.VectorType(ir.IntType(32), LANES)
BITS = ir.VectorType(ir.IntType(1), LANES)
ADDRESSES = ir.VectorType(ir.PointerType(), LANES)
INDEX, REAL, INT, MASK = types.int64, types.float32, types.int32, types.int64  # of arguments


class Lanes:
    """Sixteen floats, integers or bits while LLVM code is written.

    Each method adds instructions, and returns the lanes of their result. With `a`, `b` as NumPy arrays [16]:

        a + b, a - b, a * b, a / b, -a      floats
        a.plus(b), a.minus(b), a.times(b)   integers: a + b, a - b, a * b
        a & b, a | b, ~a                    integers or bits
        a < b, a.equals(b), a.differs(b)    bits: a < b, a == b, a != b
        a.choose(b, c)                      np.where(a, b, c)
        a.at_least(b), a.at_most(b)         np.maximum(a, b), np.minimum(a, b)
        a.root()                            np.sqrt(a)
        a.whole(), a.real()                 a.astype(np.int32), a.astype(np.float32)
        a.pick([0, 2]), a.at(b)             a[[0, 2]], a[b]
        a.fold(f)                           one element: f of halves, f(a[:8], a[8:]) first
        a.first_bits(), a.bits_set()        lowest bit set, 0 for none; bits set of a.view(np.uint32)
        a.as_bit()                          1 << a
        a.any()                             a.any()
        a.to_mask()                         sum(1 << n for n in range(16) if a[n])
    """

    def __init__(self, builder: Any, value: Any):
        self.builder, self.value = builder, value

    def _other(self, other: Any) -> Any:
        if isinstance(other, Lanes):
            return other.value
        return ir.Constant(self.value.type, [other] * LANES)

    def _new(self, value: Any) -> Lanes:
        return Lanes(self.builder, value)

    def __add__(self, other: Any) -> Lanes:
        return self._new(self.builder.fadd(self.value, self._other(other)))

    def __sub__(self, other: Any) -> Lanes:
        return self._new(self.builder.fsub(self.value, self._other(other)))

    def __mul__(self, other: Any) -> Lanes:
        return self._new(self.builder.fmul(self.value, self._other(other)))

    def __truediv__(self, other: Any) -> Lanes:
        return self._new(self.builder.fdiv(self.value, self._other(other)))

    def __neg__(self) -> Lanes:
        return self._new(self.builder.fneg(self.value))

    def __and__(self, other: Any) -> Lanes:
        return self._new(self.builder.and_(self.value, self._other(other)))

    def __or__(self, other: Any) -> Lanes:
        return self._new(self.builder.or_(self.value, self._other(other)))

    def __invert__(self) -> Lanes:
        return self._new(self.builder.not_(self.value))

    def _compare(self, how: str, other: Any) -> Lanes:
        if self.value.type.element == ir.FloatType():
            return self._new(self.builder.fcmp_ordered(how, self.value, self._other(other)))
        return self._new(self.builder.icmp_signed(how, self.value, self._other(other)))

    def __lt__(self, other: Any) -> Lanes:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Lanes:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Lanes:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Lanes:
        return self._compare(">=", other)

    def equals(self, other: Any) -> Lanes:
        return self._compare("==", other)

    def differs(self, other: Any) -> Lanes:
        return self._compare("!=", other)

    def choose(self, if_set: Any, if_clear: Any) -> Lanes:
        """For bits: `if_set` where they are set, `if_clear` elsewhere. One of the two may be a number."""
        kind = next(value.value.type for value in (if_set, if_clear) if isinstance(value, Lanes))
        both = [v.value if isinstance(v, Lanes) else ir.Constant(kind, [v] * LANES) for v in (if_set, if_clear)]
        return self._new(self.builder.select(self.value, *both))

    def at_least(self, other: Any) -> Lanes:
        """The larger of the two."""
        return (self > other).choose(self, other)

    def at_most(self, other: Any) -> Lanes:
        """The smaller of the two."""
        return (self < other).choose(self, other)

    def root(self) -> Lanes:
        """The square root."""
        kind = ir.FunctionType(FLOATS, [FLOATS])
        function = self.builder.module.declare_intrinsic(f"llvm.sqrt.v{LANES}f32", fnty=kind)
        return self._new(self.builder.call(function, [self.value]))

    def pick(self, lanes: list[int]) -> Lanes:
        """The lanes of these numbers, which are known while code is written."""
        order = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
        return self._new(self.builder.shuffle_vector(self.value, self.value, order))

    def fold(self, combine: Callable[[Lanes, Lanes], Lanes]) -> Any:
        """One lane of all: the halves are combined until one lane is left."""
        vector, width = self, LANES
        while width > 1:
            width //= 2
            vector = combine(vector.pick(list(range(width))), vector.pick(list(range(width, 2 * width))))
        return self.builder.extract_element(vector.value, ir.Constant(ir.IntType(32), 0))

    def at(self, lanes: Lanes) -> Lanes:
        """In every lane the value of the lane that `lanes` names, 0 to 15.

        LLVM knows the pattern, and turns it into one instruction where the processor has one.
        """
        result = ir.Constant(self.value.type, ir.Undefined)
        for n in range(LANES):
            here = ir.Constant(ir.IntType(32), n)
            lane = self.builder.extract_element(self.value, self.builder.extract_element(lanes.value, here))
            result = self.builder.insert_element(result, lane, here)
        return self._new(result)

    def plus(self, other: Any) -> Lanes:
        """The sum of integers."""
        return self._new(self.builder.add(self.value, self._other(other)))

    def minus(self, other: Any) -> Lanes:
        """The difference of integers."""
        return self._new(self.builder.sub(self.value, self._other(other)))

    def times(self, other: Any) -> Lanes:
        """The product of integers."""
        return self._new(self.builder.mul(self.value, self._other(other)))

    def whole(self) -> Lanes:
        """For floats: the integers, rounded towards zero."""
        return self._new(self.builder.fptosi(self.value, INTS))

    def real(self) -> Lanes:
        """For integers: the floats."""
        return self._new(self.builder.sitofp(self.value, FLOATS))

    def first_bits(self) -> Lanes:
        """The number of the lowest bit set, 0 to 15; 0 where none is."""
        kind = ir.FunctionType(INTS, [INTS, ir.IntType(1)])
        function = self.builder.module.declare_intrinsic(f"llvm.cttz.v{LANES}i32", fnty=kind)
        zero_is_poison = ir.Constant(ir.IntType(1), 0)
        return self._new(self.builder.call(function, [self.value, zero_is_poison])) & (LANES - 1)

    def bits_set(self) -> Lanes:
        """How many bits of each integer are set."""
        function = self.builder.module.declare_intrinsic(f"llvm.ctpop.v{LANES}i32", fnty=ir.FunctionType(INTS, [INTS]))
        return self._new(self.builder.call(function, [self.value]))

    def as_bit(self) -> Lanes:
        """The integers whose only bit set is so numbered."""
        return self._new(self.builder.shl(ir.Constant(INTS, [1] * LANES), self.value))

    def any(self) -> Any:
        """For bits: whether any is set."""
        return self.builder.icmp_unsigned("!=", self.to_mask(), ir.Constant(ir.IntType(64), 0))

    def to_mask(self) -> Any:
        """For bits: an int64 with one bit a lane."""
        return self.builder.zext(self.builder.bitcast(self.value, ir.IntType(LANES)), ir.IntType(64))


class Variable:
    """Lanes that a loop or a branch changes."""

    def __init__(self, value: Lanes):
        self.builder = value.builder
        self.at = cgutils.alloca_once(self.builder, value.value.type)
        self.set(value)

    def get(self) -> Lanes:
        return Lanes(self.builder, self.builder.load(self.at))

    def set(self, value: Lanes) -> None:
        self.builder.store(value.value, self.at)


class Code:
    """The code of one operation: its arguments by number, as lanes."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any):
        self.context, self.builder, self.kinds, self.args = context, builder, signature.args, args

    def splat(self, scalar: Any) -> Lanes:
        """An LLVM scalar in every lane."""
        kind = ir.VectorType(scalar.type, LANES)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
        return Lanes(self.builder, self.builder.shuffle_vector(one, one, ir.Constant(INTS, None)))

    def spread(self, index: int) -> Lanes:
        """The scalar argument in every lane."""
        return self.splat(self.args[index])

    def bits(self, index: int) -> Lanes:
        """The mask argument as bits."""
        bits = self.builder.trunc(self.args[index], ir.IntType(LANES))
        return Lanes(self.builder, self.builder.bitcast(bits, BITS))

    def _kind(self, array: int) -> Any:
        """The lanes of an array argument: floats or integers."""
        return FLOATS if self.kinds[array].dtype == types.float32 else INTS

    def _element(self, array: int, offset: Any) -> Any:
        base = self.context.make_array(self.kinds[array])(self.context, self.builder, self.args[array]).data
        return self.builder.gep(base, [offset])

    def spread_element(self, array: int, offset: Any) -> Lanes:
        """Element `offset` of an array argument in every lane: np.full(16, array[offset])"""
        return self.splat(self.builder.load(self._element(array, offset)))

    def store_element(self, array: int, offset: Any, value: Any) -> None:
        """array[offset] = value"""
        self.builder.store(value, self._element(array, offset))

    def load(self, array: int, offset: Any) -> Lanes:
        """Sixteen elements of an array argument: array[offset : offset + 16]"""
        kind = self._kind(array)
        place = self.builder.bitcast(self._element(array, offset), kind.as_pointer())
        return Lanes(self.builder, self.builder.load(place, align=4))

    def store(self, array: int, offset: Any, lanes: Lanes) -> None:
        """array[offset : offset + 16] = lanes"""
        place = self.builder.bitcast(self._element(array, offset), lanes.value.type.as_pointer())
        self.builder.store(lanes.value, place, align=4)

    def store_packed(self, array: int, offset: Any, lanes: Lanes, active: Lanes) -> None:
        """Stores the lanes that are `active` side by side: array[offset : offset + active.sum()] = lanes[active]

        The elements behind them, up to the sixteenth, may change too.
        """
        kind, builder = self._kind(array), self.builder
        if self.has_avx512():
            name = f"llvm.x86.avx512.mask.compress.v{LANES}{'f' if kind is FLOATS else 'i'}32"
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind, kind, BITS]), name)
            packed = builder.call(function, [lanes.value, ir.Constant(kind, None), active.value])
            self.store(array, offset, Lanes(builder, packed))
        else:
            name = f"llvm.masked.compressstore.v{LANES}{'f' if kind is FLOATS else 'i'}32"
            shape = ir.FunctionType(ir.VoidType(), [kind, ir.PointerType(), BITS])
            function = cgutils.get_or_insert_function(builder.module, shape, name)
            builder.call(function, [lanes.value, self._element(array, offset), active.value])

    def _addresses(self, array: int, elements: Lanes, offset: int) -> Any:
        """Where elements `elements + offset` of an array argument lie."""
        base = self._element(array, ir.Constant(ir.IntType(64), offset))
        element = self._kind(array).element
        gep = ir.GEPInstr(self.builder.block, base, [elements.value], False, "", source_etype=element)
        gep.type = ADDRESSES
        self.builder._insert(gep)
        return gep

    def gather(self, array: int, elements: Lanes, offset: int, active: Lanes) -> Lanes:
        """Elements of an array argument: np.where(active, array[elements + offset], 0)"""
        kind, builder, small = self._kind(array), self.builder, ir.IntType(32)
        zeros = ir.Constant(kind, None)
        if self.has_avx512():
            name = f"llvm.x86.avx512.mask.gather.dp{'s' if kind is FLOATS else 'i'}.512"
            shape = ir.FunctionType(kind, [kind, ir.PointerType(), INTS, BITS, small])
            base = self._element(array, ir.Constant(ir.IntType(64), offset))
            arguments = [zeros, base, elements.value, active.value, ir.Constant(small, 4)]
        else:
            name = f"llvm.masked.gather.v{LANES}{'f' if kind is FLOATS else 'i'}32.v{LANES}p0"
            shape = ir.FunctionType(kind, [ADDRESSES, small, BITS, kind])
            arguments = [self._addresses(array, elements, offset), ir.Constant(small, 4), active.value, zeros]
        function = cgutils.get_or_insert_function(builder.module, shape, name)
        return Lanes(builder, builder.call(function, arguments))

    def scatter(self, array: int, elements: Lanes, offset: int, lanes: Lanes, active: Lanes) -> None:
        """Stores into elements of an array argument: array[elements[active] + offset] = lanes[active]"""
        kind, builder, small = self._kind(array), self.builder, ir.IntType(32)
        if self.has_avx512():
            name = f"llvm.x86.avx512.mask.scatter.dp{'s' if kind is FLOATS else 'i'}.512"
            shape = ir.FunctionType(ir.VoidType(), [ir.PointerType(), BITS, INTS, kind, small])
            base = self._element(array, ir.Constant(ir.IntType(64), offset))
            arguments = [base, active.value, elements.value, lanes.value, ir.Constant(small, 4)]
        else:
            name = f"llvm.masked.scatter.v{LANES}{'f' if kind is FLOATS else 'i'}32.v{LANES}p0"
            shape = ir.FunctionType(ir.VoidType(), [kind, ADDRESSES, small, BITS])
            arguments = [lanes.value, self._addresses(array, elements, offset), ir.Constant(small, 4), active.value]
        function = cgutils.get_or_insert_function(builder.module, shape, name)
        builder.call(function, arguments)

    def has_avx512(self) -> bool:
        """Whether the processor has the instructions that gather and scatter by 32-bit indices.

        LLVM takes the slower ones with 64-bit addresses where an index is used in several blocks.
        """
        _, _, features = self.context.codegen().magic_tuple()
        return "+avx512f" in features.split(",")

    def constant(self, value: float | int) -> Lanes:
        """The number in every lane: floats of a float, integers of an int."""
        kind = FLOATS if isinstance(value, float) else INTS
        return Lanes(self.builder, ir.Constant(kind, [value] * LANES))


class Rows:
    """Sixteen units: the places from `at` on in the rows of `near_f` and `near_i`, both [rows, places].

    These two are the array arguments 0 and 1. Where `near_i` is the only one, `ints` is 0. `load(row)` is near_f[row,
    at : at + 16].
    """

    def __init__(self, code: Code, at: Any, places: Any, ints: int = 1):
        self.code, self.start, self.places, self.ints = code, at, places, ints

    def row(self, number: Any) -> Any:
        """Where row `number`, an int or an argument, begins for these places."""
        builder = self.code.builder
        number = ir.Constant(ir.IntType(64), number) if isinstance(number, int) else number
        return builder.add(self.start, builder.mul(self.places, number))

    def load(self, number: Any) -> Lanes:
        return self.code.load(0, self.row(number))

    def load_int(self, number: int) -> Lanes:
        return self.code.load(self.ints, self.row(number))

    def store(self, number: int, lanes: Lanes) -> None:
        self.code.store(0, self.row(number), lanes)

    def store_int(self, number: int, lanes: Lanes) -> None:
        self.code.store(self.ints, self.row(number), lanes)


def dot(ax: Lanes, bx: Lanes, ay: Lanes, by: Lanes) -> Lanes:
    """ax * bx + ay * by"""
    return ax * bx + ay * by


def _while(builder: Any, more: Callable[[], Any], turn: Callable[[], None]) -> None:
    """The code of a loop: `turn()` as long as `more()`."""
    body, after = (builder.append_basic_block(name) for name in ("turn", "turns.end"))
    builder.cbranch(more(), body, after)
    builder.position_at_end(body)
    turn()
    builder.cbranch(more(), body, after)
    builder.position_at_end(after)


def each_bit(code: Code, masks: Lanes, look: Callable[[Lanes, Lanes], None]) -> None:
    """Calls `look(number, active)` in a loop, until no lane of `masks` has a bit left.

    At its n-th turn, `number` is that of each lane's n-th bit set, lowest first. Lanes with fewer bits are not
    `active`.

        while masks.any():
            look(lowest bit set of each, masks != 0)
            masks = masks & (masks - 1)
    """
    left = Variable(masks)

    def turn() -> None:
        bits = left.get()
        look(bits.first_bits(), bits.differs(0))
        left.set(bits & bits.plus(-1))

    _while(code.builder, lambda: left.get().differs(0).any(), turn)


def each_set(code: Code, mask: Any, look: Callable[[Any], None]) -> None:
    """Calls `look(number)` in a loop for each bit set of an int64, lowest first."""
    builder, kind = code.builder, mask.type
    left = cgutils.alloca_once_value(builder, mask)

    def turn() -> None:
        bits = builder.load(left)
        look(builder.cttz(bits, ir.Constant(ir.IntType(1), 1)))
        builder.store(builder.and_(bits, builder.sub(bits, ir.Constant(kind, 1))), left)

    _while(builder, lambda: builder.icmp_unsigned("!=", builder.load(left), ir.Constant(kind, 0)), turn)
