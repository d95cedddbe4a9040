#!/usr/bin/env python3
"""An in-process cache that PostgreSQL keeps honest: an example for applications that keep caches of their own.

It needs nothing but Python 3.10. `Subscriber` listens on the channel nearside:<namespace> of Redis itself, not on
the sidecar's socket, and takes what it hears out of its cache:

    users = Subscriber("/run/redis/redis.sock", "shop")     # or "host:6379"
    users.start()
    ...
    value, ticket = users.get("shop:user:42")
    if value is None:
        value = load_user(42)                               # after get, committed data
        users.put("shop:user:42", value, ticket)

The rules, which any other language can follow as well:
- A message is one JSON object. Versions 1 and 2 are known here; of any other, drop everything.
- Version 2 names prefixes and tags beside keys: every key that begins with one of the prefixes goes, and every
  key that has one of the tags. Whoever cannot tell the tags of a key drops everything.
- Within a generation, sequence grows by one. A number that is missing, another generation, or "all":true: drop
  everything. So is a new connection, since nothing tells what was said while there was none.
- A value that was read before its key was dropped must not be put in afterwards. Hence the ticket: put does
  nothing if the key was dropped since get gave it.
- While there is no connection nothing is stored and nothing is found.

Run by itself it prints what it hears:  subscriber.py /run/redis/redis.sock shop
"""
import json
import socket
import sys
import threading
import time


class Subscriber(threading.Thread):
    """A cache that is kept coherent; `heard`, if given, is called with each message after it has acted.

    `tags`, if given, is called with a key and returns its tags, as the mapping's "caches" have them.
    """

    def __init__(self, address, namespace, heard=None, tags=None):
        super().__init__(daemon=True)
        self.address = address
        self.channel = "nearside:" + namespace
        self.heard = heard
        self.tags = tags
        self.lock = threading.Lock()
        self.connected = False
        self.cache = {}
        self.tickets = {}  # keys that somebody loads, with the ticket that get gave
        self.generation = None
        self.sequence = None

    def get(self, key):
        """The value and None, or None and the ticket for a put."""
        with self.lock:
            if key in self.cache:
                return self.cache[key], None
            return None, self.tickets.setdefault(key, object()) if self.connected else None

    def put(self, key, value, ticket):
        """Stores a value that was read after get gave this ticket; False if it may be old by now."""
        with self.lock:
            if ticket is None or self.tickets.get(key) is not ticket:
                return False
            del self.tickets[key]
            self.cache[key] = value
            return True

    def run(self):
        while True:
            try:
                self.listen()
            except (OSError, EOFError, ValueError):
                pass
            self.drop_everything(connected=False)
            time.sleep(0.1)

    def listen(self):
        """One connection, from SUBSCRIBE to its end."""
        with connect(self.address) as connection:
            # Silence is normal, but a connection whose other end is gone must be noticed: a PING is answered.
            connection.settimeout(5)
            send(connection, "SUBSCRIBE", self.channel)
            replies = Replies(connection, idle=lambda: send(connection, "PING"))
            while True:
                reply = replies.next()
                if not isinstance(reply, list):
                    raise ValueError(reply)
                if reply[0] == b"subscribe":
                    # What is put in from here on is covered by what is heard from here on.
                    self.drop_everything(connected=True)
                elif reply[0] == b"message":
                    self.hear(json.loads(reply[2]))

    def hear(self, message):
        if message["version"] not in (1, 2):
            self.drop_everything(connected=True)
            return
        here = (message["generation"], message["sequence"])
        # The first message on a connection may have any number: everything was dropped when it was made.
        follows = self.generation is None or here == (self.generation, self.sequence + 1)
        if follows and not message.get("all") and (self.tags or not message.get("tags")):
            with self.lock:
                gone = set(message["keys"])
                if message.get("prefixes") or message.get("tags"):
                    gone.update(key for key in [*self.cache, *self.tickets] if self.covered(key, message))
                for key in gone:
                    self.cache.pop(key, None)
                    self.tickets.pop(key, None)
        else:
            self.drop_everything(connected=True)
        self.generation, self.sequence = here
        if self.heard:
            self.heard(message)

    def covered(self, key, message):
        """Whether a prefix or a tag of the message covers the key."""
        if key.startswith(tuple(message["prefixes"])):
            return True
        return bool(message["tags"]) and not set(message["tags"]).isdisjoint(self.tags(key))

    def drop_everything(self, connected):
        with self.lock:
            self.connected = connected
            self.cache.clear()
            self.tickets.clear()
        self.generation = self.sequence = None


def connect(address):
    if "/" not in address:
        host, _, port = address.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=5)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def send(connection, *words):
    """One command in RESP: its length, then each word with its own."""
    words = [word.encode() for word in words]
    connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))


class Replies:
    """Reads RESP2 replies from a socket."""

    def __init__(self, connection, idle):
        self.connection = connection
        self.idle = idle
        self.unread = b""

    def next(self):
        line = self.until(b"\r\n")
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise ValueError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.until(b"\r\n", int(rest))
        if kind == b"*":
            return [self.next() for _ in range(int(rest))]
        return rest

    def until(self, end, count=None):
        """The bytes before `end`, or `count` bytes that `end` follows; both are taken."""
        asked = False
        while (at := self.unread.find(end) if count is None else count) < 0 or len(self.unread) < at + len(end):
            try:
                more = self.connection.recv(65536)
            except TimeoutError:
                if asked:
                    raise
                asked = True
                self.idle()
                continue
            if not more:
                raise EOFError
            asked = False
            self.unread += more
        found, self.unread = self.unread[:at], self.unread[at + len(end) :]
        return found


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: subscriber.py SOCKET|HOST:PORT NAMESPACE")
    Subscriber(sys.argv[1], sys.argv[2], heard=lambda message: print(json.dumps(message), flush=True)).run()
