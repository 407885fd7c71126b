import math


def test_every_task_of_the_grid_has_finite_metrics(grid, run_task):
    assert len(grid) > 0
    for parameters in grid:
        metrics = run_task(**parameters)
        assert math.isfinite(metrics["rmse"]), parameters
        assert metrics["n_test"] > 0


def test_no_two_tasks_are_the_same(grid):
    assert all(parameters not in grid[:task] for task, parameters in enumerate(grid))


def test_a_task_gives_the_same_numbers_every_time(run_task):
    assert run_task(horizon=5, alpha=0.1) == run_task(horizon=5, alpha=0.1)


def test_a_farther_horizon_is_harder(run_task):
    assert run_task(horizon=25, alpha=0.1)["rmse"] > run_task(horizon=1, alpha=0.1)["rmse"]
