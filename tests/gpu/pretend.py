"""A device that is not there: tensors on it are held and computed in ordinary memory, but a tensor of the CPU among
them is an error, as on a GPU. So whatever was left on the wrong device is found on any machine.

As on CUDA, numbers without dimensions and the indices of an indexed tensor may come from the CPU, and only copies
cross.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from glotprompt.model.backbone import Backbone

PRETEND = torch.device("lazy", 0)
"""A kind of device that torch knows, has nothing behind, and runs backward in the thread that asks."""

_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
_INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default)


class Pretended(Tensor):
    """A tensor that says it lies on `PRETEND`; `inner` holds its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls: type[Pretended], inner: Tensor) -> Pretended:
        made = Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=PRETEND,
        )  # fmt: skip
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"Pretended({self.inner!r})"

    @property
    def data(self) -> Tensor:
        return super().data

    @data.setter
    def data(self, value: Tensor) -> None:
        Tensor.data.__set__(self, value)  # pyright: ignore
        self.inner = _inner(value)  # pyright: ignore[reportIncompatibleMethodOverride]

    # torch would make a tensor of a list on the device itself, past the mode below.
    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_tensors_for_lists(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_tensors_for_lists(index), value)

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _computed(func, args, dict(kwargs or {}))


class _Pretending(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _computed(func, args, dict(kwargs or {}))


def _computed(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The result of an operation, on the device where a GPU would leave it."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = any(isinstance(tensor, Pretended) for tensor in tensors)
    asked = kwargs.get("device")
    onto = there if asked is None else torch.device(asked).type == PRETEND.type
    if not there and not onto:
        return func(*args, **kwargs)
    if there and func not in _COPIES:
        _refuse_mixture(func, args, tensors)
    if onto and kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: a generator of the CPU draws for a tensor on {PRETEND}")
    if asked is not None and onto:
        kwargs["device"] = torch.device("cpu")
    if func is torch.ops.aten.copy_.default:
        onto = isinstance(args[0], Pretended)
    result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    return tree_map(_pretended, result) if onto else result


def _refuse_mixture(func: Any, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    if func in _INDEXING and isinstance(args[0], Pretended):
        tensors = [tensor for tensor in tree_leaves(args[2:]) if isinstance(tensor, Tensor)]
    for tensor in tensors:
        if not isinstance(tensor, Pretended) and tensor.dim():
            raise RuntimeError(f"{func}: a tensor of the CPU, {list(tensor.shape)}, among tensors on {PRETEND}")


def _tensors_for_lists(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(_tensors_for_lists, index))
    return torch.tensor(index) if isinstance(index, list) else index


def _tensor(data: Any, *, device: Any = None, make: Any = torch.tensor, **options: Any) -> Tensor:
    """`torch.tensor`, which would send the new tensor to its device past the mode."""
    made: Tensor = make(data, **options)
    return made if device is None else made.to(device)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, Pretended) else value


def _pretended(value: Any) -> Any:
    return Pretended(value) if isinstance(value, Tensor) and not isinstance(value, Pretended) else value


@contextmanager
def pretending() -> Generator[None]:
    """Context in which `PRETEND` can be used, and attention takes the route of a GPU."""
    with pytest.MonkeyPatch.context() as patch, _Pretending():
        patch.setattr("glotprompt.model.prefix._has_fast_sdpa", lambda device: device.type == PRETEND.type)
        patch.setattr(
            sys.modules["torch.optim.adam"], "_device_dtype_check_for_fused", lambda parameter, **kwargs: None
        )
        patch.setattr(torch, "tensor", _tensor)
        patch.setattr(torch, PRETEND.type, torch.cpu, raising=False)  # the module of its streams and random numbers
        # Inference tensors have no version counter, which a wrapped tensor's views need.
        patch.setattr(torch.inference_mode, "__enter__", lambda self: torch.no_grad.__enter__(self))
        patch.setattr(torch.inference_mode, "__exit__", lambda self, *caught: torch.no_grad.__exit__(self, *caught))
        yield


def moved(backbone: Backbone, device: torch.device) -> Backbone:
    """The backbone on a device, in place."""
    backbone.model.to(device)  # pyright: ignore[reportArgumentType]
    backbone.model.tie_weights()  # torch keeps tied weights tied on a GPU, and cannot here
    backbone.model.requires_grad_(False)
    return backbone
