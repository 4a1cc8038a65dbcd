"""Groups of samples that belong together."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def joined(*keys: np.ndarray) -> np.ndarray:
    """Join samples that share any of several keys, directly or through others.

    Args:
        keys: Integers of shape `(samples,)`; equal ones of the same array belong together.

    Returns:
        The number of each sample's group, shape `(samples,)`, int64, in order of appearance.
    """
    samples = len(keys[0])
    rows, columns, first = [], [], samples
    for key in keys:
        values, place = np.unique(key, return_inverse=True)
        rows.append(np.arange(samples))
        columns.append(first + place)
        first += len(values)
    pairs = (np.concatenate(rows), np.concatenate(columns))
    graph = coo_array((np.ones(len(pairs[0])), pairs), shape=(first, first))
    _, labels = connected_components(graph, directed=False)
    _, begun, place = np.unique(labels[:samples], return_index=True, return_inverse=True)
    order = np.empty(len(begun), dtype=np.int64)
    order[np.argsort(begun)] = np.arange(len(begun))
    return order[place]
