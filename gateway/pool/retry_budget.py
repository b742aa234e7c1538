"""How many calls may be tried again: all that one lost worker had, but no second load in an outage.

Source: Finagle's documentation, "Retry budgets".
"""

# Of the first attempts, in the long run.
SHARE = 0.2
# And so many beyond that, which are earned back.
RESERVE = 256.0


class RetryBudget:
    def __init__(self) -> None:
        self.balance = RESERVE
        self.n_taken = 0
        self.n_refused = 0

    def earn(self) -> None:
        """For each call that is tried for the first time."""
        self.balance = min(self.balance + SHARE, RESERVE)

    def take(self) -> bool:
        """Whether a call may be tried again now."""
        if self.balance < 1:
            self.n_refused += 1
            return False
        self.balance -= 1
        self.n_taken += 1
        return True
