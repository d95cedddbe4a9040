"""coredis."""

import coredis
import trio

from common import GOVERNED, PATH, same


async def main():
    async with coredis.Redis(unix_socket_path=PATH) as r:
        same(await r.set("s", "1"), True)
        same(await r.get("s"), "1")
        same(await r.hset("h", {"a": "1"}), 1)
        same(await r.hgetall("h"), {"a": "1"})
        async with r.pipeline(transaction=True) as p:
            first = p.set("p", "1")
            second = p.get("p")
        same([await first, await second], [True, "1"])
        async with r.pipeline(transaction=False) as p:
            found = [p.get("s"), p.get("none")]
        same([await each for each in found], ["1", None])
        async with r.lock("lock", timeout=5):
            same(await r.exists(["lock"]), 1)
        async with r.pubsub(channels=["news"]) as subscriber:
            same(await r.publish("news", "hello"), 1)
            async for message in subscriber:
                if message["type"] == "message":
                    same(message["data"], "hello")
                    break
        same(await r.eval("return ARGV[1]", args=["x"]), "x")
        same(await r.get(GOVERNED), "ada")
        await r.delete(["s", "h", "p"])


trio.run(main)
