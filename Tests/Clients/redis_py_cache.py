"""redis-py's own cache: off on Unix sockets as the library ships, so its parts are put together here, over the socket."""

import threading
import time

import redis
from redis.cache import CacheConfig, CacheFactory, CacheKey
from redis.connection import CacheProxyConnection, UnixDomainSocketConnection

from common import GOVERNED, PATH, same

cache = CacheFactory(CacheConfig()).get_cache()
inner = UnixDomainSocketConnection(path=PATH, protocol=3, decode_responses=True)
inner.host, inner.port = "localhost", 0
# The library wants 7.4; what it uses is in 7.0 as well.
CacheProxyConnection.MIN_ALLOWED_VERSION = "7.0.0"
connection = CacheProxyConnection(inner, cache, threading.RLock())
connection.connect()
other = redis.Redis(unix_socket_path=PATH, decode_responses=True)


def get(key):
    connection.send_command("GET", key, keys=[key])
    return connection.read_response()


def cached(key):
    entry = cache.get(CacheKey(command="GET", redis_keys=(key,), redis_args=("GET", key)))
    return entry is not None


def eventually(what, sentence):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if what():
            return
        time.sleep(0.01)
    same(sentence, "")


other.set("cached", "1")
same(get("cached"), "1")
same(get("cached"), "1")
same(cached("cached"), True)
other.set("cached", "2")
eventually(lambda: get("cached") == "2", "the new value never shows")
same(get(GOVERNED), "ada")
same(get(GOVERNED), "ada")
same(cached(GOVERNED), True)
other.delete("cached")
connection.disconnect()
