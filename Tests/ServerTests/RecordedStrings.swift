/// Commands on strings and the bytes with which Redis 7.0.15 answered them, each on an empty server, one group
/// after the other. In arguments and replies `\r`, `\n` and `\xff` stand for the bytes they name, and `''` for
/// no byte at all.
enum RecordedStrings {
  static let text = #"""
    GET user:set-errors -> $-1\r\n
    SET user:set-errors -> -ERR wrong number of arguments for 'set' command\r\n
    SET user:set-errors b c -> -ERR syntax error\r\n
    SET user:set-errors b EX -> -ERR syntax error\r\n
    SET user:set-errors b EX 0 -> -ERR invalid expire time in 'set' command\r\n
    SET user:set-errors b EX -1 -> -ERR invalid expire time in 'set' command\r\n
    SET user:set-errors b EX x -> -ERR value is not an integer or out of range\r\n
    SET user:set-errors b EX 010 -> -ERR value is not an integer or out of range\r\n
    SET user:set-errors b EX 10 PX 10 -> -ERR syntax error\r\n
    SET user:set-errors b EX 10 KEEPTTL -> -ERR syntax error\r\n
    SET user:set-errors b KEEPTTL EX 10 -> -ERR syntax error\r\n
    SET user:set-errors b PERSIST -> -ERR syntax error\r\n
    SET user:set-errors b NX XX -> -ERR syntax error\r\n
    SET user:set-errors b XX NX -> -ERR syntax error\r\n
    SET user:set-errors b EX 9223372036854775807 -> -ERR invalid expire time in 'set' command\r\n
    SET user:set-errors b EX 9223372036854775 -> -ERR invalid expire time in 'set' command\r\n
    SET user:set-errors b EX 9223372036854774 -> -ERR invalid expire time in 'set' command\r\n
    SET user:set-errors b PX 9223372036854775807 -> -ERR invalid expire time in 'set' command\r\n
    SET user:set-errors b PX 0 -> -ERR invalid expire time in 'set' command\r\n
    SET user:set-errors b EXAT 0 -> -ERR invalid expire time in 'set' command\r\n
    SET user:set-errors b EXAT 9223372036854775807 -> -ERR invalid expire time in 'set' command\r\n
    SET user:set-errors b PXAT -1 -> -ERR invalid expire time in 'set' command\r\n
    SET user:set-errors b NX EX 0 -> -ERR invalid expire time in 'set' command\r\n
    SET user:set-errors b EX 99999999999999999999 -> -ERR value is not an integer or out of range\r\n
    GET user:set-errors -> $-1\r\n

    GET user:set -> $-1\r\n
    SET user:set c XX -> $-1\r\n
    SET user:set c XX GET -> $-1\r\n
    SET user:set b NX GET -> $-1\r\n
    GET user:set -> $1\r\nb\r\n
    SET user:set c NX -> $-1\r\n
    SET user:set c NX GET -> $1\r\nb\r\n
    GET user:set -> $1\r\nb\r\n
    SET user:set c XX GET -> $1\r\nb\r\n
    SET user:set d GET -> $1\r\nc\r\n
    sEt user:set e xX eX 100 Get -> $1\r\nd\r\n
    TTL user:set -> :100\r\n
    SET user:set f KEEPTTL -> +OK\r\n
    TTL user:set -> :100\r\n
    SET user:set g KEEPTTL KEEPTTL GET -> $1\r\nf\r\n
    TTL user:set -> :100\r\n
    SET user:set h EX 10 EX 20 -> +OK\r\n
    TTL user:set -> :20\r\n
    SET user:set i PX 30000 NX -> $-1\r\n
    SET user:set i PX 30000 XX -> +OK\r\n
    TTL user:set -> :30\r\n
    SET user:set j -> +OK\r\n
    SET user:set k -> +OK\r\n
    PTTL user:set -> :-1\r\n
    SET user:set l -> +OK\r\n
    SET user:set m XX EXAT 9999999999 -> +OK\r\n
    EXPIRETIME user:set -> :9999999999\r\n
    PEXPIRETIME user:set -> :9999999999000\r\n
    SET user:set m PXAT 9999999999123 -> +OK\r\n
    EXPIRETIME user:set -> :9999999999\r\n
    PEXPIRETIME user:set -> :9999999999123\r\n
    SET user:set n -> +OK\r\n
    GET user:set -> $1\r\nn\r\n
    SET user:set n PXAT 1 -> +OK\r\n
    GET user:set -> $-1\r\n

    GET user:setex -> $-1\r\n
    SETEX user:setex 0 x -> -ERR invalid expire time in 'setex' command\r\n
    SETEX user:setex -1 x -> -ERR invalid expire time in 'setex' command\r\n
    SETEX user:setex x x -> -ERR value is not an integer or out of range\r\n
    SETEX user:setex 9223372036854775807 x -> -ERR invalid expire time in 'setex' command\r\n
    SETEX user:setex 10 -> -ERR wrong number of arguments for 'setex' command\r\n
    PSETEX user:setex 0 x -> -ERR invalid expire time in 'psetex' command\r\n
    PSETEX user:setex x x -> -ERR value is not an integer or out of range\r\n
    PSETEX user:setex 9223372036854775807 x -> -ERR invalid expire time in 'psetex' command\r\n
    SETEX user:setex 100 x -> +OK\r\n
    TTL user:setex -> :100\r\n
    PSETEX user:setex 50000 y -> +OK\r\n
    TTL user:setex -> :50\r\n
    SETNX user:setex z -> :0\r\n
    GET user:setex -> $1\r\ny\r\n
    GETSET user:setex z -> $1\r\ny\r\n
    TTL user:setex -> :-1\r\n
    GETDEL user:setex -> $1\r\nz\r\n
    GETDEL user:setex -> $-1\r\n

    GET user:setnx -> $-1\r\n
    SETNX user:setnx a -> :1\r\n
    SETNX user:setnx b -> :0\r\n
    SETNX user:setnx -> -ERR wrong number of arguments for 'setnx' command\r\n
    GET user:setnx -> $1\r\na\r\n

    GET user:getset -> $-1\r\n
    GETSET user:getset y -> $-1\r\n
    GETSET user:getset z -> $1\r\ny\r\n
    GET user:getset -> $1\r\nz\r\n

    GET user:getex -> $-1\r\n
    GETEX user:getex -> $-1\r\n
    GETEX user:getex EX 0 -> $-1\r\n
    GETEX user:getex EX x -> $-1\r\n
    GETEX user:getex foo -> -ERR syntax error\r\n
    SET user:getex y -> +OK\r\n
    GETEX user:getex -> $1\r\ny\r\n
    GETEX user:getex EX -> -ERR syntax error\r\n
    GETEX user:getex EX 0 -> -ERR invalid expire time in 'getex' command\r\n
    GETEX user:getex EX x -> -ERR value is not an integer or out of range\r\n
    GETEX user:getex EX 10 PX 10 -> -ERR syntax error\r\n
    GETEX user:getex EX 10 PERSIST -> -ERR syntax error\r\n
    GETEX user:getex PERSIST EX 10 -> -ERR syntax error\r\n
    GETEX user:getex KEEPTTL -> -ERR syntax error\r\n
    GETEX user:getex NX -> -ERR syntax error\r\n
    GETEX user:getex EX 100 -> $1\r\ny\r\n
    TTL user:getex -> :100\r\n
    GETEX user:getex PERSIST PERSIST -> $1\r\ny\r\n
    TTL user:getex -> :-1\r\n
    GETEX user:getex PXAT 9999999999123 -> $1\r\ny\r\n
    PEXPIRETIME user:getex -> :9999999999123\r\n
    GETEX user:getex PX 100000 -> $1\r\ny\r\n
    TTL user:getex -> :100\r\n
    GETEX user:getex EXAT 1 -> $1\r\ny\r\n
    GETEX user:getex -> $-1\r\n

    GET user:expire -> $-1\r\n
    EXPIRE user:expire 10 -> :0\r\n
    EXPIRE user:expire x -> -ERR value is not an integer or out of range\r\n
    EXPIRE user:expire -> -ERR wrong number of arguments for 'expire' command\r\n
    SET user:expire v -> +OK\r\n
    EXPIRE user:expire 10 NX XX -> -ERR NX and XX, GT or LT options at the same time are not compatible\r\n
    EXPIRE user:expire 10 GT LT -> -ERR GT and LT options at the same time are not compatible\r\n
    EXPIRE user:expire 10 NX GT -> -ERR NX and XX, GT or LT options at the same time are not compatible\r\n
    EXPIRE user:expire 10 LT NX -> -ERR NX and XX, GT or LT options at the same time are not compatible\r\n
    EXPIRE user:expire 10 FOO -> -ERR Unsupported option FOO\r\n
    EXPIRE user:expire x FOO -> -ERR Unsupported option FOO\r\n
    EXPIRE user:expire 10 NX FOO -> -ERR Unsupported option FOO\r\n
    EXPIRE user:expire 9223372036854775807 -> -ERR invalid expire time in 'expire' command\r\n
    EXPIRE user:expire -9223372036854775808 -> -ERR invalid expire time in 'expire' command\r\n
    PEXPIRE user:expire 9223372036854775807 -> -ERR invalid expire time in 'pexpire' command\r\n
    EXPIREAT user:expire 9223372036854775807 -> -ERR invalid expire time in 'expireat' command\r\n
    EXPIRE user:expire 100 XX -> :0\r\n
    EXPIRE user:expire 100 GT -> :0\r\n
    EXPIRE user:expire -1 GT -> :0\r\n
    EXPIRE user:expire 100 XX GT -> :0\r\n
    EXPIRE user:expire 100 NX -> :1\r\n
    EXPIRE user:expire 100 NX -> :0\r\n
    EXPIRE user:expire 50 GT -> :0\r\n
    EXPIRE user:expire 50 lt -> :1\r\n
    TTL user:expire -> :50\r\n
    EXPIRE user:expire 200 LT -> :0\r\n
    EXPIRE user:expire 200 gt xx -> :1\r\n
    TTL user:expire -> :200\r\n
    PERSIST user:expire -> :1\r\n
    PERSIST user:expire -> :0\r\n
    TTL user:expire -> :-1\r\n
    EXPIRE user:expire 300 LT -> :1\r\n
    TTL user:expire -> :300\r\n
    PEXPIRE user:expire 400000 -> :1\r\n
    TTL user:expire -> :400\r\n
    EXPIREAT user:expire 9999999999 -> :1\r\n
    EXPIRETIME user:expire -> :9999999999\r\n
    PEXPIREAT user:expire 9999999999499 -> :1\r\n
    EXPIRETIME user:expire -> :9999999999\r\n
    PEXPIREAT user:expire 9999999999500 -> :1\r\n
    EXPIRETIME user:expire -> :10000000000\r\n
    PEXPIRETIME user:expire -> :9999999999500\r\n
    EXPIRE user:expire 0 -> :1\r\n
    EXISTS user:expire -> :0\r\n
    EXPIRE user:expire 10 -> :0\r\n
    PERSIST user:expire -> :0\r\n

    GET user:past -> $-1\r\n
    SET user:past v -> +OK\r\n
    PEXPIRE user:past -9223372036854775808 -> :1\r\n
    GET user:past -> $-1\r\n

    GET user:past2 -> $-1\r\n
    SET user:past2 v -> +OK\r\n
    EXPIREAT user:past2 1 -> :1\r\n
    TTL user:past2 -> :-2\r\n

    GET user:append -> $-1\r\n
    APPEND user:append abc -> :3\r\n
    APPEND user:append -> -ERR wrong number of arguments for 'append' command\r\n
    APPEND user:append def -> :6\r\n
    GET user:append -> $6\r\nabcdef\r\n
    STRLEN user:append -> :6\r\n
    EXPIRE user:append 100 -> :1\r\n
    APPEND user:append ghi -> :9\r\n
    TTL user:append -> :100\r\n
    INCR user:append -> -ERR value is not an integer or out of range\r\n
    TYPE user:append -> +string\r\n

    GET user:append-empty -> $-1\r\n
    APPEND user:append-empty '' -> :0\r\n
    EXISTS user:append-empty -> :1\r\n
    GET user:append-empty -> $0\r\n\r\n
    STRLEN user:append-empty -> :0\r\n

    GET user:float -> $-1\r\n
    INCRBYFLOAT user:float 0.1 -> $3\r\n0.1\r\n
    INCRBYFLOAT user:float 0.2 -> $3\r\n0.3\r\n
    INCRBYFLOAT user:float -0.3 -> $1\r\n0\r\n
    INCRBYFLOAT user:float 3.0e3 -> $4\r\n3000\r\n
    INCRBYFLOAT user:float 1.5 -> $6\r\n3001.5\r\n
    INCRBYFLOAT user:float x -> -ERR value is not a valid float\r\n
    INCRBYFLOAT user:float inf -> -ERR increment would produce NaN or Infinity\r\n
    INCRBYFLOAT user:float nan -> -ERR value is not a valid float\r\n
    INCRBYFLOAT user:float 10.50 -> $4\r\n3012\r\n
    GET user:float -> $4\r\n3012\r\n
    INCRBYFLOAT user:float -> -ERR wrong number of arguments for 'incrbyfloat' command\r\n
    SET user:float abc -> +OK\r\n
    INCRBYFLOAT user:float 1 -> -ERR value is not a valid float\r\n
    SET user:float 1 EX 1000 -> +OK\r\n
    INCRBYFLOAT user:float -1 -> $1\r\n0\r\n
    TTL user:float -> :1000\r\n
    INCRBYFLOAT user:float 1e5000 -> -ERR value is not a valid float\r\n

    GET user:incr -> $-1\r\n
    INCR user:incr -> :1\r\n
    INCR user:incr -> :2\r\n
    DECR user:incr -> :1\r\n
    INCRBY user:incr 41 -> :42\r\n
    DECRBY user:incr 2 -> :40\r\n
    INCRBY user:incr -100 -> :-60\r\n
    INCRBY user:incr x -> -ERR value is not an integer or out of range\r\n
    INCRBY user:incr 01 -> -ERR value is not an integer or out of range\r\n
    INCRBY user:incr 1.5 -> -ERR value is not an integer or out of range\r\n
    DECRBY user:incr -9223372036854775808 -> -ERR decrement would overflow\r\n
    GET user:incr -> $3\r\n-60\r\n
    SET user:incr 9223372036854775807 -> +OK\r\n
    INCR user:incr -> -ERR increment or decrement would overflow\r\n
    INCRBY user:incr 1 -> -ERR increment or decrement would overflow\r\n
    DECR user:incr -> :9223372036854775806\r\n
    SET user:incr -9223372036854775808 -> +OK\r\n
    DECR user:incr -> -ERR increment or decrement would overflow\r\n
    DECRBY user:incr 1 -> -ERR increment or decrement would overflow\r\n
    INCRBY user:incr -1 -> -ERR increment or decrement would overflow\r\n
    INCR user:incr -> :-9223372036854775807\r\n
    SET user:incr 010 -> +OK\r\n
    INCR user:incr -> -ERR value is not an integer or out of range\r\n
    SET user:incr 5 EX 100 -> +OK\r\n
    INCR user:incr -> :6\r\n
    TTL user:incr -> :100\r\n

    GET user:mset -> $-1\r\n
    GET user:mset2 -> $-1\r\n
    MSET user:mset -> -ERR wrong number of arguments for 'mset' command\r\n
    MSET user:mset a user:mset2 -> -ERR wrong number of arguments for 'mset' command\r\n
    MSET user:mset a user:mset2 b -> +OK\r\n
    MGET user:mset user:mset2 user:nothing -> *3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n
    MSET user:mset a user:mset b -> +OK\r\n
    MGET user:mset user:mset -> *2\r\n$1\r\nb\r\n$1\r\nb\r\n
    EXISTS user:mset user:mset user:mset2 user:nothing -> :3\r\n
    DEL user:mset user:mset user:nothing -> :1\r\n
    UNLINK user:mset2 -> :1\r\n
    UNLINK user:mset2 -> :0\r\n

    TTL user:nothing -> :-2\r\n
    PTTL user:nothing -> :-2\r\n
    EXPIRETIME user:nothing -> :-2\r\n
    PEXPIRETIME user:nothing -> :-2\r\n
    TYPE user:nothing -> +none\r\n
    STRLEN user:nothing -> :0\r\n
    EXISTS user:nothing -> :0\r\n
    PERSIST user:nothing -> :0\r\n
    GETDEL user:nothing -> $-1\r\n
    GET -> -ERR wrong number of arguments for 'get' command\r\n
    GET user:a b -> -ERR wrong number of arguments for 'get' command\r\n
    MGET -> -ERR wrong number of arguments for 'mget' command\r\n
    EXISTS -> -ERR wrong number of arguments for 'exists' command\r\n
    STRLEN -> -ERR wrong number of arguments for 'strlen' command\r\n
    TTL user:a b -> -ERR wrong number of arguments for 'ttl' command\r\n
    TYPE -> -ERR wrong number of arguments for 'type' command\r\n
    DEL -> -ERR wrong number of arguments for 'del' command\r\n
    GETEX -> -ERR wrong number of arguments for 'getex' command\r\n
    PERSIST -> -ERR wrong number of arguments for 'persist' command\r\n
    GETDEL user:a b -> -ERR wrong number of arguments for 'getdel' command\r\n
    foo -> -ERR unknown command 'foo', with args beginning with: \r\n
    foo a b -> -ERR unknown command 'foo', with args beginning with: 'a' 'b' \r\n
    FOO 'a' \xff\r\n -> -ERR unknown command 'FOO', with args beginning with: ''a'' '\xff  ' \r\n
    """#
}
