/// The scripts behind what applications ask of governed keys. They know no token: any sidecar may send them,
/// and none of them is counted in n.
extension StateScripts {
  /// `limit(key, most)`: the key lives no longer than so many milliseconds; empty: as long as it does.
  static let limitFunction = """
    local function limit(key,most)
      if most=='' then return end
      local left=redis.call('PTTL',key)
      if left==-1 or left>tonumber(most) then redis.call('PEXPIRE',key,most) end
    end

    """

  /// `quoted(key)`: as a JSON string, of bytes that need not be UTF-8, like `PublishedMessage.quote`.
  static let quotedFunction = """
    local function quoted(key)
      local other=key
      for _,sequence in ipairs({'[\\194-\\223]','\\224[\\160-\\191]','[\\225-\\236\\238\\239][\\128-\\191]',
        '\\237[\\128-\\159]','\\240[\\144-\\191][\\128-\\191]','[\\241-\\243][\\128-\\191][\\128-\\191]',
        '\\244[\\128-\\143][\\128-\\191]'}) do other=string.gsub(other,sequence..'[\\128-\\191]',' ') end
      local text=cjson.encode(key)
      if string.find(other,'[\\128-\\255]') then
        text=string.gsub(text,'[\\128-\\255]',
          function(c) return string.format('\\\\u%04x',string.byte(c)) end)
      end
      return text
    end

    """

  /// A write of a governed key under a lease: the client's own command, if nothing that the lease did not
  /// know of has happened to the key's bucket.
  ///
  /// - KEYS: 1 M, 2 the key.
  /// - ARGV: 1 mode, 2 g of the lease, 3 the buckets of the key and of its groups with commas between, 4 stamp
  ///   of the lease (thirty-two digits), 5 the key's tags packed, 6 how long the key may live at most, in
  ///   milliseconds (empty: as the command says), then the client's command with all its arguments. Mode `replace` is for commands that leave nothing of what was there: an untrusted value is
  ///   removed before them, so NX finds nothing, GET answers nil and KEEPTTL keeps nothing. Mode `merge` is for
  ///   all others: they are refused while c differs from g or a group of `pd` covers the key.
  /// - Replies: [`OK`, the command's own reply, g, h, W, jl], the reply being an error as it stands if Redis
  ///   refused the command; refused: [`NOSTATE` | `GEN` | `FLOOR` | `FENCE` | `UNTRUSTED`, nil, g, h, W, jl],
  ///   with four nils after NOSTATE.
  ///
  /// It has no flags on purpose: then Redis judges each command by itself when its memory is full, and a
  /// SET gets Redis's own OOM error while an HDEL still works. An integer beyond 2^53 in the reply is
  /// rounded, since Lua has no others.
  public static let fill =
    coveredFunction + limitFunction + """
      local fields={'g','F','c','h','W','jl','pd'}
      for b in string.gmatch(ARGV[3],'%d+') do fields[#fields+1]='b'..b end
      local m=redis.pcall('HMGET',KEYS[1],unpack(fields))
      if m.err or not (m[1] and m[2]) then return {'NOSTATE',false,false,false,false,false} end
      local function answer(word,reply) return {word,reply,m[1],m[4],m[5],m[6]} end
      if m[1]~=ARGV[2] then return answer('GEN',false) end
      if ARGV[4]<m[2] then return answer('FLOOR',false) end
      for i=8,#fields do
        if m[i] and m[i]>ARGV[4] then return answer('FENCE',false) end
      end
      if #ARGV>\(mostArguments + 6) then
        return answer('OK',{err='ERR a command on a key that nearside looks after may have at most \
      \(mostArguments) arguments; split it'})
      end
      if m[3]~=m[1] or covered(m[7],KEYS[2],ARGV[5]) then
        if ARGV[1]~='replace' then return answer('UNTRUSTED',false) end
        redis.call('UNLINK',KEYS[2])
      end
      local reply=redis.pcall(unpack(ARGV,7))
      limit(KEYS[2],ARGV[6])
      return answer('OK',reply)
      """

  /// MSET, and SETs that simply put a value there, of any clients: each key under its own lease, all in one step.
  /// What was there needs no removal before, trusted or not, for nothing of it is left. Redis judges whether it is full
  /// when the script begins and again only until it has written, so an error for the first SET is one for all.
  ///
  /// - KEYS: 1 M, 2… the keys.
  /// - ARGV: for each key four: its lease, g and stamp in one (empty: the key is not governed, and is simply set),
  ///   buckets of the key and its groups with commas between, how long it lives in milliseconds (empty: for ever),
  ///   value.
  /// - Replies: [`OK`, number of keys refused, g, h, W, jl (nil without state), then for each key 1 or why it was
  ///   refused: `NOSTATE` | `GEN` | `FLOOR` | `FENCE`]; or the error with which Redis refused the first SET, nothing
  ///   having been set.
  public static let fillMany = """
    local M,n=KEYS[1],#KEYS
    local fields,last={'g','F','h','W','jl'},{5}
    for i=2,n do
      local buckets=ARGV[4*i-6]
      if ARGV[4*i-7]=='' then
      elseif string.find(buckets,',',1,true) then
        for b in string.gmatch(buckets,'%d+') do fields[#fields+1]='b'..b end
      else fields[#fields+1]='b'..buckets end
      last[i]=#fields
    end
    local m=redis.pcall('HMGET',M,unpack(fields,1,math.min(#fields,1000)))
    if m.err or not (m[1] and m[2]) then m={false,false,false,false,false} end
    for from=1001,m[1] and #fields or 0,1000 do
      local more=redis.call('HMGET',M,unpack(fields,from,math.min(from+999,#fields)))
      for j=1,#more do m[from+j-1]=more[j] end
    end
    local g,F=m[1],m[2]
    local r,refused={'OK',0,g,m[3],m[4],m[5]},0
    for i=2,n do
      local lease,word=ARGV[4*i-7],1
      if lease~='' then
        if not g then word='NOSTATE'
        elseif string.sub(lease,1,16)~=g then word='GEN'
        else
          local stamp=string.sub(lease,17)
          if stamp<F then word='FLOOR'
          else
            for j=last[i-1]+1,last[i] do
              if m[j] and m[j]>stamp then word='FENCE' end
            end
          end
        end
      end
      if word==1 then
        local set,life
        life=ARGV[4*i-5]
        if life=='' then set=redis.pcall('SET',KEYS[i],ARGV[4*i-4])
        else set=redis.pcall('SET',KEYS[i],ARGV[4*i-4],'PX',life) end
        if set.err then return set end
      else refused=refused+1 end
      r[5+i]=word
    end
    r[2]=refused
    return r
    """

  /// Removing: always allowed, whatever the state. Outstanding leases of the governed keys' buckets become
  /// void, near copies leave through the journal, and leases given afterwards are good at once.
  ///
  /// - KEYS: 1 M, 2… the keys (at most 1000; `GETDEL` takes one).
  /// - ARGV: 1 `StateKeys.journalPrefix`, 2 channel, 3 how long journal entries are kept, in milliseconds,
  ///   4 the message (`PublishedMessage.rest`; empty: none), 5 `DEL`, `UNLINK` or `GETDEL`, then for
  ///   each key two: its bucket (empty: the key is not governed) and its tags packed.
  /// - Replies: [`OK`, the reply to the client, g, jl], or [`NOSTATE`, the reply, nil, nil]. Governed keys
  ///   count in the reply, and GETDEL answers their value, only while c equals g and no group of `pd` covers
  ///   them.
  public static let del =
    "#!lua flags=allow-oom\n" + journalFunction + publishFunction + fenceFunction + coveredFunction + """
      local M=KEYS[1]
      local m=redis.pcall('HMGET',M,'g','V','W','jl','c','pd')
      local state=not m.err and m[1] and m[2] and m[3] and m[4] and true or false
      local trusted=state and m[5]==m[1]
      local governed,buckets,counted,hidden={},{},{},{}
      for i=2,#KEYS do
        local key,b=KEYS[i],ARGV[2*i+2]
        if b~='' then governed[#governed+1]=key buckets[#buckets+1]=b end
        if b=='' or trusted and not covered(m[6],key,ARGV[2*i+3]) then counted[#counted+1]=key
        else hidden[#hidden+1]=key end
      end
      local fenced=state and #governed>0
      if fenced then fence(M,m[2],buckets) end
      local reply
      if ARGV[5]=='GETDEL' then
        reply=false
        if #hidden>0 then redis.call('UNLINK',KEYS[2])
        else
          reply=redis.pcall('GETDEL',KEYS[2])
          if type(reply)=='table' and reply.err then
            return {state and 'OK' or 'NOSTATE',reply,state and m[1],state and m[4]}
          end
        end
      else
        local function remove(command,keys)
          local n=0
          for i=1,#keys,1000 do n=n+redis.call(command,unpack(keys,i,math.min(i+999,#keys))) end
          return n
        end
        reply=remove(ARGV[5],counted)
        remove(ARGV[5],hidden)
      end
      if not state then return {'NOSTATE',reply,false,false} end
      local jl=m[4]
      if fenced then
        for i=1,#governed,1000 do
          local k,n={},0
          for j=i,math.min(i+999,#governed) do
            local length=#governed[j]
            k[n+1]=string.char(math.floor(length/256),length%256)
            k[n+2]=governed[j]
            n=n+2
          end
          jl=journal(ARGV[1]..m[1],jl,ARGV[3],m[3],table.concat(k))
        end
        redis.call('HSET',M,'jl',jl)
        if ARGV[4]~='' then publish(M,ARGV[2],m[1],m[3],ARGV[4]) end
      end
      return {'OK',reply,m[1],jl}
      """

  /// A change of a governed key's time to live (EXPIRE and its kin, PERSIST, GETEX): near copies leave, so
  /// that none outlives the key. If the key is gone afterwards, it is a removal like any other.
  ///
  /// - KEYS: 1 M, 2 the key.
  /// - ARGV: 1 `StateKeys.journalPrefix`, 2 channel (told only if the key went), 3 how long journal entries
  ///   are kept, in milliseconds, 4 bucket, 5 the key's tags packed, 6 how long the key may live at most, in
  ///   milliseconds (empty: as the command says), then the client's command with all its arguments.
  /// - Replies: [`OK`, the command's own reply, g, jl]; [`UNTRUSTED`, nil, g, jl] without having done
  ///   anything while c differs from g or a group of `pd` covers the key, with two nils if there is no state.
  public static let expire =
    "#!lua flags=allow-oom\n" + journalFunction + publishFunction + fenceFunction + coveredFunction
    + limitFunction + quotedFunction + """
      local M,key=KEYS[1],KEYS[2]
      local m=redis.pcall('HMGET',M,'g','V','W','jl','c','pd')
      if m.err or not (m[1] and m[2] and m[3] and m[4]) then return {'UNTRUSTED',false,false,false} end
      local g,jl=m[1],m[4]
      if m[5]~=g or covered(m[6],key,ARGV[5]) then return {'UNTRUSTED',false,g,jl} end
      local before=redis.call('EXISTS',key)
      local reply=redis.pcall(unpack(ARGV,7))
      limit(key,ARGV[6])
      if before==0 or type(reply)=='table' and reply.err then return {'OK',reply,g,jl} end
      local gone=redis.call('EXISTS',key)==0
      if gone then fence(M,m[2],{ARGV[4]}) end
      local length=#key
      jl=journal(ARGV[1]..g,jl,ARGV[3],m[3],string.char(math.floor(length/256),length%256)..key)
      redis.call('HSET',M,'jl',jl)
      if gone and ARGV[2]~='' then
        publish(M,ARGV[2],g,m[3],'"table":null,"keys":['..quoted(key)..'],"part":1,"of":1}')
      end
      return {'OK',reply,g,jl}
      """

  /// Clears a prefix or a tag. Outstanding leases of its keys become void, what Redis holds for them counts no
  /// more, near copies leave through the journal, and leases given afterwards are good at once. The tailer
  /// sweeps Redis.
  ///
  /// - KEYS: 1 M.
  /// - ARGV: 1 `StateKeys.journalPrefix`, 2 channel, 3 how long journal entries are kept, in milliseconds,
  ///   4 the message (`PublishedMessage.rest`), 5 the group packed, 6 its bucket, 7 `1` if it is a prefix that no
  ///   rule gives, so that F must rise with it.
  /// - Replies: [`OK`, g, jl]; [`NOSTATE`], nothing being trusted anyway; [`FULL`] without having done anything,
  ///   so many groups waiting to be swept that no tailer can be at work.
  public static let invalidateGroup =
    "#!lua flags=allow-oom\n" + journalFunction + publishFunction + fenceFunction + enterFunction + """
      local M=KEYS[1]
      local m=redis.pcall('HMGET',M,'g','V','W','jl','F','pd')
      if m.err then return {'NOSTATE'} end
      for i=1,5 do if not m[i] then return {'NOSTATE'} end end
      local _,full=enter(m[6],ARGV[5],m[4],4)
      if full then return {'FULL'} end
      fence(M,m[2],{ARGV[6]})
      if ARGV[7]=='1' then
        local f=m[2]..redis.call('HGET',M,'d')
        if f>m[5] then redis.call('HSET',M,'F',f) end
      end
      local jl=journal(ARGV[1]..m[1],m[4],ARGV[3],m[3],'',ARGV[5])
      local pd
      pd,full=enter(m[6],ARGV[5],jl,1)
      redis.call('HSET',M,'jl',jl,'pd',pd)
      if full then redis.call('HSET',M,'req','2') end
      publish(M,ARGV[2],m[1],m[3],ARGV[4])
      return {'OK',m[1],jl}
      """

  /// Asks the tailer for a new generation, which forgets everything; its next `apply` hears of it.
  ///
  /// - KEYS: 1 M.  Replies: 1, or 0 if there is no state (then a new generation is due anyway).
  public static let ask = """
    #!lua flags=allow-oom
    local g=redis.pcall('HGET',KEYS[1],'g')
    if type(g)~='string' then return 0 end
    redis.call('HSET',KEYS[1],'req','1')
    return 1
    """
}
