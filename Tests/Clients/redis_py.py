"""redis-py, in both protocols, and valkey-py, which has the same interface."""

import importlib
import threading

from common import GOVERNED, PATH, same


def run(library, **options):
    r = library.Redis(unix_socket_path=PATH, **options)
    same(r.ping(), True)
    same(r.set("s", "1", ex=60), True)
    same(r.get("s"), "1")
    same(r.incr("s"), 2)
    same(r.mget("s", "none"), ["2", None])
    same(0 < r.ttl("s") <= 60, True)
    same(r.hset("h", mapping={"a": "1", "b": "2"}), 2)
    same(r.hgetall("h"), {"a": "1", "b": "2"})
    same(r.sadd("set", "x"), 1)
    same(set(r.smembers("set")), {b"x"})
    same(r.zadd("z", {"one": 1.5}), 1)
    same(r.zscore("z", "one"), 1.5)
    with r.pipeline(transaction=False) as p:
        same(p.set("p", "1").get("p").delete("p").execute(), [True, "1", 1])
    with r.pipeline() as p:
        same(p.set("p", "1").get("p").hgetall("h").execute(), [True, "1", {"a": "1", "b": "2"}])

    def increment(pipe):
        value = int(pipe.get("p"))
        pipe.multi()
        pipe.set("p", value + 1)

    same(r.transaction(increment, "p"), [True])
    same(r.get("p"), "2")
    same(r.register_script("return {KEYS[1], ARGV[1]}")(keys=["p"], args=["x"]), ["p", "x"])
    with r.lock("lock", timeout=5):
        same(r.exists("lock"), 1)
    same(r.exists("lock"), 0)
    subscriber = r.pubsub()
    subscriber.subscribe("news")
    same(subscriber.get_message(timeout=5)["type"], "subscribe")
    same(r.publish("news", "hello"), 1)
    same(subscriber.get_message(timeout=5)["data"], "hello")
    subscriber.close()
    waiter = threading.Thread(target=lambda: same(r.blpop("queue", timeout=5), ["queue", "job"]))
    waiter.start()
    r.rpush("queue", "job")
    waiter.join()
    same(r.get(GOVERNED), "ada")
    same(r.client_setname("zoo"), True)
    same(sorted(r.scan_iter("s*")) and True, True)
    r.delete("s", "h", "set", "z", "p")
    r.close()


redis = importlib.import_module("redis")
run(redis)
run(redis, protocol=2, decode_responses=True)
run(importlib.import_module("valkey"))
