"""The embedded servers: real, tidy, and gone when their starter is."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from config.embedded import EmbeddedError, Postgres, Valkey, environment
from config.embedded.server import SOCKET_PATH_LIMIT

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path):
    made = Postgres(tmp_path / "postgres", durable=False)
    yield made
    made.stop("immediate")


def ask(server: Postgres, query: str):
    with psycopg.connect(server.superuser_conninfo(), connect_timeout=5) as connection:
        return connection.execute(query).fetchone()[0]


def keep(server: Postgres) -> None:
    with psycopg.connect(server.superuser_conninfo()) as connection:
        connection.execute("create table kept as select 7 as n")
    ask(server, "select n from kept")


def wait_gone(pids, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not [pid for pid in pids if is_alive(pid)]:
            return
        time.sleep(0.05)
    pytest.fail(f"Still there: {[pid for pid in pids if is_alive(pid)]}")


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_it_starts_stops_and_keeps_the_data(server):
    server.start()
    pid = server.pid
    assert ask(server, "show server_version").startswith("18.")
    keep(server)
    server.restart()
    assert server.pid != pid
    assert ask(server, "select n from kept") == 7
    server.stop()
    assert server.pid is None
    assert not is_alive(pid)


def test_starting_and_stopping_twice_is_the_same_as_once(server):
    server.stop()
    server.start()
    pid = server.pid
    server.start()
    Postgres(server.directory).start()
    assert server.pid == pid
    server.stop()
    server.stop()
    assert server.pid is None


def test_it_listens_on_no_port(server):
    server.start()
    assert ask(server, "show listen_addresses") == ""
    sockets = psutil.Process(server.pid).net_connections(kind="inet")
    assert sockets == []


def test_many_starters_at_once_get_one_server(server):
    handles = [Postgres(server.directory, durable=False) for _ in range(4)]
    threads = [threading.Thread(target=handle.start) for handle in handles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({handle.pid for handle in handles}) == 1
    assert ask(server, "select 1") == 1


def test_what_was_committed_outlives_a_crash(tmp_path):
    server = Postgres(tmp_path / "postgres")
    server.start()
    keep(server)
    server.kill()
    assert server.pid is None
    server.start()
    assert ask(server, "select n from kept") == 7
    server.stop()


def test_a_stale_pid_file_that_names_a_living_process_is_no_hindrance(server):
    server.start()
    server.kill()
    lines = (server.data / "postmaster.pid").read_text().splitlines()
    lines[0] = str(os.getpid())  # The number has gone to another process since.
    (server.data / "postmaster.pid").write_text("\n".join(lines) + "\n")
    server.start()
    assert ask(server, "select 1") == 1


def test_a_half_made_cluster_is_made_anew(server):
    server.directory.mkdir()
    (server.directory / "data.new").mkdir()
    (server.directory / "data.new" / "half").write_text("done")
    server.start()
    assert ask(server, "select 1") == 1


def test_a_cluster_of_another_version_is_refused_with_a_sentence(server):
    server.start()
    server.stop()
    (server.data / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedError, match="was made by Postgres 12"):
        server.start()


def test_a_server_that_cannot_start_tells_its_last_words(tmp_path):
    broken = Postgres(tmp_path / "postgres", settings={"shared_buffers": "nonsense"})
    with pytest.raises(EmbeddedError, match="shared_buffers"):
        broken.start()
    assert broken.pid is None


def test_a_long_path_gets_a_short_socket_that_everyone_computes_alike(tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    server, valkey = Postgres(deep / "postgres", durable=False), Valkey(deep / "valkey")
    assert len(str(server.socket_dir / ".s.PGSQL.5432")) <= SOCKET_PATH_LIMIT
    assert Postgres(deep / "postgres").socket_dir == server.socket_dir
    server.start()
    valkey.start()
    assert ask(server, "select 1") == 1
    assert valkey.pid is not None
    server.stop()
    valkey.stop()


START = """
import sys, time
from pathlib import Path
from config.embedded import Postgres, Valkey
here = Path(sys.argv[1])
servers = [Postgres(here / "postgres", durable=False), Valkey(here / "valkey")]
for server in servers:
    server.start()
print(*[server.pid for server in servers], flush=True)
sys.stdin.read()
"""


def starter(directory: Path) -> tuple[subprocess.Popen, list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", START, str(directory)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, [int(pid) for pid in process.stdout.readline().split()]


def test_they_end_with_who_started_them(tmp_path):
    process, pids = starter(tmp_path)
    assert all(is_alive(pid) for pid in pids)
    process.communicate("")
    wait_gone(pids)


def test_they_end_even_when_their_starter_is_killed(tmp_path):
    process, pids = starter(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_gone(pids)


def test_ctrl_c_at_the_terminal_does_not_reach_them(tmp_path):
    process, pids = starter(tmp_path)
    assert all(os.getsid(pid) != os.getsid(process.pid) for pid in pids)
    process.communicate("")


def test_valkey_stops_starts_and_is_killed_at_one_address(tmp_path):
    import redis

    server = Valkey(tmp_path / "valkey")
    client = redis.Redis.from_url(server.url)
    for end in (server.stop, server.kill):
        server.start()
        server.start()
        assert client.ping()
        pid = server.pid
        end()
        end()
        assert server.pid is None
        assert not is_alive(pid)


def test_the_environment_is_known_before_anything_runs(tmp_path):
    state = tmp_path / "state"
    first = environment(state)
    assert environment(state) == first
    assert sorted(path.name for path in state.iterdir()) == ["secrets.env"]
    assert (state / "secrets.env").stat().st_mode & 0o777 == 0o600
    assert "slipway_app@" in first["DATABASE_URL"]
    assert first["REDIS_URL"].startswith("unix://")


def test_two_that_make_the_secrets_at_once_agree(tmp_path):
    code = "import sys; from pathlib import Path; from config.embedded import environment;"
    code += "print(environment(Path(sys.argv[1]))['SECRET_KEY'])"
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "state")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    assert len({maker.communicate()[0] for maker in makers}) == 1
