/// What Nearside does with a command, decided by its name alone.
enum CommandKind: Equatable {
  /// Answered here; names no key.
  case local
  /// GET, MGET, EXISTS: answered from the near cache where it can be.
  case near
  /// Reads of a governed key go together with the state that tells whether what Redis holds counts.
  case read(absent: AbsentReply)
  /// Puts a whole value in the place of another: a guarded fill.
  case replace
  case replaceMany
  /// Its result depends on what is there: a guarded fill that is also refused while the namespace is being
  /// cleared, since half a value would remain.
  case merge
  case remove
  case expiry
  /// Relayed where it names no governed key; where it does, `KeyUse` tells what it does with it.
  case pass
  case transaction
  case subscription
  /// May take as long as it likes, so it needs a connection to Redis of its own.
  case blocking
  /// Redis's categories `@admin` and `@dangerous`: would reach past the namespace. `CommandSettings` lifts it.
  case refuse
}

/// What Redis answers to a read of a key that does not exist.
enum AbsentReply: Equatable {
  case null, zero, emptyArray, emptySet, emptyMap, emptyString, minusTwo, none
  /// One null or zero for each argument behind the key.
  case nulls, zeros
  /// It depends on the arguments: the client is asked to try again instead.
  case unknown
}

struct CommandSpec {
  var name: String
  var kind: CommandKind
  /// As in Redis's COMMAND: the number of arguments with the name; negative: at least so many.
  var arity: Int
  /// First key, last key (negative: counted from the end) and step; first 0: no key at a fixed place.
  var firstKey: Int
  var lastKey: Int
  var keyStep: Int
  /// A read whose reply hangs on nothing but its arguments and the key's value, so that it may be kept near.
  var isKept = false
  /// Its place among `CommandTable.names`.
  var number = 0

  func accepts(count: Int) -> Bool { arity >= 0 ? count == arity : count >= -arity }

  /// The places of the keys among `count` arguments.
  func keyIndices(count: Int) -> StrideThrough<Int> {
    guard firstKey > 0 else { return stride(from: 1, through: 0, by: 1) }
    return stride(
      from: firstKey, through: lastKey < 0 ? count + lastKey : min(lastKey, count - 1), by: keyStep)
  }
}

/// The commands of Redis 7.0 by what is done with them. Written `name:arity:first:last:step`, the figures of
/// Redis's own COMMAND, left out where a command has no key at a fixed place. A command that is not here
/// (a module's, a later Redis's) is treated like `pass`.
struct CommandTable {
  private var specs: [Name: CommandSpec] = [:]
  /// Every command once.
  private(set) var names: [String] = []

  /// A name in lower case, packed into three words: looking up a command makes no String.
  private struct Name: Hashable {
    var words: (UInt64, UInt64, UInt64)

    init?(_ bytes: UnsafeRawBufferPointer) {
      // A zero would be taken for the end of a shorter name.
      guard bytes.count > 0, bytes.count <= 24, !bytes.contains(0) else { return nil }
      var packed: (UInt64, UInt64, UInt64) = (0, 0, 0)
      withUnsafeMutableBytes(of: &packed) { words in
        for (at, byte) in bytes.enumerated() {
          words[at] = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
        }
      }
      words = packed
    }

    static func == (a: Name, b: Name) -> Bool { a.words == b.words }
    func hash(into hasher: inout Hasher) {
      hasher.combine(words.0)
      hasher.combine(words.1)
      hasher.combine(words.2)
    }
  }

  init() {
    for (kind, text) in Self.rows {
      for word in text.split(whereSeparator: \.isWhitespace) {
        let fields = word.split(separator: ":")
        let figures = fields.dropFirst().compactMap { Int($0) }
        var name = String(fields[0])
        var spec = CommandSpec(
          name: name, kind: kind, arity: figures[0], firstKey: figures.count > 1 ? figures[1] : 0,
          lastKey: figures.count > 1 ? figures[2] : 0, keyStep: figures.count > 1 ? figures[3] : 1)
        spec.number = names.count
        names.append(name)
        if let packed = name.withUTF8({ Name(UnsafeRawBufferPointer($0)) }) { specs[packed] = spec }
      }
    }
    for word in Self.kept.split(whereSeparator: \.isWhitespace) {
      var name = String(word)
      if let packed = name.withUTF8({ Name(UnsafeRawBufferPointer($0)) }) { specs[packed]?.isKept = true }
    }
  }

  func spec(_ name: UnsafeRawBufferPointer) -> CommandSpec? { Name(name).flatMap { specs[$0] } }

  var all: some Collection<CommandSpec> { specs.values }

  private static let kept = """
    strlen getrange substr type hget hmget hgetall hexists hlen hkeys hvals hstrlen smembers sismember smismember
    scard lrange lindex llen zrange zrevrange zrangebyscore zrevrangebyscore zrangebylex zrevrangebylex zscore
    zmscore zrank zrevrank zcard zcount zlexcount
    """

  private static let rows: [(CommandKind, String)] = [
    (
      .local,
      """
      ping:-1 echo:2 hello:-1 auth:-2 select:2 quit:-1 reset:1 client:-2 command:-1 config:-2 info:-1
      cluster:-2 readonly:1 readwrite:1 asking:1 role:1 sentinel:-1 nearside:-1
      """
    ),
    (
      .near,
      """
      get:2:1:1:1 mget:-2:1:-1:1 exists:-2:1:-1:1
      """
    ),
    (
      .read(absent: .null),
      """
      hget:3:1:1:1 lindex:3:1:1:1 zscore:3:1:1:1 zrank:3:1:1:1 zrevrank:3:1:1:1 dump:2:1:1:1
      """
    ),
    (
      .read(absent: .zero),
      """
      strlen:2:1:1:1 hexists:3:1:1:1 hlen:2:1:1:1 hstrlen:3:1:1:1 llen:2:1:1:1 scard:2:1:1:1 sismember:3:1:1:1
      zcard:2:1:1:1 zcount:4:1:1:1 zlexcount:4:1:1:1 xlen:2:1:1:1 bitcount:-2:1:1:1 getbit:3:1:1:1
      """
    ),
    (
      .read(absent: .emptyArray),
      """
      lrange:4:1:1:1 hkeys:2:1:1:1 hvals:2:1:1:1 zrange:-4:1:1:1 zrevrange:-4:1:1:1
      zrangebyscore:-4:1:1:1 zrevrangebyscore:-4:1:1:1 zrangebylex:-4:1:1:1 zrevrangebylex:-4:1:1:1
      xrange:-4:1:1:1 xrevrange:-4:1:1:1
      """
    ),
    (
      .read(absent: .emptySet),
      """
      smembers:2:1:1:1
      """
    ),
    (
      .read(absent: .emptyMap),
      """
      hgetall:2:1:1:1
      """
    ),
    (
      .read(absent: .emptyString),
      """
      getrange:4:1:1:1 substr:4:1:1:1
      """
    ),
    (
      .read(absent: .minusTwo),
      """
      ttl:2:1:1:1 pttl:2:1:1:1 expiretime:2:1:1:1 pexpiretime:2:1:1:1
      """
    ),
    (
      .read(absent: .none),
      """
      type:2:1:1:1
      """
    ),
    (
      .read(absent: .nulls),
      """
      hmget:-3:1:1:1 zmscore:-3:1:1:1
      """
    ),
    (
      .read(absent: .zeros),
      """
      smismember:-3:1:1:1
      """
    ),
    (
      .read(absent: .unknown),
      """
      bitpos:-3:1:1:1 bitfield_ro:-2:1:1:1 geodist:-4:1:1:1 geohash:-2:1:1:1 geopos:-2:1:1:1
      georadius_ro:-6:1:1:1 georadiusbymember_ro:-5:1:1:1 geosearch:-7:1:1:1 hrandfield:-2:1:1:1
      hscan:-3:1:1:1 lpos:-3:1:1:1 srandmember:-2:1:1:1 sscan:-3:1:1:1 xpending:-3:1:1:1
      zrandmember:-2:1:1:1 zscan:-3:1:1:1 lcs:-3:1:2:1 pfcount:-2:1:-1:1 sdiff:-2:1:-1:1
      sinter:-2:1:-1:1 sunion:-2:1:-1:1 touch:-2:1:-1:1
      """
    ),
    (
      .replace,
      """
      set:-3:1:1:1 setex:4:1:1:1 psetex:4:1:1:1 setnx:3:1:1:1 getset:3:1:1:1
      """
    ),
    (
      .replaceMany,
      """
      mset:-3:1:-1:2
      """
    ),
    (
      .merge,
      """
      append:3:1:1:1 incr:2:1:1:1 decr:2:1:1:1 incrby:3:1:1:1 decrby:3:1:1:1 incrbyfloat:3:1:1:1
      setrange:4:1:1:1 setbit:4:1:1:1 bitfield:-2:1:1:1 hset:-4:1:1:1 hmset:-4:1:1:1 hsetnx:4:1:1:1
      hdel:-3:1:1:1 hincrby:4:1:1:1 hincrbyfloat:4:1:1:1 lpush:-3:1:1:1 rpush:-3:1:1:1 lpushx:-3:1:1:1
      rpushx:-3:1:1:1 linsert:5:1:1:1 lset:4:1:1:1 lrem:4:1:1:1 ltrim:4:1:1:1 lpop:-2:1:1:1
      rpop:-2:1:1:1 sadd:-3:1:1:1 srem:-3:1:1:1 spop:-2:1:1:1 zadd:-4:1:1:1 zincrby:4:1:1:1
      zrem:-3:1:1:1 zpopmin:-2:1:1:1 zpopmax:-2:1:1:1 zremrangebylex:4:1:1:1 zremrangebyrank:4:1:1:1
      zremrangebyscore:4:1:1:1 geoadd:-5:1:1:1 pfadd:-2:1:1:1 xadd:-5:1:1:1 xdel:-3:1:1:1
      xtrim:-4:1:1:1 xack:-4:1:1:1 xsetid:-3:1:1:1
      """
    ),
    (
      .remove,
      """
      del:-2:1:-1:1 unlink:-2:1:-1:1 getdel:2:1:1:1
      """
    ),
    (
      .expiry,
      """
      expire:-3:1:1:1 pexpire:-3:1:1:1 expireat:-3:1:1:1 pexpireat:-3:1:1:1 persist:2:1:1:1
      getex:-2:1:1:1
      """
    ),
    (
      .pass,
      """
      dbsize:1 time:1 randomkey:1 scan:-2 lolwut:-1 publish:3 spublish:3:1:1:1 script:-2 function:-2
      pubsub:-2 object:-2 memory:-2 xinfo:-2 xgroup:-2 eval:-3 evalsha:-3 eval_ro:-3 evalsha_ro:-3
      fcall:-3 fcall_ro:-3 msetnx:-3:1:-1:2 rename:3:1:2:1 renamenx:3:1:2:1 copy:-3:1:2:1 move:3:1:1:1
      bitop:-4:2:-1:1 pfmerge:-2:1:-1:1 lmove:5:1:2:1 rpoplpush:3:1:2:1 smove:4:1:2:1
      sdiffstore:-3:1:-1:1 sinterstore:-3:1:-1:1 sunionstore:-3:1:-1:1 zrangestore:-5:1:2:1
      zdiffstore:-4:1:1:1 zinterstore:-4:1:1:1 zunionstore:-4:1:1:1 geosearchstore:-8:1:2:1
      georadius:-6:1:1:1 georadiusbymember:-5:1:1:1 sintercard:-3 zdiff:-3 zinter:-3 zintercard:-3
      zunion:-3 lmpop:-4 zmpop:-4 xclaim:-6:1:1:1 xautoclaim:-6:1:1:1 keys:2 lastsave:1 restore:-4:1:1:1
      sort:-2:1:1:1 sort_ro:-2:1:1:1
      """
    ),
    (
      .transaction,
      """
      multi:1 exec:1 discard:1 watch:-2:1:-1:1 unwatch:1
      """
    ),
    (
      .subscription,
      """
      subscribe:-2 psubscribe:-2 ssubscribe:-2:1:-1:1 unsubscribe:-1 punsubscribe:-1
      sunsubscribe:-1:1:-1:1
      """
    ),
    (
      .blocking,
      """
      blpop:-3:1:-2:1 brpop:-3:1:-2:1 blmove:6:1:2:1 brpoplpush:4:1:2:1 bzpopmin:-3:1:-2:1
      bzpopmax:-3:1:-2:1 blmpop:-5 bzmpop:-5 xread:-4 xreadgroup:-7 wait:3
      """
    ),
    (
      .refuse,
      """
      acl:-2 bgrewriteaof:1 bgsave:-1 debug:-2 failover:-1 flushall:-1 flushdb:-1 latency:-2 migrate:-6:3:3:1
      module:-2 monitor:1 pfdebug:3:2:2:1 pfselftest:1 psync:-3 replconf:-1 replicaof:3
      restore-asking:-4:1:1:1 save:1 shutdown:-1 slaveof:3 slowlog:-2 swapdb:3 sync:1
      """
    ),
  ]
}
