"""A private PostgreSQL, a private Redis and a sidecar before it, in a temporary folder, for suites that others wrote."""

import contextlib
import glob
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent

# What Redis's suite does to the server that it tests. Nobody needs all of this beside an application.
ALLOWED = [
    "acl", "bgrewriteaof", "bgsave", "client", "config", "debug", "flushall", "flushdb", "latency", "migrate", "module",
    "monitor", "pfdebug", "pfselftest", "replicaof", "restore-asking", "save", "shutdown", "slaveof", "slowlog",
    "swapdb",
]


def wait_for(what, test, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if test():
            return
        time.sleep(0.05)
    raise SystemExit(f"waited {seconds} s for {what} in vain")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Site(contextlib.AbstractContextManager):
    """Attributes: folder, socket and port (of the sidecar), redis (the socket of Redis itself), psql (a command, up to the
    statement), processes (name and process). wrapper: words before the sidecar's command, a profiler for example; schema:
    statements besides the table users."""

    def __init__(
            self, nearside, database=0, tables='{"users": "user:{id}"}', options="", redis=(), wrapper=(), schema=""):
        self.processes = []
        self.folder = tempfile.mkdtemp(prefix="nearside-foreign.")
        try:
            self._start(nearside, database, tables, options, redis, list(wrapper), schema)
        except BaseException:
            self.__exit__()
            raise

    def _start(self, nearside, database, tables, options, redis, wrapper, schema):
        os.chmod(self.folder, 0o755)
        as_user = []
        if os.geteuid() == 0:
            # PostgreSQL refuses to run as root; Debian's package brings this user.
            as_user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"]
            shutil.chown(self.folder, "postgres")
        binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        data = self.folder + "/data"
        subprocess.run(
            as_user + [binaries + "/initdb", "-D", data, "-A", "trust", "-U", "shop", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd=self.folder)
        self._run("postgres", as_user + [
            binaries + "/postgres", "-D", data, "-k", self.folder, "-c", "listen_addresses=", "-c", "wal_level=logical",
            "-c", "fsync=off"])
        psql = [binaries + "/psql", "-X", "-q", "-h", self.folder, "-U", "shop", "-d", "postgres", "-c"]
        wait_for("PostgreSQL", lambda: subprocess.run(
            psql + ["SELECT 1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0)
        subprocess.run(psql + ["CREATE TABLE users (id bigint PRIMARY KEY, name text);" + schema], check=True)
        self.psql = psql
        self.redis = self.folder + "/redis.sock"
        self._run("redis", [
            "redis-server", "--port", "0", "--unixsocket", self.redis, "--dir", self.folder, "--save", "",
            "--enable-protected-configs", "yes", "--enable-debug-command", "yes", "--enable-module-command", "yes",
            *redis])
        wait_for("Redis", lambda: self._answers(self.redis, "PING", "PONG"))
        self.socket = self.folder + "/n.sock"
        self.port = free_port()
        # A suite may be run again with clients spread over several threads, the first hit being enough to move one.
        threads = os.environ.get("NEARSIDE_TEST_THREADS")
        if threads:
            options += f' "threads": {threads},'
        names = ", ".join(f'"{name}"' for name in ALLOWED)
        with open(self.folder + "/config.json", "w") as file:
            file.write(
                f'{{ "namespace": "foreign", "listen": {{ "socket": "{self.socket}", "tcp": "127.0.0.1:{self.port}" }},\n'
                f'  "commands": {{ "allow": [{names}] }}, {options}\n  "tables": {tables} }}\n')
        self.environment = dict(
            os.environ, DATABASE_URL=f"postgresql://shop@/postgres?host={self.folder}",
            REDIS_URL=f"unix://{self.redis}?db={database}")
        if threads:
            self.environment["NEARSIDE_LEND_AFTER"] = "1"
        config = ["--config", self.folder + "/config.json"]
        subprocess.run(
            [nearside, "setup", *config, "--apply"], check=True, env=self.environment, stdout=subprocess.DEVNULL)
        self._run("nearside", [*wrapper, nearside, "run", *config], env=self.environment)
        wait_for("the sidecar", lambda: self._answers(self.socket, "NEARSIDE STATUS", "cleared:1"), 90 if wrapper else 20)

    def _answers(self, path, command, text):
        done = subprocess.run(
            ["redis-cli", "-s", path, *command.split()], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return text in done.stdout

    def _run(self, name, command, env=None):
        log = open(f"{self.folder}/{name}.log", "w")
        self.processes.append((name, subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, cwd=self.folder)))

    def log(self, name):
        with open(f"{self.folder}/{name}.log") as file:
            return file.read()

    def __exit__(self, *_):
        for name, process in reversed(self.processes):
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
