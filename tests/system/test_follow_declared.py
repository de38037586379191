"""Without a database: documents by file, by string and by POST /config, and what a restart keeps."""

import json
import signal

import pytest

from gateway import Gateway, Upstream
from postgres import wait_until


@pytest.fixture(scope="module")
def upstream():
    with Upstream() as server:
        yield server


def entities(port, *hosts):
    return {"services": [{"name": "s", "url": f"http://127.0.0.1:{port}",
                          "routes": [{"name": host, "hosts": [host]} for host in hosts]}]}


def test_a_declared_string(upstream):
    with Gateway(config=entities(upstream.port, "a.test")) as gateway:
        assert gateway.answers("a.test")
        assert gateway.answers("b.test", status=404)


def test_a_refused_document_stops_the_start(upstream):
    gateway = Gateway(config={"services": [{"name": "s", "port": 70000}]})
    try:
        said = gateway.fails()
        assert "error parsing declarative string" in said
        assert "in 'host': required field missing" in said
        assert "value should be between 0 and 65535" in said
    finally:
        gateway.destroy()


def test_what_was_posted_is_kept(upstream):
    with Gateway() as gateway:
        assert gateway.answers("a.test", status=404)
        gateway.post_config(**entities(upstream.port, "a.test"))
        assert gateway.answers("a.test")        # live when the answer comes
        gateway.wait_saved()
        gateway.kill()
        gateway.start()
        assert gateway.answers("a.test")
        gateway.post_config(**entities(upstream.port, "b.test"))
        assert gateway.answers("b.test") and gateway.answers("a.test", status=404)


def test_a_file_is_read_again_on_reload(upstream, tmp_path):
    file = tmp_path / "kong.json"

    def write(*hosts):
        file.write_text(json.dumps({"_format_version": "3.0", **entities(upstream.port, *hosts)}))

    write("a.test")
    with Gateway(declarative_config=file) as gateway:
        assert gateway.answers("a.test")
        write("a.test", "b.test")
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for("b.test")
        file.write_text("{")
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "stays as it was" in gateway.log(), what="a word about the file")
        assert gateway.answers("b.test")


def test_posting_often_loses_no_request(upstream):
    from test_follow import Load
    with Gateway() as gateway:
        gateway.post_config(**entities(upstream.port, "a.test"))
        with Load(gateway, "a.test") as load:
            for n in range(60):
                gateway.post_config(**entities(upstream.port, "a.test", *(f"h{n}-{k}.test"
                                                                          for k in range(n))))
        assert not load.lost, load.lost[:5]
        assert gateway.answers("h59-58.test")
