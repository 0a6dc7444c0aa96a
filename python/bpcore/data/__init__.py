"""The data set that ships with the package: handwritten digits, 8 x 8 pixels."""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray

__all__ = ["load_digits"]


def load_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Load the bundled handwritten digits (UCI optdigits, the 1797 rows of its test part).

    Returns
    -------
    X : ndarray of uint8, shape (1797, 64)
        Images of 8 x 8 pixels, row by row; each pixel is a count from 0 to 16.
    y : ndarray of int64, shape (1797,)
        The digit in each image, 0 to 9.

    Notes
    -----
    Source: E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine
    Learning Repository, 1998, https://doi.org/10.24432/C50P49, licence CC BY 4.0. The rows and
    their order are those of scikit-learn's ``load_digits``.
    """
    with (
        as_file(files(__name__).joinpath("digits.npz")) as path,
        np.load(path, allow_pickle=False) as arrays,
    ):
        X: NDArray[np.uint8] = arrays["X"]
        y: NDArray[np.int64] = arrays["y"].astype(np.int64)
    return X, y
