<?php
// Laravel's cache, over phpredis and over Predis.
error_reporting(E_ALL & ~E_DEPRECATED);
[, $path, $namespace] = $argv;
require "Illuminate/Cache/autoload.php";
require "Illuminate/Redis/autoload.php";
require "Predis/Autoloader.php";
Predis\Autoloader::register();

use Illuminate\Cache\RedisStore;
use Illuminate\Cache\Repository;
use Illuminate\Redis\RedisManager;

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

foreach (["phpredis", "predis"] as $driver) {
    $server = $driver === "phpredis"
        ? ["host" => $path, "port" => 0, "name" => "laravel"]
        : ["scheme" => "unix", "path" => $path];
    $redis = new RedisManager(null, $driver, [
        "default" => $server + ["database" => 0],
        "cache" => $server + ["database" => 1],
    ]);

    // Laravel's own default is database 1, the other is what governed keys are in.
    foreach (["cache", "default"] as $connection) {
        $cache = new Repository(new RedisStore($redis, "laravel", $connection));
        same($cache->put("a", ["x" => [1, 2]], 60), true);
        same($cache->get("a"), ["x" => [1, 2]]);
        same($cache->get("none", "default"), "default");
        same($cache->has("a"), true);
        same($cache->add("a", 1, 60), false);
        same($cache->add("b", 1, 60), true);
        same($cache->increment("b", 4), 5);
        same($cache->decrement("b"), 4);
        same($cache->forever("c", "d"), true);
        same($cache->putMany(["e" => "1", "f" => "two"], 60), true);
        same($cache->many(["e", "f", "none"]), ["e" => "1", "f" => "two", "none" => null]);
        same($cache->remember("g", 60, fn () => 7), 7);
        same($cache->remember("g", 60, fn () => 8), 7);
        same($cache->pull("g"), 7);
        same($cache->forget("g"), false);
        $lock = $cache->lock("lock", 5);
        same($lock->get(), true);
        same($cache->lock("lock", 5)->get(), false);
        same($lock->release(), true);
        same($cache->lock("lock", 5)->get(fn () => "inside"), "inside");
        $tagged = $cache->tags(["people", "authors"]);
        same($tagged->put("ada", "Ada", 60), true);
        same($tagged->forever("bo", "Bo"), true);
        same($cache->tags(["people", "authors"])->get("ada"), "Ada");
        same($cache->tags(["people"])->get("ada"), null);
        same($cache->tags("authors")->flush(), true);
        same($tagged->get("ada"), null);
        same($tagged->get("bo"), null);
    }

    // Keys that rows govern.
    $cache = new Repository(new RedisStore($redis, $namespace));
    $loads = 0;
    $read = function () use ($cache, &$loads) {
        return $cache->remember("user:2", 60, function () use (&$loads) {
            $loads++;
            return ["name" => "Bo"];
        });
    };
    kept(function () use ($read, &$loads) {
        same($read(), ["name" => "Bo"]);
        $before = $loads;
        same($read(), ["name" => "Bo"]);
        return $loads === $before;
    });
    same($cache->forget("user:2"), true);
    same($cache->get("user:2"), null);
    // `add` is a script, which may have written the key for all that is known: what it leaves is answered, and may go.
    kept(function () use ($cache, $read) {
        $read();
        return $cache->add("user:2", "other", 60) === false;
    });
    $cache->forget("user:2");
    same($cache->get("user:2"), null);
    $cache->forget("user:3");
    same($cache->add("user:3", "Cy", 60), true);
    kept(function () use ($cache) {
        $cache->many(["user:2", "user:4"]);
        same($cache->putMany(["user:2" => "Bo", "user:4" => "Di"], 60), true);
        return $cache->many(["user:2", "user:4"]) == ["user:2" => "Bo", "user:4" => "Di"];
    });
    same($redis->connection()->get("$namespace:user:1"), $driver === "phpredis" ? "ada" : null);
    // FLUSHDB, of the connection's database only.
    same($cache->flush(), true);
    same($cache->many(["user:2", "user:3", "user:4"]), ["user:2" => null, "user:3" => null, "user:4" => null]);
    $other = new Repository(new RedisStore($redis, "laravel", "cache"));
    same($other->get("c"), "d");
    same($other->flush(), true);
    same($other->get("c"), null);
}
