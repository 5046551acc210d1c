from autopoll.process.restart_budget import RestartBudget


def test_five_starts_are_free_and_then_pauses_double_up_to_a_minute() -> None:
    budget, now, pauses = RestartBudget(), 100.0, []
    for _ in range(14):
        assert now >= budget.due
        budget.spend(now)
        pauses.append(max(0.0, budget.due - now))
        now = max(now, budget.due)
    assert pauses[:4] == [0, 0, 0, 0]
    for pause, longest in zip(pauses[4:], (1, 2, 4, 8, 16, 32, 60, 60, 60, 60), strict=True):
        assert longest / 2 <= pause <= longest


def test_starts_that_lie_far_apart_never_pause() -> None:
    budget = RestartBudget()
    for minute in range(50):
        budget.spend(minute * 60.0)
        assert budget.due <= minute * 60.0


def test_ten_minutes_of_health_make_everything_forgotten_and_a_pause_is_no_health() -> None:
    budget, now = RestartBudget(), 0.0
    for _ in range(20):
        now = max(now, budget.due)
        budget.spend(now)
    assert budget.due - now >= 30
    now = budget.due + 599
    budget.spend(now)
    assert budget.due - now >= 30
    now = budget.due + 601
    budget.spend(now)
    assert budget.due <= now
