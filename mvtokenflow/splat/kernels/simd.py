"""Fixed-width vectors for compiled code: `LANES` floats in registers.

Numba leaves vectorisation to the compiler, which fails on the short loops of a rasterizer (arrays may
alias, libm's exp is scalar). Here the vector is a type of its own: arithmetic, comparison, selection, memory
access and e^x act on all lanes at once. Scalars of the vector's float type mix with vectors. All functions run
in compiled code only. NaN and infinity keep their meaning; sums may be reordered and fused.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]  # it ships no types
from numba import types
from numba.extending import intrinsic, models, overload, register_model

from mvtokenflow.base.compiled import compiled

LANES = 16  # one AVX-512 register of float32; 8 took a quarter more time there
_FLAGS = ("nsz", "arcp", "contract", "reassoc")


def kernel(*, parallel: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function on its first call, keep its machine code on disk and release the interpreter lock."""
    return compiled(with_package=True, nogil=True, parallel=parallel)


def _device(function: Callable[..., Any]) -> Any:
    """Wrap Numba's `intrinsic`, whose own types drop the typing context from the call."""
    return intrinsic(function)


class Lanes(types.Type):
    """Numba type of `LANES` numbers of one float type, or of truth values."""

    def __init__(self, element: Any) -> None:
        self.element = element
        super().__init__(name=f"Lanes({element}x{LANES})")


_MASK = Lanes(types.boolean)


def _vector(element: Any) -> ir.VectorType:
    kinds = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.boolean: ir.IntType(1)}
    return ir.VectorType(kinds[element], LANES)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, _vector(kind.element))  # type: ignore[no-untyped-call]  # numba


def _constant(vector: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(vector, [value] * LANES)


def _spread(builder: ir.IRBuilder, value: Any, vector: ir.VectorType) -> Any:
    """Broadcast the scalar `value` to all lanes; a vector stays as it is."""
    if isinstance(value.type, ir.VectorType):
        return value
    index = ir.IntType(32)
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), value, index(0))
    order = ir.Constant(ir.VectorType(index, LANES), [0] * LANES)
    return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), order)


def _shared_kind(a: Any, b: Any) -> Lanes | None:
    """Return the vector type of a binary operation; None where no operand is a `Lanes`."""
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Lanes) and one.element != types.boolean and other in (one, one.element):
            return one
    return None


def _arithmetic(name: str) -> Any:
    @_device
    def act(typing_context: Any, a: Any, b: Any) -> Any:
        kind = _shared_kind(a, b)
        if kind is None:
            return None

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            vector = _vector(signature.return_type.element)
            left, right = (_spread(builder, value, vector) for value in arguments)
            return getattr(builder, name)(left, right, flags=_FLAGS)

        return kind(a, b), generate

    return act


def _comparison(sign: str) -> Any:
    @_device
    def act(typing_context: Any, a: Any, b: Any) -> Any:
        kind = _shared_kind(a, b)
        if kind is None:
            return None

        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            vector = _vector(kind.element)
            left, right = (_spread(builder, value, vector) for value in arguments)
            return builder.fcmp_ordered(sign, left, right)

        return _MASK(a, b), generate

    return act


def _register(operation: Any, act: Any) -> None:
    @overload(operation, inline="always")
    def choose(a: Any, b: Any) -> Any:
        if _shared_kind(a, b) is None:
            return None

        def apply(a: Any, b: Any) -> Any:  # numba compares the two signatures, annotations included
            return act(a, b)

        return apply


for _operation, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _register(_operation, _arithmetic(_name))
for _operation, _name in ((operator.ge, ">="), (operator.le, "<="), (operator.gt, ">"), (operator.lt, "<")):
    _register(_operation, _comparison(_name))


@_device
def both(typing_context: Any, a: Any, b: Any) -> Any:
    """Logical and of two masks."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return builder.and_(*arguments)

    return _MASK(a, b), generate


@_device
def select(typing_context: Any, mask: Any, a: Any, b: Any) -> Any:
    """Choose `a` where the mask is true, else `b`; one of them may be a scalar."""
    kind = _shared_kind(a, b)
    if kind is None:
        return None

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        vector = _vector(signature.return_type.element)
        chosen, other = (_spread(builder, value, vector) for value in arguments[1:])
        return builder.select(arguments[0], chosen, other)

    return kind(mask, a, b), generate


@_device
def ramp(typing_context: Any, scalar: Any) -> Any:
    """Vector 0, 1, 2, ... in the float type of `scalar`."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_vector(scalar), [float(lane) for lane in range(LANES)])

    return Lanes(scalar)(scalar), generate


@_device
def fill(typing_context: Any, scalar: Any) -> Any:
    """Broadcast `scalar` to all lanes."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return _spread(builder, arguments[0], _vector(scalar))

    return Lanes(scalar)(scalar), generate


def _address(context: Any, builder: ir.IRBuilder, array_type: Any, array: Any, start: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [start]), _vector(array_type.dtype).as_pointer())


@_device
def load(typing_context: Any, array: Any, start: Any) -> Any:
    """Load `array[start : start + LANES]` of a contiguous 1-D array; the caller checks bounds."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        size = context.get_abi_sizeof(context.get_value_type(array.dtype))
        return builder.load(_address(context, builder, array, *arguments), align=size)

    return Lanes(array.dtype)(array, types.intp), generate


@_device
def store(typing_context: Any, array: Any, start: Any, value: Any) -> Any:
    """Store all lanes to `array[start : start + LANES]`."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        size = context.get_abi_sizeof(context.get_value_type(array.dtype))
        builder.store(arguments[2], _address(context, builder, array, *arguments[:2]), align=size)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def _named(builder: ir.IRBuilder, name: str, result: Any, arguments: list[Any]) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, arguments, fastmath=_FLAGS)


def _suffix(element: Any) -> str:
    return f"v{LANES}f{element.bitwidth}"


@_device
def magnitude(typing_context: Any, value: Any) -> Any:
    """Absolute value of each lane."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        return _named(builder, f"llvm.fabs.{_suffix(value.element)}", arguments[0].type, [arguments[0]])

    return value(value), generate


@_device
def total(typing_context: Any, value: Any) -> Any:
    """Sum over the lanes."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        scalar = arguments[0].type.element
        name = f"llvm.vector.reduce.fadd.{_suffix(value.element)}"
        return _named(builder, name, scalar, [ir.Constant(scalar, -0.0), arguments[0]])

    return value.element(value), generate


@_device
def exp_minus(typing_context: Any, value: Any) -> Any:
    """Compute e^(−x) for 0 ≤ x ≤ 80, to a few units in the last place where x is at most 6."""
    single = value.element == types.float32
    bits, mantissa, bias, terms = (32, 23, 127, 7) if single else (64, 52, 1023, 13)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        (x,) = arguments
        vector = x.type
        # e^(−x) = 2^(−n) e^r with n = round(x / ln 2), |r| ≤ ln 2 / 2; x + 1/2 is truncated.
        scaled = builder.fmul(x, _constant(vector, math.log2(math.e)), flags=_FLAGS)
        shifted = builder.fadd(scaled, _constant(vector, 0.5), flags=_FLAGS)
        whole = builder.fptosi(shifted, ir.VectorType(ir.IntType(32), LANES))
        steps = builder.sitofp(whole, vector)
        rest = builder.fsub(builder.fmul(steps, _constant(vector, math.log(2)), flags=_FLAGS), x, flags=_FLAGS)
        series = _constant(vector, 1 / math.factorial(terms))
        for k in range(terms - 1, -1, -1):
            series = builder.fmul(series, rest, flags=_FLAGS)
            series = builder.fadd(series, _constant(vector, 1 / math.factorial(k)), flags=_FLAGS)
        integers = ir.VectorType(ir.IntType(bits), LANES)
        exponent = whole if bits == 32 else builder.sext(whole, integers)
        exponent = builder.sub(ir.Constant(integers, [bias] * LANES), exponent)
        exponent = builder.shl(exponent, ir.Constant(integers, [mantissa] * LANES))
        return builder.fmul(series, builder.bitcast(exponent, vector), flags=_FLAGS)

    return value(value), generate
