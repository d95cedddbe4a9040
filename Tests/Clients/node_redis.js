// node-redis.
const { createClient } = require("redis");
const assert = require("assert");

const [path, namespace] = process.argv.slice(2);

async function main() {
  const redis = createClient({ socket: { path } });
  await redis.connect();
  assert.equal(await redis.set("s", "1", { EX: 60 }), "OK");
  assert.equal(await redis.get("s"), "1");
  assert.equal(await redis.hSet("h", { a: "1" }), 1);
  assert.deepEqual({ ...(await redis.hGetAll("h")) }, { a: "1" });
  assert.deepEqual(await redis.multi().set("p", "1").get("p").exec(), ["OK", "1"]);
  assert.deepEqual(await Promise.all([redis.get("s"), redis.get("p"), redis.get("none")]), ["1", "1", null]);
  assert.equal(await redis.eval("return ARGV[1]", { arguments: ["x"] }), "x");
  assert.equal(await redis.set("lock", "me", { NX: true, PX: 5000 }), "OK");
  await redis.executeIsolated(async (own) => {
    await own.watch("p");
    assert.deepEqual(await own.multi().incr("p").exec(), [2]);
  });
  const subscriber = redis.duplicate();
  await subscriber.connect();
  const heard = new Promise((resolve) => subscriber.subscribe("news", resolve).then(() => redis.publish("news", "hello")));
  assert.equal(await heard, "hello");
  await subscriber.quit();
  assert.equal(await redis.get(`${namespace}:user:1`), "ada");
  await redis.del(["s", "h", "p", "lock"]);
  await redis.quit();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
