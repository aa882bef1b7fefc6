"""What does a method read and write? Ask before you decide what to lock."""

from frontrun import fast


class Inventory:
    def __init__(self) -> None:
        self.stock = {"apple": 3}
        self.sold = 0

    def sell(self, name: str) -> None:
        self.stock[name] -= 1
        self.sold += 1


recording = fast.record(Inventory().sell, "apple")
for access in recording.accesses:
    print(f"line {access.lineno}: {access.kind:5} {access.type_name} {access.name}")
