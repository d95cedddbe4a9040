<?php
// phpredis, and Predis, which has the same commands.
[, $path, $namespace] = $argv;

function same($actual, $expected): void
{
    if ($actual != $expected) {
        fwrite(STDERR, var_export($actual, true) . " instead of " . var_export($expected, true) . "\n");
        exit(1);
    }
}

$redis = new Redis();
$redis->connect($path);
same($redis->setex("s", 60, "1"), true);
same($redis->get("s"), "1");
same($redis->mGet(["s", "none"]), ["1", false]);
same($redis->hMSet("h", ["a" => "1"]), true);
same($redis->hGetAll("h"), ["a" => "1"]);
same($redis->multi()->set("p", "1")->get("p")->exec(), [true, "1"]);
same($redis->pipeline()->set("p", "2")->get("p")->exec(), [true, "2"]);
$redis->watch("p");
same($redis->multi()->incr("p")->exec(), [3]);
same($redis->eval("return ARGV[1]", ["x"], 0), "x");
same($redis->set("lock", "me", ["nx", "px" => 5000]), true);
same($redis->set("lock", "you", ["nx", "px" => 5000]), false);
$publisher = pcntl_fork();
if ($publisher === 0) {
    $own = new Redis();
    $own->connect($path);
    while ($own->publish("news", "hello") === 0) {
        usleep(10_000);
    }
    exit(0);
}
$heard = null;
$subscriber = new Redis();
$subscriber->connect($path);
try {
    $subscriber->subscribe(["news"], function ($subscriber, $channel, $message) use (&$heard) {
        $heard = $message;
        $subscriber->close();
    });
} catch (RedisException) {
    // Nothing else ends the loop.
}
pcntl_waitpid($publisher, $status);
same($heard, "hello");
same($redis->select(1), true);
same($redis->get("s"), false);
same($redis->select(0), true);
same($redis->get("$namespace:user:1"), "ada");
$redis->del("s", "h", "p", "lock");

require "Predis/Autoloader.php";
Predis\Autoloader::register();
$predis = new Predis\Client(["scheme" => "unix", "path" => $path]);
same((string) $predis->set("s", "1"), "OK");
same($predis->get("s"), "1");
same($predis->hset("h", "a", "1"), 1);
same($predis->hgetall("h"), ["a" => "1"]);
same(count($predis->transaction(function ($t) {
    $t->set("p", "1");
    $t->get("p");
})), 2);
same(count($predis->pipeline(function ($p) {
    $p->get("p");
    $p->del("p");
})), 2);
same($predis->eval("return ARGV[1]", 0, "x"), "x");
same((string) $predis->set("lock", "me", "PX", 5000, "NX"), "OK");
same($predis->set("lock", "you", "PX", 5000, "NX"), null);
same($predis->get("$namespace:user:1"), "ada");
$loop = $predis->pubSubLoop();
$loop->subscribe("news");
foreach ($loop as $message) {
    if ($message->kind === "subscribe") {
        $redis->publish("news", "hello");
    } else {
        same($message->payload, "hello");
        break;
    }
}
unset($loop);
$redis->del("s", "h", "lock");
