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
/// `s` number of messages published, `why` the generation and the reason for its beginning (for people; written
/// by the sidecar that began it, after the script), `pd` the groups that wait to be swept (`PendingGroups`;
/// absent: none), and `b<bucket>` a bucket's fence (thirty-two digits; absent: `F`). J is the journal of the generation, a stream of
/// entries {`p` id before it, `l` position, `k` packed keys, `q` packed groups, `y` their origins if a
/// transaction named them (`PackedOrigins`)}; an entry without keys and groups only wakes its readers.
///
/// A prefix or a tag cannot be deleted at once as keys are, since Redis does not know which keys it has. So a
/// script enters it in `pd`, and from then on what Redis holds for its keys does not count, until a pass of
/// `sweep` that began after that has removed them all and `swept` takes the entry out. Entries bear the id of
/// the journal entry that told of them, which is another each time: `swept` leaves one that was entered again
/// during the pass.
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
  /// again above `jl` even if the server's clock has gone back, so that ids of a generation only grow. `q`
  /// (packed groups) and `y` (origins) may be absent.
  static let journalFunction = """
    local function journal(J,jl,keep,l,k,q,y)
      local t=redis.call('TIME')
      local now=t[1]*1000+math.floor(t[2]/1000)
      local last=tonumber(string.match(jl,'^%d+'))
      local id='*'
      if now<=last and redis.call('EXISTS',J)==0 then id=string.format('%.0f-0',last+1) end
      local oldest=string.format('%.0f',math.max(now-keep,0))
      local entry={'p',jl,'l',l,'k',k}
      if q and q~='' then entry[7]='q' entry[8]=q end
      if y and y~='' then entry[#entry+1]='y' entry[#entry+1]=y end
      return redis.call('XADD',J,'MINID','~',oldest,id,unpack(entry))
    end

    """

  /// The sixteen digits of a position in PostgreSQL's own form.
  static let positionFunction = """
    local function position(x)
      local function half(s) return (string.gsub(s,'^0*(%x)','%1')) end
      return string.upper(half(string.sub(x,1,8))..'/'..half(string.sub(x,9)))
    end

    """

  /// Publishes one message under the next sequence number; `rest` is `PublishedMessage.rest`, which begins
  /// with `"prefixes"` if the message speaks of groups and so has version 2.
  static let publishFunction =
    positionFunction + """
      local function publish(M,channel,g,l,rest)
        local s=string.format('%.0f',redis.call('HINCRBY',M,'s',1))
        redis.call('PUBLISH',channel,'{"version":'..(string.byte(rest,2)==112 and 2 or 1)..
          ',"generation":"'..g..'","sequence":'..s..',"lsn":"'..position(l)..'",'..rest)
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

  /// The length of the packed name at place `i`.
  static let lengthFunction = """
    local function length(s,i)
      local a,b=string.byte(s,i,i+1)
      return a*256+b
    end

    """

  /// `sound` tells whether `pd`, if there is one, is packed names in pairs. One that is not (somebody else wrote
  /// it) is no state, like a field that is missing.
  static let soundFunction =
    lengthFunction + """
      local function sound(pd)
        local i,n=1,0
        while pd and i<#pd do
          local kind=string.byte(pd,i+2)
          if n%2==0 and kind~=112 and kind~=116 then return false end
          i=i+2+length(pd,i)
          n=n+1
        end
        return not pd or i==#pd+1 and n%2==0
      end

      """

  /// `enter` adds the packed groups `q` to `pd` under `id`, each in place of an entry that it has already.
  /// Returns the new `pd`, and whether it is more than `factor` times what a state should carry.
  static let enterFunction =
    lengthFunction + """
      local function enter(pd,q,id,factor)
        local new,t,n,i={},{},0,1
        while i<=#q do
          local e=i+2+length(q,i)
          new[string.sub(q,i,e-1)]=true
          i=e
        end
        i=1
        while pd and i<=#pd do
          local e=i+2+length(pd,i)
          local f=e+2+length(pd,e)
          if not new[string.sub(pd,i,e-1)] then n=n+1 t[n]=string.sub(pd,i,f-1) end
          i=f
        end
        local tail=string.char(0,#id)..id
        i=1
        while i<=#q do
          local e=i+2+length(q,i)
          n=n+1
          t[n]=string.sub(q,i,e-1)..tail
          i=e
        end
        local all=table.concat(t)
        return all,n>\(PendingGroups.most)*factor or #all>\(PendingGroups.mostBytes)*factor
      end

      """

  /// `covered` tells whether a group of `pd` covers a key with these packed tags: `PendingGroups.covers`.
  static let coveredFunction =
    soundFunction + """
      local function covered(pd,key,tags)
        if not sound(pd) then return true end
        local i=1
        while pd and i<=#pd do
          local e=i+2+length(pd,i)
          if string.byte(pd,i+2)==112 then
            if string.sub(key,1,e-i-3)==string.sub(pd,i+3,e-1) then return true end
          else
            local group,j=string.sub(pd,i,e-1),1
            while j<=#tags do
              local k=j+2+length(tags,j)
              if string.sub(tags,j,k-1)==group then return true end
              j=k
            end
          end
          i=e+2+length(pd,e)
        end
        return false
      end

      """
}
