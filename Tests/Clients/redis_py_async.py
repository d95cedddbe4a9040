"""redis-py's asyncio client."""

import asyncio

import redis.asyncio

from common import GOVERNED, PATH, same


async def main():
    r = redis.asyncio.Redis(unix_socket_path=PATH)
    same(await r.set("s", "1"), True)
    same(await asyncio.gather(*(r.get("s") for _ in range(50))), ["1"] * 50)
    async with r.pipeline() as p:
        same(await p.incr("s").get("s").execute(), [2, "2"])
    same(await r.hset("h", mapping={"a": "1"}), 1)
    same(await r.hgetall("h"), {"a": "1"})
    async with r.pipeline(transaction=False) as p:
        same(await p.get("s").get("none").execute(), ["2", None])
    same(await r.register_script("return {KEYS[1], ARGV[1]}")(keys=["s"], args=["x"]), ["s", "x"])
    async with r.lock("lock", timeout=5):
        same(await r.exists("lock"), 1)
    async with r.pubsub() as subscriber:
        await subscriber.subscribe("news")
        await subscriber.get_message(timeout=5)
        await r.publish("news", "hello")
        same((await subscriber.get_message(timeout=5))["data"], "hello")
    same(await r.get(GOVERNED), "ada")
    await r.delete("s", "h")
    await r.aclose()


asyncio.run(main())
