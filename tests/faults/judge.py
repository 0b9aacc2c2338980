"""Opens what a fault has left, as the product does after any end, and says what of it is wrong."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tenantry.server import audit_log
from tests.faults import subject

# A number that no run reaches.
AFTERWARDS = 1_000_000_000


@contextmanager
def opened(data: Path) -> Iterator[audit_log.AuditLog]:
    """The log in `data`, open."""
    log = audit_log.AuditLog(data / audit_log.FILE_NAME)
    try:
        yield log
    finally:
        log.close()


def problems(data: Path, acknowledged: Iterable[int]) -> list[str]:
    """What is wrong with the log in `data`: it must open, take one more record, verify, and hold all acknowledged.

    Opening and appending is the product's own recovery; what it repairs is no problem.
    """
    path = data / audit_log.FILE_NAME
    try:
        with opened(data) as log:
            log.commit([subject.entry(AFTERWARDS)])
        _, problem = audit_log.verify(path)
        if problem is not None:
            return [problem]
        found = Counter(subject.number_of(body) for _, body in audit_log.read(path))
    except Exception as error:  # noqa: BLE001  # whatever it is: after a fault the log must open
        return [f"can't be opened: {error!r}"]
    lost = [f"{number} was acknowledged and is lost" for number in acknowledged if not found[number]]
    return lost + [f"{number} stands {count} times" for number, count in found.items() if number and count > 1]
