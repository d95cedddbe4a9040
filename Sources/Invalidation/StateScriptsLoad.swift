extension StateScripts {
  /// Stores what was loaded under a lease, whole; or finds out that nothing is there. What an application has stored
  /// meanwhile stays.
  ///
  /// - KEYS: 1 M, 2 the key, 3 P of `behind` if the key is written behind: while a write is pending, PostgreSQL's row is
  ///   older than it.
  /// - ARGV: 1 g of the lease, 2 the buckets of the key and of its groups with commas between, 3 stamp of the
  ///   lease (thirty-two digits), 4 the key's tags packed, 5 `string`, `hash`, `list`, `set`, or `none` (no row),
  ///   6 time to live in milliseconds (empty: none), 7 `1` to take the place of what is there, then the value: one argument, or names and values in
  ///   turn, or elements.
  /// - Replies: as those of `fill`. The command's own reply is 1, or 2 if a value is there and stays, and for
  ///   `none` how many keys there are: an untrusted value counts as none.
  ///
  /// Without flags for the same reason as `fill`; a value that a full Redis took only in part is removed.
  public static let load =
    coveredFunction + """
      local fields={'g','F','c','h','W','jl','pd'}
      for b in string.gmatch(ARGV[2],'%d+') do fields[#fields+1]='b'..b end
      local m=redis.pcall('HMGET',KEYS[1],unpack(fields))
      if m.err or not (m[1] and m[2]) then return {'NOSTATE',false,false,false,false,false} end
      local function answer(word,reply) return {word,reply,m[1],m[4],m[5],m[6]} end
      if m[1]~=ARGV[1] then return answer('GEN',false) end
      if ARGV[3]<m[2] then return answer('FLOOR',false) end
      for i=8,#fields do
        if m[i] and m[i]>ARGV[3] then return answer('FENCE',false) end
      end
      local key,shape,ttl=KEYS[2],ARGV[5],ARGV[6]
      if KEYS[3] and redis.call('HEXISTS',KEYS[3],key)==1 then return answer('FENCE',false) end
      if m[3]~=m[1] or covered(m[7],key,ARGV[4]) then redis.call('UNLINK',key) end
      if shape=='none' then return answer('OK',redis.call('EXISTS',key)) end
      if ARGV[7]~='1' and redis.call('EXISTS',key)==1 then return answer('OK',2) end
      local reply
      if shape=='string' then
        if ttl=='' then reply=redis.pcall('SET',key,ARGV[8])
        else reply=redis.pcall('SET',key,ARGV[8],'PX',ttl) end
        if reply.err then return answer('OK',reply) end
      else
        local command=shape=='hash' and 'HSET' or shape=='list' and 'RPUSH' or 'SADD'
        redis.call('UNLINK',key)
        for i=8,#ARGV,6000 do
          reply=redis.pcall(command,key,unpack(ARGV,i,math.min(i+5999,#ARGV)))
          if type(reply)=='table' and reply.err then
            redis.call('UNLINK',key)
            return answer('OK',reply)
          end
        end
        if ttl~='' then redis.call('PEXPIRE',key,ttl) end
      end
      return answer('OK',1)
      """

  /// Asks for the right to load a key for the whole fleet.
  ///
  /// - KEYS: 1 M, 2 `StateKeys.lock`, 3 the key.
  /// - ARGV: 1 a random name of the asker, 2 for how long, in milliseconds, 3 the key's tags packed, 4 `1` if a
  ///   value that counts makes the load needless.
  /// - Replies: 1 the asker has it, 2 there is a value, 0 another has it.
  public static let lock =
    coveredFunction + """
      if ARGV[4]=='1' then
        local m=redis.pcall('HMGET',KEYS[1],'g','c','pd')
        if not m.err and m[1] and m[1]==m[2] and not covered(m[3],KEYS[3],ARGV[3])
          and redis.call('EXISTS',KEYS[3])==1 then return 2 end
      end
      if redis.call('SET',KEYS[2],ARGV[1],'NX','PX',ARGV[2]) then return 1 end
      return 0
      """

  /// Gives the right back, unless it has passed to another.
  ///
  /// - KEYS: 1 `StateKeys.lock`. ARGV: 1 the asker's name. Replies: 1 or 0.
  public static let unlock = """
    #!lua flags=allow-oom
    if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end
    return 0
    """
}
