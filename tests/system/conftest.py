"""What every system test may ask for."""

import signal

import pytest

from gateway import Upstream
from postgres import Postgres

# A shell that starts us in the background makes us ignore Ctrl-C, and what we start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres():
    """The PostgreSQL that tests share. One that stops or pauses it makes a Postgres of its own."""
    with Postgres() as server:
        yield server


@pytest.fixture
def database(postgres):
    """An empty database of the test's own."""
    db = postgres.create()
    yield db
    db.drop()


@pytest.fixture
def migrated(postgres):
    """A database of the test's own with the schema in it."""
    db = postgres.create_migrated()
    yield db
    db.drop()


@pytest.fixture(scope="module")
def upstream():
    """Answers for a module's tests."""
    with Upstream() as server:
        yield server


@pytest.fixture(scope="module")
def stoppable():
    """A PostgreSQL of the module's own, that its tests may stop."""
    with Postgres() as server:
        yield server


@pytest.fixture
def private(stoppable):
    """A migrated database on a server that the test may stop."""
    if stoppable.process is None:
        stoppable.start()
    return stoppable.create_migrated()
