"""Parameters and gradients come as arrays in lists, tuples and dicts, nested to any depth."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

from numpy.typing import NDArray


class SparseRows(NamedTuple):
    """A gradient that has only some rows of a 2-D parameter, such as the rows of an embedding that a batch used.

    In place of an array in the gradients of an optimiser's ``step``: row ``indices[k]`` of the parameter has the
    gradient ``values[k]``, repeated indices are added in their order, and all other rows stay as they are, with their
    averages, as in torch.optim.SparseAdam (but for eps, which stands where it does in Adam). The parameter's step is
    counted once.

    Attributes
    ----------
    indices : 1-D array of integers
    values : array of shape (number of indices, columns of the parameter) and the parameter's dtype

    Examples
    --------
    >>> import numpy as np, fastopt
    >>> table = np.zeros((1000, 2))
    >>> optimizer = fastopt.Adam([table], lr=0.1)
    >>> optimizer.step([fastopt.SparseRows(np.array([7, 7]), np.ones((2, 2)))])
    >>> table[6:8]
    array([[ 0. ,  0. ],
           [-0.1, -0.1]])
    """

    indices: NDArray[Any]
    values: NDArray[Any]


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, leaf) for every leaf of the nest, in order: ``"layers/0/weight"``, or ``""`` for a bare array."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{path}/{key}" if path else str(key))
    elif isinstance(tree, list | tuple) and not isinstance(tree, SparseRows):
        for index, value in enumerate(tree):
            yield from leaves(value, f"{path}/{index}" if path else str(index))
    else:
        yield path, tree


def label(kind: str, path: str) -> str:
    """Return the name of what `kind` has at a path: ``"grads/layers/0/weight"``, or ``"grads"`` for a bare array."""
    return f"{kind}/{path}" if path else kind


def same_structure(tree: Any, like: Any, name: str) -> Iterator[tuple[Any, Any]]:
    """Yield (leaf, leaf of `like`) for two nests of one structure; ``None`` stands for any array, not for a container.

    Raises ValueError where the structures differ.
    """
    if isinstance(like, dict):
        if not isinstance(tree, dict) or tree.keys() != like.keys():
            got = f"keys {list(tree)}" if isinstance(tree, dict) else type(tree).__name__
            raise ValueError(f"{name}: expected a dict with the keys of params, {list(like)}, got {got}")
        for key, value in like.items():
            yield from same_structure(tree[key], value, f"{name}[{key!r}]")
    elif isinstance(like, list | tuple):
        if not isinstance(tree, list | tuple) or len(tree) != len(like):
            got = f"{len(tree)}" if isinstance(tree, list | tuple) else type(tree).__name__
            raise ValueError(f"{name}: expected a list of {len(like)} like params, got {got}")
        for index, value in enumerate(like):
            yield from same_structure(tree[index], value, f"{name}[{index}]")
    else:
        yield tree, like


def rebuilt(tree: Any, arrays: Iterator[Any]) -> Any:
    """Return a nest of the form of `tree`, its kinds of containers too, with leaves taken from `arrays` in order."""
    if isinstance(tree, dict):
        new = copy.copy(tree)
        new.update((key, rebuilt(value, arrays)) for key, value in tree.items())
        return new
    if isinstance(tree, list | tuple):
        values = [rebuilt(value, arrays) for value in tree]
        return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)
    return next(arrays)


ArrayTree = NDArray[Any] | list[Any] | tuple[Any, ...] | dict[Any, Any]
