# Rails' RedisCacheStore.
require "active_support"
require "active_support/cache"
require "active_support/cache/redis_cache_store"

PATH, NAMESPACE = ARGV
def same(actual, expected)
  abort("#{actual.inspect} instead of #{expected.inspect} at #{caller(1, 1).first}") unless actual == expected
end

# Whether values stay after a miss: at once for usual keys; for governed ones as soon as a fill is accepted.
def kept
  deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 10
  until yield
    abort("nothing is kept at #{caller(1, 1).first}") if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
    sleep 0.01
  end
end

def store(namespace)
  # Without a handler errors count as misses.
  ActiveSupport::Cache::RedisCacheStore.new(
    path: PATH, namespace: namespace,
    error_handler: ->(method:, exception:, returning:) { raise exception }
  )
end

[nil, "rails"].each do |namespace|
  cache = store(namespace)
  cache.delete("n")
  same(cache.write("a", { "x" => [1, 2] }, expires_in: 60), "OK")
  same(cache.read("a"), { "x" => [1, 2] })
  same(cache.read("none"), nil)
  same(cache.exist?("a"), true)
  same(cache.exist?("none"), false)
  same(cache.write("a", 2, unless_exist: true), false)
  same(cache.fetch("b", expires_in: 60, race_condition_ttl: 5) { 7 }, 7)
  same(cache.fetch("b") { raise "it is there" }, 7)
  cache.write_multi({ "c" => 1, "d" => 2 })
  same(cache.read_multi("c", "d", "none"), { "c" => 1, "d" => 2 })
  cache.write_multi({ "c" => 3, "d" => 4 }, expires_in: 60)
  same(cache.fetch_multi("c", "d", "e") { |name| name * 2 }, { "c" => 3, "d" => 4, "e" => "ee" })
  same(cache.increment("n", 5, expires_in: 60), 5)
  same(cache.increment("n"), 6)
  same(cache.decrement("n", 2), 4)
  same(cache.read("n", raw: true), "4")
  same(0 < cache.redis.ttl([namespace, "n"].compact.join(":")), true)
  # A lock as applications make it of a cache.
  same(cache.write("lock", "me", unless_exist: true, expires_in: 5), true)
  same(cache.write("lock", "you", unless_exist: true, expires_in: 5), false)
  same(cache.delete("lock"), 1)
  same(cache.delete("lock"), 0)
  same(cache.delete_multi(["c", "d", "none"]), 2)
  cache.write_multi((1..50).to_h { |n| ["many:#{n}", n] })
  cache.delete_matched("many:*")
  same(cache.read("many:1"), nil)
  same(cache.redis.info["role"], "master")
  # Large values are compressed.
  cache.write("large", "x" * 100_000)
  same(cache.read("large").size, 100_000)
end

# Keys that rows govern: a miss, then a fill, as `fetch` does it.
cache = store(NAMESPACE)
same(cache.redis.get("#{NAMESPACE}:user:1"), "ada")
loads = 0
read = -> { cache.fetch("user:2", expires_in: 60) { loads += 1; { "name" => "Bo" } } }
kept do
  same(read.call, { "name" => "Bo" })
  before = loads
  same(read.call, { "name" => "Bo" })
  loads == before
end
kept do
  before = loads
  same(cache.fetch_multi("user:2", "user:3") { |name| loads += 1; name }, { "user:2" => { "name" => "Bo" }, "user:3" => "user:3" })
  same(cache.read("user:2"), { "name" => "Bo" })
  loads == before
end
same(cache.delete("user:2"), 1)
same(cache.read("user:2"), nil)
same(cache.exist?("user:3"), true)
same(cache.delete_multi(["user:2", "user:3"]), 1)
kept { read.call; cache.exist?("user:2") }
# With a namespace SCAN and DEL, without one FLUSHDB.
cache.clear
same(cache.read("user:2"), nil)
same(cache.redis.get("#{NAMESPACE}:user:1"), nil)
same(store("rails").read("a"), { "x" => [1, 2] })
kept { read.call; cache.exist?("user:2") }
store(nil).clear
same(store("rails").read("a"), nil)
same(store(nil).read("a"), nil)
same(cache.read("user:2"), nil)
