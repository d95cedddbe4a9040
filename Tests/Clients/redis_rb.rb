# redis-rb.
require "redis"

path, namespace = ARGV
def same(actual, expected)
  abort("#{actual.inspect} instead of #{expected.inspect}") unless actual == expected
end

redis = Redis.new(path: path)
same(redis.set("s", "1", ex: 60), "OK")
same(redis.get("s"), "1")
same(redis.incr("s"), 2)
same(redis.mapped_hmset("h", { "a" => "1" }), "OK")
same(redis.hgetall("h"), { "a" => "1" })
same(redis.pipelined { |p| p.set("p", "1"); p.get("p") }, ["OK", "1"])
same(redis.multi { |m| m.set("p", "2"); m.get("p") }, ["OK", "2"])
same(redis.watch("p") { |w| w.multi { |m| m.incr("p") } }, [3])
same(redis.eval("return ARGV[1]", [], ["x"]), "x")
same(redis.set("lock", "me", nx: true, px: 5000), true)
same(redis.set("lock", "you", nx: true, px: 5000), false)
ready = Queue.new
messages = Queue.new
listener = Thread.new do
  Redis.new(path: path).subscribe("news") do |on|
    on.subscribe { ready << true }
    on.message { |_, text| messages << text; Thread.current.kill }
  end
end
ready.pop
redis.publish("news", "hello")
same(messages.pop, "hello")
listener.join
redis.select(3)
same(redis.get("s"), nil)
redis.select(0)
same(redis.get("#{namespace}:user:1"), "ada")
redis.del("s", "h", "p", "lock")
redis.quit
