/// The scripts that only a tailer sends. `takeover` and `newGeneration` make it the writer; everything else
/// it writes is a compare-and-set on its token, the generation and the number n of counted writes, which
/// notices a second tailer, one that slept, and a Redis that went back in time.
extension StateScripts {
  /// One step of clearing, a beat, or both. Counted in n.
  ///
  /// - KEYS: 1 M, 2 J, 3… the keys to delete (at most 1000).
  /// - ARGV: 1 token, 2 g, 3 n as expected, 4 W, 5 V, 6 X (the position the fences are raised to), 7 beat
  ///   (`1` or `0`), 8 wt (empty: leave it), 9 how long journal entries are kept, in milliseconds, 10 the
  ///   journal's greatest size in bytes (empty: do not look this time), 11 channel, 12 the keys packed for
  ///   the journal, 13 origins (`PackedOrigins`) of keys and groups, 14 the groups packed (no entry if they and
  ///   the keys are empty), 15 `1` if one of the groups is a prefix that no rule gives, so that F must rise with
  ///   it, 16 `1` to be told `pd`, 17 number of messages, then the messages (`PublishedMessage.rest`), then the
  ///   distinct buckets of keys and groups.
  /// - Replies: [`OK`, W, V, `1` if somebody asked for a new generation or `2` if more groups wait to be swept
  ///   than the state should carry, else empty, `pd` if it was asked for (or there is too much of it), else
  ///   empty]; [`NOSTATE`]; [`FENCED`, g]; [`REGRESSED`, n, W].
  ///
  /// Fences and groups are written only if X lies above the stored W: below it they are a re-delivery and stand
  /// already. Above it no fence of this generation can be higher, nor F, so they need no comparison each.
  /// In a batch of several steps all but the last pass the old W, and X is the end of the batch in each.
  public static let apply =
    "#!lua flags=allow-oom\n" + journalFunction + publishFunction + soundFunction + enterFunction + """
      local M,J=KEYS[1],KEYS[2]
      local m=redis.pcall('HMGET',M,'tok','g','n','W','V','jl','req','pd')
      if m.err or not (m[2] and m[3] and m[4] and m[5] and m[6] and sound(m[8])) then return {'NOSTATE'} end
      if m[1]~=ARGV[1] or m[2]~=ARGV[2] then return {'FENCED',m[2]} end
      if m[3]~=ARGV[3] then return {'REGRESSED',m[3],m[4]} end
      local W,V,X,jl=m[4],m[5],ARGV[6],m[6]
      local buckets=18+tonumber(ARGV[17])
      if X>W and #ARGV>=buckets then
        local f=X..'0000000000000000'
        local t,n={},0
        for i=buckets,#ARGV do t[n+1]='b'..ARGV[i]; t[n+2]=f; n=n+2 end
        redis.call('HSET',M,unpack(t))
      end
      if X>W and ARGV[15]=='1' then redis.call('HSET',M,'F',X..'0000000000000000') end
      if #KEYS>2 then redis.call('UNLINK',unpack(KEYS,3)) end
      if ARGV[12]~='' or ARGV[14]~='' then jl=journal(J,jl,ARGV[9],X,ARGV[12],ARGV[14],ARGV[13]) end
      local asked,pd=m[7] or '',m[8]
      if X>W and ARGV[14]~='' then
        local full
        pd,full=enter(pd,ARGV[14],jl,1)
        redis.call('HSET',M,'pd',pd)
        if full then asked='2' end
      end
      for i=18,buckets-1 do publish(M,ARGV[11],m[2],X,ARGV[i]) end
      if ARGV[4]>W then W=ARGV[4] end
      if ARGV[5]>V then V=ARGV[5] end
      redis.call('HSET',M,'W',W,'V',V,'jl',jl)
      if ARGV[7]=='1' then redis.call('HINCRBY',M,'h',1) end
      if ARGV[8]~='' then redis.call('HSET',M,'wt',ARGV[8]) end
      redis.call('HINCRBY',M,'n',1)
      if ARGV[10]~='' then
        local size=redis.call('MEMORY','USAGE',J)
        if size and size>tonumber(ARGV[10]) then
          redis.call('XTRIM',J,'MAXLEN','~',math.floor(redis.call('XLEN',J)/2))
        end
      end
      return {'OK',W,V,asked,(ARGV[16]=='1' or asked=='2') and pd or ''}
      """

  /// Makes the sender the writer of an existing state.
  ///
  /// - KEYS: 1 M.
  /// - ARGV: 1 token, 2 PostgreSQL's system id, 3 its timeline (eight digits), 4 hash of the mapping, 5 fingerprint
  ///   of the definitions of tables and publication.
  /// - Replies: [`OK`, g, W, V, n, h, jl, wt, c or empty]; [`NOSTATE`]; [`SYSID`, the state's system id];
  ///   [`OLDTL`, the state's timeline], the sender being on an older one; [`NEEDGEN`, g, tl, cfg], the
  ///   sender now being the writer, but of another timeline, mapping or definitions. Of SYSID and OLDTL nothing is
  ///   written.
  public static let takeover =
    "#!lua flags=allow-oom\n" + soundFunction + """
      local m=redis.pcall('HMGET',KEYS[1],'g','W','V','n','h','jl','sys','tl','cfg','wt','c','pd','fp')
      if m.err or not sound(m[12]) then return {'NOSTATE'} end
      for i=1,10 do if not m[i] then return {'NOSTATE'} end end
      if m[7]~=ARGV[2] then return {'SYSID',m[7]} end
      if m[8]>ARGV[3] then return {'OLDTL',m[8]} end
      redis.call('HSET',KEYS[1],'tok',ARGV[1])
      redis.call('HINCRBY',KEYS[1],'ep',1)
      if m[8]~=ARGV[3] or m[9]~=ARGV[4] or (m[13] or '')~=(ARGV[5] or '') then
        return {'NEEDGEN',m[1],m[8],m[9]}
      end
      return {'OK',m[1],m[2],m[3],m[4],m[5],m[6],m[10],m[11] or ''}
      """

  /// Begins a generation: the hash is written anew, without `c`, so that nothing found in Redis counts until
  /// it has been purged. The old journal gets an entry without keys, which wakes its readers, and 60 seconds
  /// to live. Subscribers are told to drop everything.
  ///
  /// - KEYS: 1 M, 2 the old journal (any name of a journal if there is no state).
  /// - ARGV: 1 token, 2 g as expected (empty: no state), 3 the new g, 4 system id, 5 timeline, 6 hash of the
  ///   mapping, 7 W, 8 V, 9 wt (`1` or `0`), 10 channel, 11 fingerprint of the definitions.
  /// - Replies: [`OK`]; [`RACE`, g or empty], the state is not the expected one; [`FENCED`, g], the sender
  ///   is not the writer; [`OLDTL`, the state's timeline]. A hash that `takeover` calls NOSTATE counts as no
  ///   state here too.
  public static let newGeneration =
    "#!lua flags=allow-oom\n" + positionFunction + soundFunction + """
      local M=KEYS[1]
      local m=redis.pcall('HMGET',M,'g','sys','tl','jl','W','V','n','h','cfg','wt','tok','ep','pd')
      local whole=not m.err and sound(m[13])
      for i=1,10 do whole=whole and m[i] end
      if (whole and m[1] or '')~=ARGV[2] then return {'RACE',whole and m[1] or ''} end
      if whole then
        if m[11]~=ARGV[1] then return {'FENCED',m[1]} end
        if m[2]==ARGV[4] and m[3]>ARGV[5] then return {'OLDTL',m[3]} end
        redis.call('XADD',KEYS[2],'*','p',m[4],'l',ARGV[7],'g',ARGV[3])
        redis.call('PEXPIRE',KEYS[2],60000)
      end
      redis.call('UNLINK',M)
      local z='0000000000000000'
      redis.call('HSET',M,'g',ARGV[3],'tok',ARGV[1],'ep',(tonumber(m[12] or '0') or 0)+1,'n',0,'h',0,
        'W',ARGV[7],'V',ARGV[8],'wt',ARGV[9],'F',ARGV[7]..z,'d',z,'dc',0,'jl','0-0','s',0,
        'sys',ARGV[4],'tl',ARGV[5],'cfg',ARGV[6],'fp',ARGV[11] or '')
      redis.call('PUBLISH',ARGV[10],'{"version":1,"generation":"'..ARGV[3]..
        '","sequence":0,"lsn":"'..position(ARGV[7])..'","all":true}')
      return {'OK'}
      """

  /// One step of clearing Redis of values from older generations. Counted in n, since a failover that took
  /// deletions back must be noticed. SCAN runs inside the script: beside it, a key that is deleted and
  /// filled again between SCAN and UNLINK would go unseen.
  ///
  /// - KEYS: 1 M.
  /// - ARGV: 1 token, 2 g, 3 n as expected, 4 SCAN's cursor (of this connection), 5 MATCH, 6 COUNT, then Lua
  ///   patterns: a key goes if one of them finds something in it (none given: every key that MATCH covers).
  /// - Replies: [`OK`, the next cursor, number of keys removed]; [`NOSTATE`]; [`FENCED`, g];
  ///   [`REGRESSED`, n].
  public static let purge = """
    #!lua flags=allow-oom
    local M=KEYS[1]
    local m=redis.pcall('HMGET',M,'tok','g','n')
    if m.err or not (m[2] and m[3]) then return {'NOSTATE'} end
    if m[1]~=ARGV[1] or m[2]~=ARGV[2] then return {'FENCED',m[2]} end
    if m[3]~=ARGV[3] then return {'REGRESSED',m[3]} end
    local r=redis.call('SCAN',ARGV[4],'MATCH',ARGV[5],'COUNT',ARGV[6])
    local gone,n={},0
    for _,k in ipairs(r[2]) do
      local governed=#ARGV<7
      for i=7,#ARGV do if string.find(k,ARGV[i]) then governed=true break end end
      if governed then n=n+1 gone[n]=k end
    end
    local removed=0
    for i=1,n,1000 do removed=removed+redis.call('UNLINK',unpack(gone,i,math.min(i+999,n))) end
    redis.call('HINCRBY',M,'n',1)
    return {'OK',r[1],removed}
    """

  /// After the purge step that returned cursor 0: what Redis holds counts from now on. Counted in n.
  ///
  /// - KEYS: 1 M.  ARGV: 1 token, 2 g, 3 n as expected.
  /// - Replies: [`OK`]; [`NOSTATE`]; [`FENCED`, g]; [`REGRESSED`, n].
  public static let purged = """
    #!lua flags=allow-oom
    local M=KEYS[1]
    local m=redis.pcall('HMGET',M,'tok','g','n')
    if m.err or not (m[2] and m[3]) then return {'NOSTATE'} end
    if m[1]~=ARGV[1] or m[2]~=ARGV[2] then return {'FENCED',m[2]} end
    if m[3]~=ARGV[3] then return {'REGRESSED',m[3]} end
    redis.call('HSET',M,'c',m[2])
    redis.call('HINCRBY',M,'n',1)
    return {'OK'}
    """

  /// One step of a pass that removes the keys of groups from Redis. Counted in n, like a step of `purge`, and
  /// SCAN runs inside for the same reason.
  ///
  /// - KEYS: 1 M.
  /// - ARGV: 1 token, 2 g, 3 n as expected, 4 SCAN's cursor (of this connection), 5 MATCH, 6 COUNT, 7 the packed
  ///   groups that were pending when the pass began, then pattern and replacement of each `KeyGroups.SweepRule`.
  /// - Replies: those of `purge`.
  public static let sweep =
    "#!lua flags=allow-oom\n" + lengthFunction + """
      local M=KEYS[1]
      local m=redis.pcall('HMGET',M,'tok','g','n')
      if m.err or not (m[2] and m[3]) then return {'NOSTATE'} end
      if m[1]~=ARGV[1] or m[2]~=ARGV[2] then return {'FENCED',m[2]} end
      if m[3]~=ARGV[3] then return {'REGRESSED',m[3]} end
      local prefixes,tags,known,lengths,q,i={},{},{},{},ARGV[7],1
      local rules=#ARGV+1
      while i<=#q do
        local e=i+2+length(q,i)
        local name=string.sub(q,i+3,e-1)
        if string.byte(q,i+2)==112 then
          prefixes[name]=true
          if not known[#name] then known[#name]=true lengths[#lengths+1]=#name end
        else
          tags[name]=true
          rules=8
        end
        i=e
      end
      local function goes(k)
        for i=1,#lengths do if prefixes[string.sub(k,1,lengths[i])] then return true end end
        for i=rules,#ARGV,2 do
          local tag,found=string.gsub(k,ARGV[i],ARGV[i+1])
          if found==1 and tags[tag] then return true end
        end
        return false
      end
      local r=redis.call('SCAN',ARGV[4],'MATCH',ARGV[5],'COUNT',ARGV[6])
      local gone,n={},0
      for _,k in ipairs(r[2]) do if goes(k) then n=n+1 gone[n]=k end end
      local removed=0
      for i=1,n,1000 do removed=removed+redis.call('UNLINK',unpack(gone,i,math.min(i+999,n))) end
      redis.call('HINCRBY',M,'n',1)
      return {'OK',r[1],removed}
      """

  /// After the sweep step that returned cursor 0: what waited to be swept when the pass began waits no longer,
  /// unless it was invalidated again meanwhile. Counted in n.
  ///
  /// - KEYS: 1 M.  ARGV: 1 token, 2 g, 3 n as expected, 4 `pd` as it was when the pass began.
  /// - Replies: [`OK`, what is left of `pd`, or empty]; [`NOSTATE`]; [`FENCED`, g]; [`REGRESSED`, n].
  public static let swept =
    "#!lua flags=allow-oom\n" + lengthFunction + """
      local M=KEYS[1]
      local m=redis.pcall('HMGET',M,'tok','g','n','pd')
      if m.err or not (m[2] and m[3]) then return {'NOSTATE'} end
      if m[1]~=ARGV[1] or m[2]~=ARGV[2] then return {'FENCED',m[2]} end
      if m[3]~=ARGV[3] then return {'REGRESSED',m[3]} end
      local function each(pd,body)
        local i=1
        while i<=#pd do
          local e=i+2+length(pd,i)
          local f=e+2+length(pd,e)
          body(string.sub(pd,i,f-1))
          i=f
        end
      end
      local done,left={},{}
      each(ARGV[4],function(entry) done[entry]=true end)
      each(m[4] or '',function(entry) if not done[entry] then left[#left+1]=entry end end)
      left=table.concat(left)
      if left=='' then redis.call('HDEL',M,'pd') else redis.call('HSET',M,'pd',left) end
      redis.call('HINCRBY',M,'n',1)
      return {'OK',left}
      """
}
