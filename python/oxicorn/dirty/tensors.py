"""Tensors of PyTorch on their way: taken apart into what has a buffer, and made of that again.

``torch.Tensor`` has no buffer and pickles its content into the pickle. Here its content is what its
NumPy array is, which is the same memory; so it travels as that of all buffers. PyTorch is never
imported for it: who has a tensor has imported it, and who has not gets a ``memoryview``, as of an
array of NumPy's. A ``memoryview`` cannot be pickled by itself; here it goes as it does without
pickles.
"""

from __future__ import annotations

import copyreg
import importlib
import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Sequence
from typing import Any

__all__ = ["dumps", "made", "taken_apart", "viewed"]

#: Names of types of items, and what ``memoryview`` calls those that it knows.
FORMATS = {
    "bool": "?",
    "uint8": "B",
    "int8": "b",
    "uint16": "H",
    "int16": "h",
    "uint32": "I",
    "int32": "i",
    "uint64": "Q",
    "int64": "q",
    "float16": "e",
    "float32": "f",
    "float64": "d",
}

#: What items of a ``memoryview`` that is sent may be.
FORMATS_OF_VIEWS = frozenset("cbB?hHiIlLqQfde")

#: What ``memoryview`` calls numbers of 16 bits, and can show but not make.
HALF = "e"

#: The type of the items, the shape, and the bytes.
Parts = tuple[str, list[int], Any]


def _torch() -> Any:
    torch = sys.modules.get("torch")
    # It may be on its way to being imported by another thread.
    return torch if hasattr(torch, "Tensor") else None


def taken_apart(value: object) -> Parts | str | None:
    """What a tensor consists of, or why it cannot be sent; None: it is no tensor."""
    torch = _torch()
    if torch is None or not isinstance(value, torch.Tensor):
        return None
    tensor: Any = value
    if tensor.device.type != "cpu":
        return f"a tensor on the device {tensor.device}: tensor.cpu() can be sent"
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        return "a tensor that is sparse, quantized or nested: tensor.to_dense() can be sent"
    try:
        whole = tensor.detach().resolve_conj().resolve_neg().contiguous()
        content = whole.reshape(-1).view(torch.uint8).numpy()
    except (RuntimeError, TypeError) as error:
        return f"a tensor of {tensor.dtype}: {error}"
    return str(tensor.dtype).removeprefix("torch."), list(tensor.shape), content


def made(dtype: str, shape: list[int], content: Any) -> Any:
    """What a tensor's parts are here. ValueError: there is no such tensor here.

    Bytes that may be written to are its memory; of others it has a copy.
    """
    torch = _torch()
    if torch is None:
        return _view_of_tensor(dtype, shape, content)
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"a tensor of torch.{dtype}, which the torch of this process has not")
    if not len(content):
        return torch.empty(shape, dtype=kind)
    view = memoryview(content)
    # The memory of a tensor is written to without a question.
    flat = torch.frombuffer(bytearray(view) if view.readonly else view, dtype=torch.uint8)
    return flat.view(kind).reshape(shape)


def _view_of_tensor(dtype: str, shape: list[int], content: Any) -> memoryview:
    layout = FORMATS.get(dtype)
    if layout is None:
        raise ValueError(
            f"a tensor of torch.{dtype}, which only a process that has imported torch can have"
        )
    return viewed(layout, shape, content)


def viewed(layout: str, shape: Sequence[int], content: Any) -> memoryview:
    """A view of these items. ValueError: this process cannot have one."""
    view: Any = memoryview(content).cast("B")
    if layout == HALF:
        return _view_of_halves(shape, view)
    shaped: memoryview = view.cast(layout, shape) if shape and len(view) else view.cast(layout)
    return shaped


def _view_of_halves(shape: Sequence[int], view: memoryview) -> memoryview:
    """Python itself makes no views of such numbers."""
    numpy: Any = sys.modules.get("numpy")
    if not hasattr(numpy, "frombuffer"):
        kind = "a buffer of half-precision floats"
        raise ValueError(f"{kind}, which only a process that has imported NumPy can have")
    array = numpy.frombuffer(view, HALF) if len(view) else numpy.zeros(0, HALF)
    return memoryview(array.reshape(shape) if len(view) else array)


def dumps(value: object, buffer_callback: Any) -> bytes:
    """``pickle.dumps`` of protocol 5, in which views and tensors' content are buffers, too."""
    file = io.BytesIO()
    pickler: Any = pickle.Pickler(file, 5, buffer_callback=buffer_callback)
    reducers: dict[type, Any] = {memoryview: _reduced_view}
    torch = _torch()
    if torch is not None:
        # Of this class and no other: others have what this does not know.
        reducers[torch.Tensor] = _reduced
    pickler.dispatch_table = ChainMap(reducers, copyreg.dispatch_table)
    pickler.dump(value)
    return file.getvalue()


def _reduced_view(view: memoryview) -> Any:
    layout = view.format[1:] if view.format[:1] in ("@", "=", "<") else view.format
    if layout not in FORMATS_OF_VIEWS:
        raise pickle.PicklingError(f"a buffer of items of format {view.format!r}")
    whole = view if view.c_contiguous else view.tobytes()
    return _unpickled_view, (layout, view.shape, pickle.PickleBuffer(whole))


def _unpickled_view(layout: str, shape: tuple[int, ...], content: Any) -> memoryview:
    # Who gets it may write to it, whatever whoever sent it might: the memory is a copy.
    whole = content.obj if isinstance(content, memoryview) and content.readonly else content
    return viewed(layout, shape, whole)


def _reduced(tensor: Any) -> Any:
    parts = None
    # What hangs on it, and where it came from, is for PyTorch's own way.
    if not tensor.__dict__ and not tensor._backward_hooks and tensor.is_leaf:
        parts = taken_apart(tensor)
    if not isinstance(parts, tuple):
        return tensor.__reduce_ex__(5)
    dtype, shape, content = parts
    return _unpickled, (dtype, shape, pickle.PickleBuffer(content), tensor.requires_grad)


def _unpickled(dtype: str, shape: list[int], content: Any, requires_grad: bool) -> Any:
    # As a pickle has all imported that it needs.
    importlib.import_module("torch")
    tensor = made(dtype, shape, content)
    return tensor.requires_grad_(requires_grad) if requires_grad else tensor
