/// The Lua scripts that change the fleet's state in Redis, as texts for `SCRIPT LOAD` or `EVAL`.
///
/// They live here, in a module that opens no connection, because two modules send them: `Redis` those of
/// the tailer, `Server` those that stand behind what applications ask for. All of them need Redis 7.0.
///
/// M is the hash `StateKeys.meta`, without a TTL. Its fields: `g` generation, `c` the generation whose purge
/// has finished, `tok` the tailer's token, `ep` number of takeovers and generations (for people), `n` number
/// of counted writes, `h` number of beats, `W` applied and `V` visible position, `F` floor stamp, `d` number
/// of deletions by applications (sixteen digits) and `dc` the same as a plain number, `jl` last id of the
/// journal, `wt` 1 while transactions from before the slot are watched, `sys` and `tl` PostgreSQL's system id
/// and timeline (eight digits), `cfg` hash of the mapping, `req` 1 when somebody asked for a new generation,
/// `s` number of messages published, `why` the generation and the reason for its beginning (for people;
/// written by the sidecar that began it, after the script), and `b<bucket>` a bucket's fence (thirty-two digits; absent: `F`).
/// J is the journal of the generation, a stream of entries {`p` id before it, `l` position, `k` packed keys,
/// `y` their origins if a transaction named them (`PackedOrigins`)}; an entry without `k` only wakes its
/// readers.
///
/// What every script keeps to:
/// - A hash that is missing, is of another type or lacks a field that the script needs is no state. Nothing
///   is ever inferred from what is not there.
/// - Positions and stamps are lower-case hexadecimal of fixed width and are compared as strings, since a Lua
///   number holds only 53 bits. Redis compares Lua strings in the server's collation, in which digits and
///   lower-case letters have this order.
/// - Fences first, then deletions, the journal, messages, and the watermark last: whatever prefix of a
///   script has run when it stops, the rest is done again from the slot.
/// - Those that only take away or record carry `allow-oom`, so that a full Redis still forgets.
///   Source: Redis documentation, "Redis Lua API reference", script flags.
public enum StateScripts {
  /// How many arguments of an application's command `fill` and `expire` can pass on: Lua's `unpack` puts
  /// them all on its stack, which ends at 8000.
  public static let mostArguments = 7900

  /// Functions that several scripts use; Redis offers scripts no way to share code.

  /// Appends an entry with the chain `p` to journal J and returns its id. A stream that was evicted starts
  /// again above `jl` even if the server's clock has gone back, so that ids of a generation only grow.
  static let journalFunction = """
    local function journal(J,jl,keep,l,k,y)
      local t=redis.call('TIME')
      local now=t[1]*1000+math.floor(t[2]/1000)
      local last=tonumber(string.match(jl,'^%d+'))
      local id='*'
      if now<=last and redis.call('EXISTS',J)==0 then id=string.format('%.0f-0',last+1) end
      local oldest=string.format('%.0f',math.max(now-keep,0))
      if y and y~='' then return redis.call('XADD',J,'MINID','~',oldest,id,'p',jl,'l',l,'k',k,'y',y) end
      return redis.call('XADD',J,'MINID','~',oldest,id,'p',jl,'l',l,'k',k)
    end

    """

  /// The sixteen digits of a position in PostgreSQL's own form.
  static let positionFunction = """
    local function position(x)
      local function half(s) return (string.gsub(s,'^0*(%x)','%1')) end
      return string.upper(half(string.sub(x,1,8))..'/'..half(string.sub(x,9)))
    end

    """

  /// Publishes one message under the next sequence number; `rest` is `PublishedMessage.rest`.
  static let publishFunction =
    positionFunction + """
      local function publish(M,channel,g,l,rest)
        local s=string.format('%.0f',redis.call('HINCRBY',M,'s',1))
        redis.call('PUBLISH',channel,'{"version":1,"generation":"'..g..'","sequence":'..s..
          ',"lsn":"'..position(l)..'",'..rest)
      end

      """

  /// Counts one deletion and raises the fences of `buckets` to V and that count, unless they are higher.
  static let fenceFunction = """
    local function fence(M,V,buckets)
      local d=string.format('%016x',redis.call('HINCRBY',M,'dc',1))
      redis.call('HSET',M,'d',d)
      local f=V..d
      for i=1,#buckets do
        local b='b'..buckets[i]
        local old=redis.call('HGET',M,b)
        if not old or old<f then redis.call('HSET',M,b,f) end
      end
    end

    """
}
