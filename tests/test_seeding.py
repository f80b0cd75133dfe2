"""Seeds differ by name, and are the same on every machine."""

from vbon.seeding import derive_seed


def test_known_seeds_never_change():
    """A change here changes every number of the benchmark."""
    assert derive_seed(0, "pool", "train") == 1488500376084231544


def test_streams_differ_in_every_part_of_their_name():
    names = [(), ("a",), ("b",), ("a", "b"), ("ab",), ("a", 1), ("a", 11), ("a", 1, 1), ("1",)]
    seeds = {derive_seed(seed, *name) for seed in (0, 1, -1, 10) for name in names}
    assert len(seeds) == 4 * len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_number_is_its_text():
    assert derive_seed(0, "step", 3) == derive_seed(0, "step", "3")
