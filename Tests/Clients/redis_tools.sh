#!/usr/bin/env bash
# redis-cli in both protocols, interactive too: values, a transaction, a script, messages and a lock; and redis-benchmark
# with its own commands, messages and a lock's two.
set -euo pipefail
path=$1
namespace=$2
same() { [ "$1" = "$2" ] || { echo "'$1' instead of '$2'" >&2; exit 1; }; }

# The lock's owner removes it, and nobody else.
release="if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"
messages=$(mktemp)
trap 'rm -f "$messages"' EXIT

# subscribe COMMAND…: begins to collect what a channel is told, and returns once the subscription holds. The file is
# emptied before the command starts: it holds the lines of the one before.
subscribe() {
  : >"$messages"
  "$@" >>"$messages" 2>&1 &
  subscriber=$!
  waits_for subscribe
}

# waits_for TEXT: until a line of the messages is TEXT.
waits_for() {
  for _ in $(seq 200); do
    ! grep -qxF "$1" "$messages" || return 0
    sleep 0.05
  done
  echo "no '$1' within 10 s, but: $(cat "$messages")" >&2
  exit 1
}

for version in -2 -3; do
  cli=(redis-cli "$version" -s "$path")
  same "$("${cli[@]}" SET s 1)" OK
  same "$("${cli[@]}" GET s)" 1
  same "$("${cli[@]}" GET "$namespace:user:1")" ada
  same "$("${cli[@]}" -n 2 GET s)" ""
  same "$(printf 'MULTI\nINCR s\nGET s\nEXEC\n' | "${cli[@]}" | tail -2 | tr '\n' ' ')" "2 2 "
  same "$("${cli[@]}" --eval <(echo 'return ARGV[1]') , x)" x
  same "$("${cli[@]}" DEL s)" 1

  same "$("${cli[@]}" SET lock one NX PX 60000)" OK
  same "$("${cli[@]}" SET lock two NX PX 60000)" ""
  same "$("${cli[@]}" EVAL "$release" 1 lock two)" 0
  same "$("${cli[@]}" EVAL "$release" 1 lock one)" 1
  same "$("${cli[@]}" SET lock two NX PX 60000)" OK
  same "$("${cli[@]}" EVAL "$release" 1 lock two)" 1

  subscribe "${cli[@]}" SUBSCRIBE news
  same "$("${cli[@]}" PUBLISH news "one of $version")" 1
  waits_for "one of $version"
  kill "$subscriber"
  wait "$subscriber" || true
done

redis-benchmark -s "$path" -q -n 2000 -c 20 -P 8 -t set,get,incr,lpush,mset >/dev/null
subscribe redis-cli -s "$path" SUBSCRIBE load
redis-benchmark -s "$path" -q -n 500 -c 5 PUBLISH load m >/dev/null
same "$(redis-cli -s "$path" PUBLISH load last)" 1
waits_for last
same "$(grep -cxF m "$messages")" 500
kill "$subscriber"
wait "$subscriber" || true
# As many may try: one has it, and it can be given back.
redis-benchmark -s "$path" -q -n 500 -c 5 SET lock benchmark NX PX 60000 >/dev/null
same "$(redis-cli -s "$path" GET lock)" benchmark
redis-benchmark -s "$path" -q -n 500 -c 5 EVAL "$release" 1 lock benchmark >/dev/null
same "$(redis-cli -s "$path" EXISTS lock)" 0
