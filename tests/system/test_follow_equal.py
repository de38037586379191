"""However many write at once, commit or roll back: who follows ends with what a fresh load gives."""

import contextlib
import json
import os
import random
import signal
import struct
import threading

import psycopg2
import pytest

from gateway import Gateway
from postgres import wait_until
from test_follow import WS

WRITERS, TRANSACTIONS = 6, 40


def saved_rows(prefix):
    """The state in <prefix>/config.saved: {(kind, id): row}, and its version."""
    data = (prefix / "config.saved").read_bytes()
    magic = b"silverback config 1\n"
    assert data.startswith(magic)
    at, pending, rows, version = len(magic), [], {}, None
    while at < len(data):
        kind, length, _crc = struct.unpack_from("<cII", data, at)
        payload = data[at + 9:at + 9 + length]
        at += 9 + length
        if kind == b"R":
            pending.append(payload)
            continue
        for block in pending:
            apply_rows(block, rows)
        pending, version = [], json.loads(payload)["version"]
    return rows, version


def apply_rows(block, rows):
    at = 0

    def field():
        nonlocal at
        length, = struct.unpack_from("<I", block, at)
        at += 4 + length
        return block[at - length:at].decode()

    while at < len(block):
        op, at = block[at:at + 1], at + 1
        key = field(), field()
        if op == b"-":
            rows.pop(key, None)
        else:
            rows[key] = json.loads(field())


def write_at_random(db, rnd, n):
    """One transaction of a few statements, some of which are refused; it may be rolled back."""
    name = f"{n}-{rnd.randrange(8)}"
    statements = [
        f"INSERT INTO services (id, ws_id, name, host, port, protocol, enabled) VALUES "
        f"(gen_random_uuid(), {WS}, 's{name}', 'h', {rnd.randrange(65536)}, 'http', true)",
        f"INSERT INTO routes (id, ws_id, name, hosts, protocols, service_id) SELECT gen_random_uuid(), {WS}, "
        f"'r{rnd.random()}', ARRAY['{rnd.random()}'], '{{http}}', id FROM services ORDER BY random() LIMIT 3",
        f"UPDATE services SET retries = {rnd.randrange(100)} WHERE name LIKE '%{rnd.randrange(8)}'",
        f"UPDATE routes SET preserve_host = NOT coalesce(preserve_host, false) WHERE name < 'r0.{n}'",
        f"DELETE FROM routes WHERE name LIKE 'r0.{rnd.randrange(10)}%'",
        f"DELETE FROM services WHERE name = 's{name}'",
        f"UPDATE services SET id = gen_random_uuid() WHERE name = 's{name}'",
        "SAVEPOINT a", "ROLLBACK TO SAVEPOINT a",
    ]
    with contextlib.closing(db.connect(autocommit=False)) as conn, conn.cursor() as cur:
        with contextlib.suppress(psycopg2.Error):   # a deadlock, a constraint: rolled back
            for _ in range(rnd.randrange(1, 5)):
                cur.execute(rnd.choice(statements))
            (conn.rollback if rnd.randrange(4) == 0 else conn.commit)()


@pytest.mark.parametrize("seed", [1, 2])
def test_it_ends_equal_to_a_fresh_load(migrated, seed):
    def writer(n):
        rnd = random.Random(seed * 100 + n)
        for _ in range(TRANSACTIONS):
            write_at_random(migrated, rnd, n)

    writers = [threading.Thread(target=writer, args=(n,)) for n in range(WRITERS)]
    with Gateway(migrated.env()) as follower, Gateway(migrated.env()) as sleeper:
        for thread in writers:
            thread.start()
        rnd = random.Random(seed)
        while any(thread.is_alive() for thread in writers):    # it sleeps through some of it
            os.kill(sleeper.serving_pid, signal.SIGSTOP)
            writers[rnd.randrange(WRITERS)].join(0.2)
            os.kill(sleeper.serving_pid, signal.SIGCONT)
            writers[rnd.randrange(WRITERS)].join(0.05)
        version = migrated.value("SELECT version FROM silverback_version")
        assert version > WRITERS * 5
        with Gateway(migrated.env()) as fresh:
            states = []
            for gateway in (fresh, follower, sleeper):
                wait_until(lambda: gateway.version()["served"] == version)
                gateway.wait_saved()
                states.append(saved_rows(gateway.prefix))
            assert states[0][1] == version
            assert states[1] == states[0]
            assert states[2] == states[0]
            assert len(states[0][0]) > 10
