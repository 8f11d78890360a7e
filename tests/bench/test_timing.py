"""What `python -m bench.timing` makes of times, and the tokens that it asks with."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from bench.timing import SORTS, difference, tokens


def test_the_difference_is_that_of_the_medians_and_a_share_of_the_second() -> None:
    found = difference([0.000100, 0.000110, 0.000900], [0.000099, 0.000100, 0.000101])

    assert found.first_micros == pytest.approx(110.0)
    assert found.second_micros == pytest.approx(100.0)
    assert found.share == pytest.approx(0.1)
    assert str(found).startswith("110.0 and 100.0 us, +10.0 us or +10.00%, Cohen's d +")


def test_cohens_d_is_the_distance_of_the_means_in_standard_deviations() -> None:
    assert difference([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]).cohens_d == pytest.approx(-1.0)
    assert difference([1.0, 1.0], [1.0, 1.0]).cohens_d == 0.0


def test_each_token_is_new_and_one_of_each_sort_comes_before_the_next() -> None:
    known = ["xkAAAAAAAAAAAAA", "xkBBBBBBBBBBBBB"]

    made = list(tokens(known, 50, random.Random(1)))

    assert len({token for _, token in made}) == 150
    assert all(re.fullmatch(r"xk[0-9A-Za-z]{13}\.[0-9A-Za-z]{48}", token) for _, token in made)
    assert all(Counter(sort for sort, _ in made[at : at + 3]) == Counter(SORTS) for at in range(0, 150, 3))
    assert all((token.partition(".")[0] in known) == (sort == SORTS[0]) for sort, token in made)
