"""The store on PostgreSQL behaves as the one in memory: the same table of steps, run on both."""

import os
import subprocess

from postgres import PASSWORD, USER
from programs import ROOT, clean_env


def test_the_store_on_postgresql_passes_the_unit_test_of_stores(migrated):
    build = ROOT / os.environ.get("BUILD", "build")
    server = migrated.postgres
    where = (f"host={server.host} port={server.port} user={USER} password={PASSWORD} "
             f"database={migrated.name}")
    subprocess.run(["make", "-s", "-C", ROOT, f"{build}/tests/test_store"], check=True)
    done = subprocess.run([build / "tests" / "test_store"], env=clean_env(SB_TEST_PG=where),
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SKIPPED" not in done.stdout + done.stderr
