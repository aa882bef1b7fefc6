"""Programs whose counterexamples are kept in `tests/data`, made by several CPythons.

python tests/replayed.py DIRECTORY writes them anew.
"""

import asyncio
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


class Tickets:
    """Sold by tasks of an event loop."""

    def __init__(self):
        self.left = 2
        self.sold = []
        self.lock = asyncio.Lock()

    async def sell(self):
        if self.left > 0:
            async with self.lock:
                await asyncio.sleep(1)
            self.left -= 1
            self.sold.append(self.left)

    async def sell_two(self):
        async with asyncio.TaskGroup() as group:
            group.create_task(self.sell())
            group.create_task(self.sell())

    async def sell_hastily(self):
        try:
            async with asyncio.timeout(2):
                await self.sell()
        except TimeoutError:
            self.sold.append("too late")


def never_oversold(tickets):
    return tickets.left >= 0


SELLERS = [Tickets.sell_hastily, Tickets.sell_two]


async def find_with_tasks():
    return await frontrun.explore(Tickets, SELLERS, never_oversold)


if __name__ == "__main__":
    import replayed  # not __main__, so that the functions have an address

    version = "{}.{}".format(*sys.version_info)
    replayed.find().save(Path(sys.argv[1]) / f"overdrawn-{version}.json")
    asyncio.run(replayed.find_with_tasks()).save(Path(sys.argv[1]) / f"oversold-{version}.json")
