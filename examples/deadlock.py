"""Two transfers lock the same two accounts in different orders."""

import threading

import frontrun


class Account:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.balance = 100


def transfer(source: Account, target: Account) -> None:
    with source.lock, target.lock:
        source.balance -= 10
        target.balance += 10


result = frontrun.explore(
    setup=lambda: (Account(), Account()),
    workers=[
        lambda accounts: transfer(accounts[0], accounts[1]),
        lambda accounts: transfer(accounts[1], accounts[0]),
    ],
    invariant=lambda accounts: sum(account.balance for account in accounts) == 200,
)
assert result.deadlock is not None
print(result.explanation)
