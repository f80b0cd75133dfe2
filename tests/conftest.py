"""Fixtures shared by several test modules, built from ``support`` and ``checkout``.

Fixtures import what they need: pytest-xdist imports this file also where it runs no test.
"""

import functools
import os

import pytest
import typechecking


def pytest_configure():
    """Check annotations, in all modules of the package that are imported from now on."""
    typechecking.install()


@pytest.fixture(autouse=True, scope="session")
def _quiet_and_one_thread():
    import torch
    from transformers.utils.logging import disable_progress_bar

    torch.set_num_threads(1)
    disable_progress_bar()


@pytest.fixture(autouse=True, scope="session")
def _package_is_read_once():
    """Search the package's own code once for what it reaches: its source stays as it is."""
    from vbon.artifacts import fingerprint, steps

    package = fingerprint.PACKAGE

    def once(find):
        found = functools.cache(find)

        def look_up(*roots):
            own = all(str(root).startswith(("vbon.", f"{package}/")) for root in roots)
            same = package == fingerprint.PACKAGE and "VBON_METHODS" not in os.environ
            return (found if own and same else find)(*roots)

        return look_up

    fingerprint.reached, steps.uses_of = once(fingerprint.reached), once(steps.uses_of)


@pytest.fixture
def generator():
    """A new seeded generator."""
    import torch

    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def language():
    """An enumerable language with distinct rewards."""
    from support import Language

    return Language()


@pytest.fixture(scope="session")
def tied_language():
    """The same language with rewards of a few levels."""
    from support import Language

    return Language(levels=1.0)


@pytest.fixture(scope="session")
def reference_folder(tmp_path_factory):
    """A saved GPT-2 with its tokenizer."""
    from support import save_reference

    return save_reference(tmp_path_factory.mktemp("models") / "reference")


@pytest.fixture(scope="session")
def classifier_folder(tmp_path_factory):
    """A saved DistilBERT classifier with its tokenizer."""
    from support import save_classifier

    return save_classifier(tmp_path_factory.mktemp("models") / "reward_model")


def pytest_collection_modifyitems(items):
    """Run the longest tests first, so that two workers end at about the same time."""
    order = ["faults", "workflow", "slow"]
    marks = [{mark.name for mark in item.iter_markers()} for item in items]
    ranks = [min((order.index(name) for name in names & {*order}), default=9) for names in marks]
    items[:] = [item for _, item in sorted(zip(ranks, items, strict=True), key=lambda x: x[0])]


@pytest.fixture(scope="session")
def swept(tmp_path_factory):
    """A checkout with its own package and the finished sweep of :data:`checkout.SWEEP`."""
    from checkout import SWEEP, make_checkout, make_once, run

    def make(folder):
        run(make_checkout(folder, SWEEP, code=True), "--cores", "2")

    return make_once(tmp_path_factory, "swept", make)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A checkout with its own package and the workflow of :data:`checkout.BUILT` up to points."""
    from checkout import BUILT, BUILT_POINTS, make_checkout, make_once, run

    def make(folder):
        run(make_checkout(folder, BUILT, code=True), "--cores", "2", *BUILT_POINTS)

    return make_once(tmp_path_factory, "built", make)
