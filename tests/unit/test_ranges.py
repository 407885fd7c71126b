from hypothesis import given
from hypothesis import strategies as st

from hpc_agent.node.shared.ranges import count, decode_ranges, encode_ranges, position_of, slice_ranges

ids = st.sets(st.integers(0, 400))


@given(ids)
def test_ranges_say_exactly_the_ids(values):
    text = encode_ranges(values)
    assert decode_ranges(text) == sorted(values)
    assert count(text) == len(values)


@given(ids, st.integers(0, 420), st.integers(1, 50))
def test_a_slice_is_the_slice_of_the_list(values, offset, length):
    assert slice_ranges(encode_ranges(values), offset, length) == sorted(values)[offset : offset + length]


@given(ids, st.integers(0, 420))
def test_a_position_is_that_of_the_list(values, task):
    ordered = sorted(values)
    assert position_of(encode_ranges(values), task) == (ordered.index(task) if task in values else None)


def test_a_million_tasks_are_a_short_text():
    assert encode_ranges(range(1_000_000)) == "0-999999"
