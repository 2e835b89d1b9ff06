"""Make `recipes/data/digits.npz` from scikit-learn's copy of the UCI digits (a one-off).

    pip install scikit-learn && python tools/make_digits.py

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, 1998, doi:10.24432/C50P49, licence CC BY 4.0. scikit-learn ships the 1,797
images of its test part. Stored as they are: 8×8 counts from 0 to 16, and labels.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TARGET = Path(__file__).parent.parent / "src/spherical_motion/recipes/data/digits.npz"


def main() -> None:
    """Write the file, reproducibly to the byte."""
    digits = load_digits()
    np.savez_compressed(
        TARGET, images=digits.images.astype(np.uint8), labels=digits.target.astype(np.uint8)
    )
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes, {len(digits.target):,} images")


if __name__ == "__main__":
    main()
