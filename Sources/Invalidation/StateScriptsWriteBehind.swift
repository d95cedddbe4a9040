/// The scripts of write-behind. A value that was acknowledged lies over its key until PostgreSQL has it: whoever
/// deletes the key meanwhile, the log's own invalidations included, `restore` puts it back before a read.
///
/// Q (`StateKeys.writes`) is a stream with an entry for each pending SET, `k` key, `v` value, `x` how many
/// milliseconds the client lets it live, from the entry's own time (absent: for ever), `l` how long its cache lets any
/// value lie in Redis (absent: for ever): behind `x` it is absent, behind `l` it is put back. P
/// (`StateKeys.pendingWrites`) is a hash from each pending key to its newest entry. D (`StateKeys.deadWrites`) is a
/// stream of entries that were given up, with `s`, why, and `n`, how often they were tried. None of them has a TTL, and
/// an eviction policy that takes keys without one would lose writes.
///
/// Q has no consumer group: a group hands each entry to one reader, from whom it has to be claimed back, while here
/// a lock in PostgreSQL says who writes, and whoever gets it reads the stream from its beginning.
extension StateScripts {
  /// Takes a SET: the value is journalled and stored, and every outstanding lease of the key is void, as after a DEL.
  ///
  /// - KEYS: 1 M, 2 the key, 3 Q, 4 P.
  /// - ARGV: 1 `StateKeys.journalPrefix`, 2 channel, 3 how long journal entries are kept, in milliseconds, 4 the
  ///   message (`PublishedMessage.rest`), 5 the key's bucket, 6 how many entries may be pending, 7 how long the client
  ///   lets the value live, in milliseconds (empty: for ever), 8 how long its cache does, 9 the value.
  /// - Replies: [`OK`, the entry's id]; [`FULL`, how many are pending] and [`NOSTATE`], nothing being done.
  ///
  /// Without `allow-oom` Redis refuses it as a whole when its memory is full.
  public static let behind =
    "#!lua\n" + journalFunction + publishFunction + fenceFunction + """
      local M,key,Q,P=KEYS[1],KEYS[2],KEYS[3],KEYS[4]
      local m=redis.pcall('HMGET',M,'g','V','W','jl')
      if m.err or not (m[1] and m[2] and m[3] and m[4]) then return {'NOSTATE'} end
      local depth=redis.call('XLEN',Q)
      redis.call('HEXISTS',P,key)
      if depth>=tonumber(ARGV[6]) then return {'FULL',depth} end
      fence(M,m[2],{ARGV[5]})
      local entry={'k',key,'v',ARGV[9]}
      if ARGV[7]~='' then entry[5]='x' entry[6]=ARGV[7] end
      if ARGV[8]~='' then entry[#entry+1]='l' entry[#entry+1]=ARGV[8] end
      local id=redis.call('XADD',Q,'*',unpack(entry))
      redis.call('HSET',P,key,id)
      local life=math.min(tonumber(ARGV[7]) or math.huge,tonumber(ARGV[8]) or math.huge)
      if life==math.huge then redis.call('SET',key,ARGV[9])
      else redis.call('SET',key,ARGV[9],'PX',string.format('%.0f',life)) end
      local length=#key
      local jl=journal(ARGV[1]..m[1],m[4],ARGV[3],m[3],string.char(math.floor(length/256),length%256)..key)
      redis.call('HSET',M,'jl',jl)
      publish(M,ARGV[2],m[1],m[3],ARGV[4])
      return {'OK',id}
      """

  /// Puts pending values back under their keys. A read that follows sees them, unless somebody deletes one in between.
  ///
  /// - KEYS: 1 Q, 2 P, 3… the keys.
  /// A key whose entry is gone though nobody has ended it holds a value that PostgreSQL may never get: it goes too.
  ///
  /// - Replies: for each key 0 nothing is pending, 1 the pending value is there, 2 the pending value has outlived
  ///   its time, and nothing is there.
  public static let restore = """
    #!lua flags=allow-oom
    local Q,P,r=KEYS[1],KEYS[2],{}
    for i=3,#KEYS do
      local key=KEYS[i]
      r[i-2]=0
      local id=redis.call('HGET',P,key)
      local entry=id and redis.call('XRANGE',Q,id,id)[1]
      if id and not entry then redis.call('HDEL',P,key) redis.call('UNLINK',key) end
      if entry then
        local f={}
        for j=1,#entry[2],2 do f[entry[2][j]]=entry[2][j+1] end
        local left
        if f['x'] then
          local t=redis.call('TIME')
          left=tonumber(string.match(id,'^%d+'))+tonumber(f['x'])-t[1]*1000-math.floor(t[2]/1000)
        end
        if left and left<1 then
          redis.call('UNLINK',key)
          r[i-2]=2
        else
          if redis.pcall('GET',key)~=f['v'] then
            local life=math.min(left or math.huge,tonumber(f['l']) or math.huge)
            if life<math.huge then redis.call('SET',key,f['v'],'PX',string.format('%.0f',life))
            else redis.call('SET',key,f['v']) end
          end
          r[i-2]=1
        end
      end
    end
    return r
    """

  /// Ends entries that PostgreSQL has, or that are given up. A key without a newer entry is removed as by an
  /// application's DEL: from here on its row counts.
  ///
  /// - KEYS: 1 M, 2 Q, 3 P, 4 D, 5… the keys (at most 500).
  /// - ARGV: 1 `StateKeys.journalPrefix`, 2 channel, 3 how long journal entries are kept, in milliseconds, then for
  ///   each key six: its bucket, the id of the entry that was written, the ids of all that end with it with commas
  ///   between, the message that tells of the key alone, and, of one that is given up, why (else empty) and how
  ///   often it was tried.
  /// - Replies: how many keys have no entry any more.
  public static let finished =
    "#!lua flags=allow-oom\n" + journalFunction + publishFunction + fenceFunction + """
      local M,Q,P,D=KEYS[1],KEYS[2],KEYS[3],KEYS[4]
      local m=redis.pcall('HMGET',M,'g','V','W','jl')
      local state=not m.err and m[1] and m[2] and m[3] and m[4]
      local gone,buckets,packed,messages={},{},{},{}
      for i=5,#KEYS do
        local key,a=KEYS[i],6*(i-5)+3
        if ARGV[a+5]~='' then
          local entry=redis.call('XRANGE',Q,ARGV[a+2],ARGV[a+2])[1]
          if entry then
            local dead=entry[2]
            dead[#dead+1]='s' dead[#dead+1]=ARGV[a+5]
            dead[#dead+1]='n' dead[#dead+1]=ARGV[a+6]
            redis.call('XADD',D,'MAXLEN','~','100000','*',unpack(dead))
          end
        end
        if redis.call('HGET',P,key)==ARGV[a+2] then
          gone[#gone+1]=key
          buckets[#buckets+1]=ARGV[a+1]
          packed[#packed+1]=string.char(math.floor(#key/256),#key%256)..key
          messages[#messages+1]=ARGV[a+4]
        end
      end
      if #gone>0 then
        if state then fence(M,m[2],buckets) end
        redis.call('UNLINK',unpack(gone))
        if state then
          redis.call('HSET',M,'jl',journal(ARGV[1]..m[1],m[4],ARGV[3],m[3],table.concat(packed)))
          for i=1,#messages do publish(M,ARGV[2],m[1],m[3],messages[i]) end
        end
        redis.call('HDEL',P,unpack(gone))
      end
      for i=5,#KEYS do
        local ids={}
        for id in string.gmatch(ARGV[6*(i-5)+6],'[^,]+') do ids[#ids+1]=id end
        for j=1,#ids,1000 do
          redis.call('XDEL',Q,unpack(ids,j,math.min(j+999,#ids)))
        end
      end
      return #gone
      """

  /// What waits for PostgreSQL.
  ///
  /// - KEYS: 1 Q, 2 D.
  /// - Replies: [number of pending entries, age of the oldest in milliseconds, number of dead letters].
  public static let backlog = """
    #!lua flags=allow-oom
    local first,t=redis.call('XRANGE',KEYS[1],'-','+','COUNT',1)[1],redis.call('TIME')
    local age=first and t[1]*1000+math.floor(t[2]/1000)-tonumber(string.match(first[1],'^%d+')) or 0
    return {redis.call('XLEN',KEYS[1]),math.max(age,0),redis.call('XLEN',KEYS[2])}
    """
}
