"""Django's own Redis cache, django-redis and dogpile.cache."""

import django
from django.conf import settings

from common import PATH, same

settings.configure(
    CACHES={
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "unix://" + PATH},
        "other": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": "unix://" + PATH,
            "KEY_PREFIX": "other",
        },
    }
)
django.setup()

from django.core.cache import caches

for name in ["default", "other"]:
    cache = caches[name]
    cache.set("a", {"x": [1, 2]}, 60)
    same(cache.get("a"), {"x": [1, 2]})
    same(cache.get("none", "default"), "default")
    same(cache.add("a", 1), False)
    same(cache.add("b", 1), True)
    same(cache.incr("b", 4), 5)
    cache.set_many({"c": 1, "d": 2}, 60)
    same(cache.get_many(["c", "d", "e"]), {"c": 1, "d": 2})
    same(cache.get_or_set("f", lambda: 7, 60), 7)
    same(cache.touch("f", 10), True)
    same(cache.has_key("f"), True)
    cache.delete_many(["a", "b", "c", "d"])
    same(cache.delete("f"), True)
    same(cache.get("a"), None)

cache = caches["other"]
cache.set("version", 1)
same(cache.ttl("version") > 0, True)
with cache.lock("lock", timeout=5):
    pass
same(cache.delete_pattern("ver*"), 1)

for name in ["default", "other"]:
    caches[name].set("a", 1)
    caches[name].clear()
    same(caches[name].get("a"), None)

from dogpile.cache import make_region

region = make_region().configure(
    "dogpile.cache.redis",
    expiration_time=60,
    arguments={"url": "unix://" + PATH, "distributed_lock": True, "thread_local_lock": False},
)
calls = []


@region.cache_on_arguments()
def squared(n):
    calls.append(n)
    return n * n


squared.invalidate(3)
same([squared(3), squared(3)], [9, 9])
same(calls, [3])
squared.invalidate(3)
same(squared(3), 9)
same(calls, [3, 3])
