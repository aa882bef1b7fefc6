"""A program whose counterexamples are kept in `tests/data`, made by several CPythons.

python tests/replayed.py DIRECTORY writes them anew.
"""

import sys
import threading
from pathlib import Path

import frontrun


class Account:
    def __init__(self):
        self.balance = 100
        self.log = []
        self.totals = {}
        self.lock = threading.Lock()

    def withdraw(self, amount):
        if self.balance >= amount:
            with self.lock:
                self.log.append(amount)
                self.totals.setdefault(amount, [n for n in self.log if n])
                self.balance -= amount

    def audit(self):
        thread = threading.Thread(target=self.withdraw, args=(60,))
        thread.start()
        thread.join()


def never_overdrawn(account):
    return account.balance >= 0


def withdraw_eighty(account):
    account.withdraw(80)


WORKERS = [Account.audit, withdraw_eighty]


def find():
    return frontrun.explore(Account, WORKERS, never_overdrawn)


if __name__ == "__main__":
    import replayed  # not __main__, so that the functions have an address

    version = "{}.{}".format(*sys.version_info)
    replayed.find().save(Path(sys.argv[1]) / f"overdrawn-{version}.json")
