-- redis-lua.
local redis = require("redis")
local path, namespace = arg[1], arg[2]

local function same(actual, expected)
  if actual ~= expected then
    io.stderr:write(tostring(actual) .. " instead of " .. tostring(expected) .. "\n")
    os.exit(1)
  end
end

local client = redis.connect("unix://" .. path)
same(client:set("s", "1"), true)
same(client:get("s"), "1")
same(client:hset("h", "a", "1"), true)
same(client:hgetall("h").a, "1")
local replies = client:transaction(function(t)
  t:set("p", "1")
  t:get("p")
end)
same(replies[2], "1")
replies = client:pipeline(function(p)
  p:get("p")
  p:del("p")
end)
same(replies[1], "1")
same(client:eval("return ARGV[1]", 0, "x"), "x")
same(client:set("lock", "me", "NX", "PX", 5000), true)
same(client:set("lock", "you", "NX", "PX", 5000), nil)
local subscriber = redis.connect("unix://" .. path)
for message, stop in subscriber:pubsub({ subscribe = { "news" } }) do
  if message.kind == "subscribe" then
    client:publish("news", "hello")
  elseif message.kind == "message" then
    same(message.payload, "hello")
    stop()
  end
end
same(client:get(namespace .. ":user:1"), "ada")
client:del("s", "h", "lock")
client:quit()
