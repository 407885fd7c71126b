def _forecast_error(horizon=5, alpha=0.1):
    """Return the root mean squared error of ridge regression on the last value of a made-up series.

    ``horizon`` is the number of steps ahead, ``alpha`` the penalty on the slope.
    """
    if horizon < 0:
        raise ValueError("horizon must not be negative")
    chance, series = random.Random(7), [0.0]
    while len(series) < 200 + horizon:
        series.append(0.9 * series[-1] + chance.gauss(0, 1))
    pairs = list(zip(series, series[horizon:]))
    train, test = pairs[:150], pairs[150:]
    slope = sum(x * y for x, y in train) / (sum(x * x for x, _ in train) + alpha)
    return (sum((slope * x - y) ** 2 for x, y in test) / len(test)) ** 0.5
