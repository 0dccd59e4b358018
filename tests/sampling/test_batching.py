import pytest
import torch
from adaptivesr.sampling.batching import BatchSize, distinct_rows, run_batches


class FullError(RuntimeError):
    pass


def memory_for(rows, seen):
    def call(chunk):
        seen.append(len(chunk))
        if len(chunk) > rows:
            raise FullError
        return [item * 10 for item in chunk]

    return call


def flat(batches):
    return [(item, result) for chunk, results in batches for item, result in zip(chunk, results)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 9])
def test_every_item_is_run_once_in_order_whatever_the_batch(size):
    result = flat(run_batches(range(7), BatchSize(size), memory_for(99, []), lambda e: False))
    assert result == [(i, i * 10) for i in range(7)]


def test_out_of_memory_halves_the_batch_for_the_rest_of_the_run():
    size, seen = BatchSize(8), []
    result = flat(run_batches(range(10), size, memory_for(2, seen), lambda e: isinstance(e, FullError)))
    assert result == [(i, i * 10) for i in range(10)]
    assert seen == [8, 4, 2, 2, 2, 2, 2]
    assert (size.rows, size.halvings) == (2, 2)


def test_a_single_row_that_does_not_fit_is_an_error():
    with pytest.raises(FullError):
        flat(run_batches(range(3), BatchSize(4), memory_for(0, []), lambda e: isinstance(e, FullError)))


def test_other_errors_are_not_retried():
    seen = []
    with pytest.raises(FullError):
        flat(run_batches(range(3), BatchSize(3), memory_for(1, seen), lambda e: False))
    assert seen == [3]


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="at least 1 row"):
        BatchSize(0)


def test_distinct_rows_are_those_that_differ_in_any_tensor():
    values = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
    times = torch.tensor([5.0, 5.0, 5.0, 6.0])
    assert distinct_rows(values) == ([0, 2], [0, 0, 1, 0])
    assert distinct_rows(values, times) == ([0, 2, 3], [0, 0, 1, 2])


def test_rows_with_nan_are_each_their_own():
    values = torch.tensor([float("nan"), 1.0, float("nan"), 1.0])
    assert distinct_rows(values) == ([0, 1, 2], [0, 1, 2, 1])
