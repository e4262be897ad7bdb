"""Calls of compiled functions through their addresses.

If compiled code calls another compiled function by name, the callee is optimised and translated
again with every caller, and with each region of a parallel caller. Through its address, a function
is compiled once, and all kernels share one untyped parallel function.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, prange, typeof, types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels._compiler import inner, njit, overload
from kernels._threads import count_up, thread_count

_addresses: dict[tuple[Any, ...], int] = {}


def get_function_address(function, args, *key):
    """Return the address of a kernel ``function(args, start, stop)``; compile it at the first use.

    Parameters
    ----------
    function : callable
        Decorated with `kernels._compiler.by_address`, or `inner` if only compiled code asks.
    args : tuple
        First argument of the kernel, which `run_chunks` passes.
    *key : dtype
        The dtypes that determine the types in `args`.

    Returns
    -------
    int
        The address for `run_chunks`; the function itself if compilation is disabled.
    """
    if config.DISABLE_JIT:
        return function
    address = _addresses.get((function, key))
    if address is None:
        signature = typeof(args), types.int64, types.int64
        function.compile(signature)
        compiled = function.overloads[signature]
        address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
        if not address:
            raise TypeError(f"expected a function decorated with `by_address`, got {function}")
        _addresses[function, key] = address
    return address


@overload(get_function_address)
def _jit_get_function_address(function, args, *key):
    return lambda function, args, *key: _function_address(function, args)


def _link(context, dispatcher, args):
    """Compile a function for types, and link it into the code that is being compiled."""
    dispatcher.compile(args)
    compiled = dispatcher.overloads[args]
    context.active_code_library.add_linking_library(compiled.library)
    return compiled


@intrinsic
def _function_address(context, function, args):
    signature = types.intp(function, args)

    def emit(context, builder, signature, values):
        called = signature.args[1], types.int64, types.int64
        compiled = _link(context, signature.args[0].dispatcher, called)
        callee = context.declare_function(builder.module, compiled.fndesc)
        return builder.ptrtoint(callee, context.get_value_type(types.intp))

    return signature, emit


_INT = ir.IntType(64)


@intrinsic
def call_address(context, address, *args):
    """Call a function through its address; its arguments are integers, as of `emit_function`."""

    def emit(context, builder, signature, values):
        integers = cgutils.unpack_tuple(builder, values[1])
        kind = ir.FunctionType(ir.VoidType(), [_INT] * len(integers))
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), integers)
        return context.get_dummy_value()

    return types.void(types.intp, types.StarArgUniTuple(types.intp, len(args))), emit


def _empty_matrix(context, builder, kind):
    matrix = context.make_array(kind)(
        context, builder, ir.Constant(context.get_value_type(kind), None)
    )
    matrix.itemsize = context.get_constant(types.intp, kind.dtype.bitwidth // 8)
    return matrix._getvalue()


def emit_function(function, name, context, builder, dtypes, count):
    """Emit a wrapper with integer arguments for a Python function, and return its address.

    `function` takes an empty matrix of each dtype, which passes the dtype, and `count` integers.
    The wrapper takes the integers.
    """
    kinds = [types.Array(dtype, 2, "C") for dtype in dtypes]
    name = "_".join(["njitnet", name, *map(str, dtypes)])
    outer = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [_INT] * count), name)
    outer.linkage = "internal"
    inside = ir.IRBuilder(outer.append_basic_block("entry"))
    likes = [_empty_matrix(context, inside, kind) for kind in kinds]
    args = *kinds, *[types.intp] * count
    compiled = _link(context, inner(function), args)
    values = [*likes, *outer.args]
    context.call_internal_no_propagate(inside, compiled.fndesc, compiled.signature, values)
    inside.ret_void()
    return builder.ptrtoint(outer, _INT)


def emit_borrowed(context, builder, kind, value):
    """Return an array, or a tuple of arrays, without reference counting."""
    if isinstance(kind, types.Array):
        view = context.make_array(kind)(context, builder, value)
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()
    if isinstance(kind, types.BaseTuple):
        for i, element in enumerate(kind.types):
            part = emit_borrowed(context, builder, element, builder.extract_value(value, i))
            value = builder.insert_value(value, part, i)
    return value


@intrinsic
def _borrow(context, array):
    def emit(context, builder, signature, values):
        return emit_borrowed(context, builder, signature.args[0], values[0])

    return array(array), emit


def _plain_borrow(array):
    return array


borrow = _plain_borrow if config.DISABLE_JIT else _borrow
"""Return the same array, or tuple of arrays, without reference counting.

Each slice of a reference-counted array takes two atomic operations, for which threads contend. A
function may borrow the arrays that its caller passes. For other arrays it must call `keep` after
the last use of the borrowed array.
"""


@intrinsic
def _keep(context, arrays):
    return types.void(arrays), lambda context, *_: context.get_dummy_value()


def _plain_keep(arrays):
    pass


keep = _plain_keep if config.DISABLE_JIT else _keep
"""Use arrays that were borrowed, so that their memory is not freed before this call."""


_CHUNK_TYPE = ir.FunctionType(ir.VoidType(), [_INT] * 3)


@intrinsic
def _erase(context, address, args):
    """Return the addresses that `_run` takes: of an untyped wrapper, and of its arguments.

    The arguments are borrowed: the caller of `run_chunks` holds them until `run_chunks` returns.
    They follow a flag, which the wrapper sets if the kernel fails.
    """

    def emit(context, builder, signature, values):
        called = signature.args[1], types.int64, types.int64
        borrowed = emit_borrowed(context, builder, signature.args[1], values[1])
        frame = cgutils.pack_struct(builder, [ir.Constant(_INT, 0), values[0], borrowed])
        memory = cgutils.alloca_once_value(builder, frame)
        name = builder.module.get_unique_name("njitnet_chunk")
        function = ir.Function(builder.module, _CHUNK_TYPE, name)
        function.linkage = "internal"
        body = ir.IRBuilder(function.append_basic_block("entry"))
        pointer, start, stop = function.args
        kept = body.load(body.inttoptr(pointer, memory.type))
        kernel_type = context.call_conv.get_function_type(types.none, called)
        kernel = body.inttoptr(body.extract_value(kept, 1), kernel_type.as_pointer())
        status, _ = context.call_conv.call_function(
            body, kernel, types.none, called, [body.extract_value(kept, 2), start, stop]
        )
        with cgutils.if_unlikely(body, status.is_error):
            body.store(ir.Constant(_INT, 1), body.inttoptr(pointer, _INT.as_pointer()))
        body.ret_void()
        both = [builder.ptrtoint(function, _INT), builder.ptrtoint(memory, _INT)]
        return context.make_tuple(builder, signature.return_type, both)

    return types.UniTuple(types.int64, 2)(address, args), emit


@intrinsic
def _has_failed(context, memory):
    def emit(context, builder, signature, values):
        return builder.load(builder.inttoptr(values[0], _INT.as_pointer()))

    return types.int64(memory), emit


@inner(parallel=True)
def _run(function, args, n, size, parallel):
    chunks = (n + size - 1) // size
    if not parallel or thread_count() == 1:
        for chunk in range(chunks):
            call_address(function, args, chunk * size, min(n, (chunk + 1) * size))
    else:
        # A thread's first chunk is always the same, and may be in its cache. The others are
        # scheduled dynamically: a thread that starts late processes fewer of them.
        threads, taken = min(chunks, thread_count()), np.zeros(1, np.int64)
        for thread in prange(threads):
            chunk = np.int64(thread)
            while chunk < chunks:
                call_address(function, args, chunk * size, min(n, (chunk + 1) * size))
                chunk = threads + count_up(taken)


@inner
def _run_chunks(address, args, n, size, parallel):
    function, memory = _erase(address, args)
    _run(function, memory, n, size, parallel)
    if _has_failed(memory):
        raise MemoryError("not enough memory for a kernel's scratch arrays")


@njit(nogil=True)
def _run_chunks_from_python(address, args, n, size, parallel):
    _run_chunks(address, args, n, size, parallel)


def _plain_run_chunks(function, args, n, size, parallel):
    for start in range(0, n, size):
        function(args, start, min(n, start + size))


jit_run_chunks = _plain_run_chunks if config.DISABLE_JIT else _run_chunks
"""`run_chunks` for compiled code, which compiles faster without a wrapper for Python."""
run_chunks = _plain_run_chunks if config.DISABLE_JIT else _run_chunks_from_python
"""Call a kernel for chunks of items: ``run_chunks(address, args, n, size, parallel)``.

The kernel is called as ``function(args, start, stop)`` for chunks of ``size`` of the ``n`` items,
on several threads if ``parallel``. The chunks do not depend on ``parallel``. The address is from
`get_function_address`. Any error in the kernel is reported as a MemoryError, because a kernel fails
only if it cannot allocate memory.
"""
