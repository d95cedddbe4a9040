"""valkey-glide, whose core is written in Rust."""

import asyncio

from glide import Batch, ConditionalChange, GlideClient, GlideClientConfiguration, NodeAddress, ProtocolVersion, Script

from common import GOVERNED, PATH, same


async def run(protocol):
    r = await GlideClient.create(
        GlideClientConfiguration([NodeAddress(unix_socket_path=PATH)], protocol=protocol, request_timeout=5000)
    )
    same(await r.set("s", "1"), "OK")
    same(await r.get("s"), "1")
    same(await r.hset("h", {"a": "1"}), 1)
    same(await r.hgetall("h"), {"a": "1"})
    batch = Batch(is_atomic=True)
    batch.set("p", "1")
    batch.get("p")
    same(await r.exec(batch, raise_on_error=True), ["OK", "1"])
    batch = Batch(is_atomic=False)
    batch.get("p")
    batch.get("none")
    same(await r.exec(batch, raise_on_error=True), ["1", None])
    only_once = ConditionalChange.ONLY_IF_DOES_NOT_EXIST
    same(await r.set("lock", "me", conditional_set=only_once), "OK")
    same(await r.set("lock", "you", conditional_set=only_once), None)
    same(await r.invoke_script(Script("return ARGV[1]"), args=["x"]), "x")
    same(await r.get(GOVERNED), "ada")
    if protocol == ProtocolVersion.RESP3:
        modes = GlideClientConfiguration.PubSubChannelModes
        subscriber = await GlideClient.create(
            GlideClientConfiguration(
                [NodeAddress(unix_socket_path=PATH)],
                request_timeout=5000,
                pubsub_subscriptions=GlideClientConfiguration.PubSubSubscriptions({modes.Exact: {"news"}}, None, None),
            )
        )
        same(await r.publish("hello", "news"), 1)
        same((await subscriber.get_pubsub_message()).message, "hello")
        await subscriber.close()
    await r.delete(["s", "h", "p", "lock"])
    await r.close()


asyncio.run(run(ProtocolVersion.RESP2))
asyncio.run(run(ProtocolVersion.RESP3))
