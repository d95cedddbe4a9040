#!/usr/bin/env bash
# redis-cli in both protocols, interactive too, and redis-benchmark.
set -euo pipefail
path=$1
namespace=$2
same() { [ "$1" = "$2" ] || { echo "'$1' instead of '$2'" >&2; exit 1; }; }

for version in -2 -3; do
  cli=(redis-cli "$version" -s "$path")
  same "$("${cli[@]}" SET s 1)" OK
  same "$("${cli[@]}" GET s)" 1
  same "$("${cli[@]}" GET "$namespace:user:1")" ada
  same "$("${cli[@]}" -n 2 GET s)" ""
  same "$(printf 'MULTI\nINCR s\nGET s\nEXEC\n' | "${cli[@]}" | tail -2 | tr '\n' ' ')" "2 2 "
  same "$("${cli[@]}" --eval <(echo 'return ARGV[1]') , x)" x
  same "$("${cli[@]}" DEL s)" 1
done
redis-benchmark -s "$path" -q -n 2000 -c 20 -P 8 -t set,get,incr,lpush,mset > /dev/null
