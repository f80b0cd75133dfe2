"""The suite runs with the annotations' shapes and dtypes checked."""

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError

from vbon.objectives.policy_gradient import masked_mean
from vbon.seeding import derive_seed


def test_annotations_are_checked_in_tests():
    with pytest.raises(TypeCheckError):
        masked_mean(torch.ones(3), torch.ones(4, dtype=torch.bool))  # shapes differ
    with pytest.raises(TypeCheckError):
        masked_mean(torch.ones(3), torch.ones(3))  # a mask that is none
    with pytest.raises(BeartypeCallHintViolation):
        derive_seed("0")
