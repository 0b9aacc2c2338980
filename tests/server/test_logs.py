import errno
import io
import sys

import pytest
import structlog

from tenantry.server.logs import log_to_stderr


class FullDisk(io.StringIO):
    """A log file without room."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "no space")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "no space")


@pytest.fixture(autouse=True)
def configured_for_this_test_alone():
    yield
    structlog.reset_defaults()


def test_a_log_that_cannot_be_written_fails_nobody(monkeypatch):
    monkeypatch.setattr(sys, "stderr", FullDisk())
    log_to_stderr()
    structlog.get_logger().error("the disk is full")


def test_what_can_be_written_is_a_line_an_event(monkeypatch):
    monkeypatch.setattr(sys, "stderr", out := io.StringIO())
    log_to_stderr()
    structlog.get_logger().info("all is well", count=2)
    assert out.getvalue().endswith('level=info event="all is well" count=2\n')
