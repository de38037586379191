"""The fixtures `cluster` (one for the whole run) and `namespace` (a fresh one for each test)."""
import os
import subprocess

import pytest

from cluster import HERE, Cluster


def build_binaries(config):
    """Runs build.sh with the terminal as it is: its progress lines are for whoever waits."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        done = subprocess.run([os.path.join(HERE, "build.sh")], check=False)
    if done.returncode != 0:
        pytest.fail("tests/cluster/build.sh could not build etcd and kube-apiserver; "
                    "its messages are above", pytrace=False)


@pytest.fixture(scope="session")
def cluster(request, tmp_path_factory):
    """A running Cluster. Tests share it: whoever breaks it (see Faults there) repairs it."""
    build_binaries(request.config)
    running = Cluster(tmp_path_factory.mktemp("cluster")).start()
    yield running
    running.stop()


@pytest.fixture
def namespace(cluster):
    """The name of a fresh namespace."""
    return cluster.namespace()
