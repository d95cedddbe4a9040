"""Whether a running sidecar exposes what the alerts, the dashboard and the runbook speak of:

    live.py NEARSIDE PROMTOOL [LEFT_OUT]

Starts a PostgreSQL and a Redis in a temporary folder and NEARSIDE with a cache of each kind, uses it, and compares the
names of metrics, and the values of labels that are asked for by name, with what /metrics answers. PROMTOOL judges that
answer, too. Prints what is wrong. LEFT_OUT is a regular expression for names that are not looked for.
"""

import glob
import http.client
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

nearside, promtool = map(os.path.abspath, sys.argv[1:3])
left_out = re.compile(sys.argv[3] if len(sys.argv) > 3 else "$^")
root = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
dashboards = ["deploy/grafana/dashboard.json", "deploy/prometheus/alerts.yml"]
CONFIGURATION = """{
  "namespace": "shop",
  "postgres": { "url": "postgresql://shop@/shop?host=FOLDER" },
  "redis": { "url": "unix://FOLDER/redis.sock" },
  "listen": { "socket": "FOLDER/n.sock" },
  "near": { "size": "1MiB" },
  "audit": { "share": "100%" },
  "tables": { "users": "user:{id}", "carts": "cart:{user_id}" },
  "caches": {
    "user:{id}": { "load": "SELECT name FROM users WHERE id = :id" },
    "cart:{user_id}": {
      "write": {
        "policy": "behind", "delay": "1ms",
        "sql": "INSERT INTO carts (user_id, body) VALUES (:user_id, :value::jsonb) ON CONFLICT (user_id) DO UPDATE SET body = excluded.body"
      }
    }
  }
}
"""
folder = tempfile.mkdtemp(prefix="nearside-live-")
processes = []


def start(*command, **options):
    with open(f"{folder}/{os.path.basename(command[0])}.log", "ab") as log:
        processes.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **options))


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def eventually(what, condition, seconds=30):
    """condition() is None, False or "" until it holds."""
    end = time.monotonic() + seconds
    while not (found := attempt(condition)):
        if time.monotonic() > end:
            raise SystemExit(f"waited {seconds} s in vain: {what}")
        time.sleep(0.05)
    return found


def attempt(condition):
    try:
        return condition()
    except (OSError, SystemExit, http.client.HTTPException):
        return None


def ask(*words):
    return run("redis-cli", "-e", "-s", f"{folder}/n.sock", *words)


def sql(text, database="shop"):
    return run("psql", "-XAt", "-h", folder, "-U", "shop", "-d", database, "-c", text)


def scrape():
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(10)
    connection.sock.connect(f"{folder}/n.sock.admin")
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


def servers():
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)[0]
    user = {}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root.
        entry = pwd.getpwnam("postgres")
        user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    os.chmod(folder, 0o755)
    run(f"{programs}/initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "shop", "-E", "UTF8", "--locale=C.UTF-8",
        "--no-sync", cwd=folder, **user)
    # With a limit, so that the slot's safe_wal_size is known.
    start(f"{programs}/postgres", "-D", f"{folder}/data", "-k", folder, "-c", "listen_addresses=", "-c",
          "wal_level=logical", "-c", "max_slot_wal_keep_size=1GB", cwd=folder, **user)
    start("redis-server", "--port", "0", "--unixsocket", f"{folder}/redis.sock", "--dir", folder, "--save", "")
    eventually("PostgreSQL", lambda: sql("SELECT 1", "postgres"))
    eventually("Redis", lambda: run("redis-cli", "-s", f"{folder}/redis.sock", "PING"))
    sql("CREATE DATABASE shop", "postgres")
    run("psql", "-Xq", "-h", folder, "-U", "shop", "-d", "shop", "-v", "ON_ERROR_STOP=1", "-f", f"{root}/deploy/shop.sql")


def use():
    eventually("the sidecar", lambda: ask("PING") == "PONG")
    eventually("it follows", lambda: re.search(r"standing:following[\s\S]*staleness_ms:\d", ask("NEARSIDE", "STATUS")) or
               re.search(r"staleness_ms:\d[\s\S]*standing:following", ask("NEARSIDE", "STATUS")))
    name = sql("SELECT name FROM users WHERE id = 42")
    eventually("a row is loaded", lambda: ask("GET", "shop:user:42") == name)
    sql("UPDATE users SET name = 'Grace' WHERE id = 42")
    eventually("a change is seen", lambda: ask("GET", "shop:user:42") == "Grace")
    ask("SET", "shop:cart:42", '{"books": 1}')
    ask("GET", "shop:other")
    eventually("a value is written behind", lambda: sql("SELECT body FROM carts WHERE user_id = 42"))


def asked():
    """What alerts and dashboard ask for: names of metrics, and (name, label, value) of matchers with fixed values."""
    names, matchers = set(), set()
    for path in dashboards:
        with open(f"{root}/{path}", encoding="utf-8") as file:
            text = file.read().replace('\\"', '"')
        for name, labels in re.findall(r"\b((?:nearside|process)_\w+)\{([^}]*)\}", text):
            for label, value in re.findall(r'(\w+)=~?"([^"]*)"', labels):
                if "$" not in value and label not in ("job", "instance"):
                    matchers |= {(name, label, part) for part in value.split("|")}
        names |= set(re.findall(r"\b(?:nearside|process)_\w+", text))
    with open(f"{root}/deploy/runbook.md", encoding="utf-8") as file:
        names |= set(re.findall(r"\bnearside_\w+", file.read()))
    names = {name for name in names if not left_out.match(name)}
    if len(names) < 30 or len(matchers) < 5:
        raise SystemExit(f"only {len(names)} names and {len(matchers)} labels were found in alerts, dashboard and runbook")
    return names, matchers


def missing():
    text = scrape()
    samples = [line for line in text.splitlines() if line and not line.startswith("#")]
    live = {re.match(r"\w+", line)[0] for line in samples}
    names, matchers = asked()
    found = []
    for name in sorted(names):
        if name not in live and f"{name}_bucket" not in live:
            found.append(f"{name} is asked for, and not exposed")
    for name, label, value in sorted(matchers):
        if not any(re.match(rf'{name}\{{(.*,)?{label}="{re.escape(value)}"', line) for line in samples):
            found.append(f'{name}{{{label}="{value}"}} is asked for, and not exposed')
    return found, text


def main():
    servers()
    with open(f"{folder}/config.json", "w", encoding="utf-8") as file:
        file.write(CONFIGURATION.replace("FOLDER", folder))
    run(nearside, "setup", "--config", f"{folder}/config.json", "--apply")
    start(nearside, "run", "--config", f"{folder}/config.json")
    use()
    # Redis's INFO and the slot's state are asked for every few seconds.
    end = time.monotonic() + 15
    found, text = missing()
    while found and time.monotonic() < end:
        time.sleep(0.5)
        found, text = missing()
    judged = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    if judged.returncode != 0:
        found.append(f"promtool check metrics: {judged.stdout}{judged.stderr}")
    print("\n".join(found), end="\n" if found else "")


try:
    main()
except BaseException:
    for log in glob.glob(f"{folder}/*.log"):
        with open(log, encoding="utf-8", errors="replace") as file:
            print(f"{os.path.basename(log)}: {file.read()[-1500:]}")
    raise
finally:
    for process in reversed(processes):
        process.send_signal(signal.SIGINT if "postgres" in process.args[0] else signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)
