<?php
// Symfony's RedisAdapter and RedisTagAwareAdapter, over phpredis and over Predis.
error_reporting(E_ALL & ~E_DEPRECATED);
[, $path, $namespace] = $argv;
require "Symfony/Component/Cache/autoload.php";
require "Predis/Autoloader.php";
Predis\Autoloader::register();

use Symfony\Component\Cache\Adapter\RedisAdapter;
use Symfony\Component\Cache\Adapter\RedisTagAwareAdapter;
use Symfony\Contracts\Cache\ItemInterface;

function same($actual, $expected): void
{
    if ($actual != $expected) {
        $lines = implode(", ", array_column(debug_backtrace(), "line"));
        fwrite(STDERR, "lines $lines: " . var_export($actual, true) . " instead of " . var_export($expected, true) . "\n");
        exit(1);
    }
}

// Whether values stay after a miss: for governed keys as soon as a fill is accepted.
function kept(callable $try): void
{
    $deadline = microtime(true) + 10;
    while (!$try()) {
        same(microtime(true) < $deadline, true);
        usleep(10_000);
    }
}

foreach ([Redis::class, Predis\Client::class] as $class) {
    $redis = RedisAdapter::createConnection("redis://$path", ["class" => $class]);
    $cache = new RedisAdapter($redis, "symfony", 60);
    $loads = 0;
    $read = function ($cache, $key) use (&$loads) {
        return $cache->get($key, function (ItemInterface $item) use (&$loads, $key) {
            $loads++;
            $item->expiresAfter(60);
            return ["key" => $key];
        });
    };
    same($read($cache, "a"), ["key" => "a"]);
    same($read($cache, "a"), ["key" => "a"]);
    same($loads, 1);
    same($cache->hasItem("a"), true);
    same($cache->hasItem("none"), false);
    $item = $cache->getItem("b");
    same($item->isHit(), false);
    same($cache->save($item->set("value")), true);
    foreach (["c", "d"] as $key) {
        $cache->saveDeferred($cache->getItem($key)->set($key));
    }
    same($cache->commit(), true);
    $found = [];
    foreach ($cache->getItems(["b", "c", "d", "none"]) as $key => $item) {
        $found[$key] = $item->get();
    }
    same($found, ["b" => "value", "c" => "c", "d" => "d", "none" => null]);
    same($cache->deleteItems(["c", "d"]), true);
    same($cache->delete("b"), true);
    same($cache->hasItem("b"), false);
    $tagged = new RedisTagAwareAdapter($redis, "tagged");
    foreach (["ada" => ["people", "authors"], "bo" => ["people"], "sky" => ["places"]] as $key => $tags) {
        same($tagged->get($key, fn (ItemInterface $item) => $item->tag($tags) ? "$key 1" : null), "$key 1");
    }
    same($tagged->getItem("ada")->getMetadata()["tags"], ["people" => "people", "authors" => "authors"]);
    same($tagged->invalidateTags(["authors"]), true);
    same([$tagged->hasItem("ada"), $tagged->hasItem("bo"), $tagged->hasItem("sky")], [false, true, true]);
    same($tagged->deleteItem("bo"), true);
    same($tagged->invalidateTags(["people", "places"]), true);
    same($tagged->hasItem("sky"), false);

    // INFO, SCAN and UNLINK of what begins so.
    $read($tagged, "stays");
    same($cache->clear(), true);
    same($cache->hasItem("a"), false);
    same($tagged->hasItem("stays"), true);
    same($tagged->clear(), true);
    same($tagged->hasItem("stays"), false);

    // Keys that rows govern: a colon is not for Symfony's keys, so the connection puts the rest before them.
    $prefix = "$namespace:user:";
    if ($class === Redis::class) {
        $governing = RedisAdapter::createConnection("redis://$path");
        $governing->setOption(Redis::OPT_PREFIX, $prefix);
    } else {
        $governing = new Predis\Client(["scheme" => "unix", "path" => $path], ["prefix" => $prefix]);
    }
    $users = new RedisAdapter($governing);
    kept(function () use ($users, $read, &$loads) {
        same($read($users, "2"), ["key" => "2"]);
        $before = $loads;
        same($read($users, "2"), ["key" => "2"]);
        return $loads === $before;
    });
    kept(function () use ($users) {
        foreach ($users->getItems(["3", "4"]) as $item) {
            $users->saveDeferred($item->set("many"));
        }
        same($users->commit(), true);
        return $users->hasItem("3") && $users->hasItem("4");
    });
    same($users->deleteItems(["2", "3"]), true);
    same([$users->hasItem("2"), $users->hasItem("3"), $users->hasItem("4")], [false, false, true]);
    // Without a namespace of its own: FLUSHDB.
    same($read($cache, "a"), ["key" => "a"]);
    same($users->clear(), true);
    same([$users->hasItem("4"), $cache->hasItem("a")], [false, false]);
}
