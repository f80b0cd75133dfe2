"""Seeds derived from names, so that a new run or prompt does not change the draws of others."""

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """Derive an independent 63-bit seed for a named stream.

    Streams are identified by name, not by order: the rollouts of one run do not change when
    another run is added to a sweep.

    Args:
        seed: The base seed.
        names: Name of the stream in parts, for example ``("rollouts", "vbon", "n4")``.

    Returns:
        An integer in ``[0, 2**63)``, the same on every machine and Python version.

    Example:
        >>> derive_seed(0, "pool", "train") == derive_seed(0, "pool", "train")
        True
        >>> derive_seed(0, "pool", "train") == derive_seed(1, "pool", "train")
        False
    """
    text = "\x1f".join([str(int(seed)), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
