/// The scripts behind commands that concern more than the keys that they name.
extension StateScripts {
  /// FLUSHDB and FLUSHALL: everything goes but the fleet's own state. Every lease is void afterwards, and near caches
  /// drop what they have when the journal entry arrives.
  ///
  /// - KEYS: 1 M, 2… the other keys of the state, the journal apart.
  /// - ARGV: 1 `StateKeys.journalPrefix`, 2 channel, 3 how long journal entries are kept, in milliseconds, 4 the message
  ///   (`PublishedMessage.rest`), 5 the prefix of all keys, packed as a group, 6 the command, 7 its argument (empty:
  ///   none).
  /// - Replies: [`OK`, the command's own reply], or [`NOSTATE`, the reply].
  public static let flush =
    "#!lua flags=allow-oom\n" + journalFunction + publishFunction + fenceFunction + """
      local M=KEYS[1]
      local m=redis.pcall('HMGET',M,'g','V','W','jl','F')
      local state=not m.err
      for i=1,5 do state=state and m[i] and true or false end
      local kept={}
      local function keep(key)
        local value=redis.call('DUMP',key)
        if value then kept[#kept+1]={key,math.max(redis.call('PTTL',key),0),value} end
      end
      for i=1,#KEYS do keep(KEYS[i]) end
      if state then keep(ARGV[1]..m[1]) end
      local reply
      if ARGV[7]=='' then reply=redis.pcall(ARGV[6]) else reply=redis.pcall(ARGV[6],ARGV[7]) end
      if reply.err then return {'OK',reply} end
      for i=1,#kept do redis.call('RESTORE',unpack(kept[i])) end
      if not state then return {'NOSTATE',reply} end
      fence(M,m[2],{})
      local f=m[2]..redis.call('HGET',M,'d')
      if f>m[5] then redis.call('HSET',M,'F',f) end
      redis.call('HSET',M,'jl',journal(ARGV[1]..m[1],m[4],ARGV[3],m[3],'',ARGV[5]))
      publish(M,ARGV[2],m[1],m[3],ARGV[4])
      return {'OK',reply}
      """

  /// DBSIZE and RANDOMKEY, as if the fleet's own state were not there.
  ///
  /// - KEYS: 1 M, 2… the other keys of the state, the journal apart.
  /// - ARGV: 1 `StateKeys.journalPrefix`, 2 the command.  Replies: the command's own.
  public static let unseen = """
    #!lua flags=allow-oom
    local g=redis.pcall('HGET',KEYS[1],'g')
    local own=redis.call('EXISTS',unpack(KEYS))
    if type(g)=='string' then own=own+redis.call('EXISTS',ARGV[1]..g) end
    local others=redis.call('DBSIZE')-own
    if ARGV[2]=='dbsize' then return others end
    if others<=0 then return false end
    for i=1,1000 do
      local key=redis.call('RANDOMKEY')
      if key and string.sub(key,1,10)~='nearside:{' then return key end
    end
    return false
    """

  /// What stands before a command that may read and write several keys, in one MULTI with it and with `after`: what
  /// Redis holds under governed keys and does not count goes, so that the command finds nothing there.
  ///
  /// - KEYS: 1 M, 2… the governed keys.
  /// - ARGV: for each key its tags packed, then a digit for each key, 1 if it may be written.  Replies: a digit for each
  ///   key, 1 if it exists.
  public static let before =
    "#!lua flags=allow-oom\n" + coveredFunction + markFunction + """
      local M=KEYS[1]
      local m=redis.pcall('HMGET',M,'g','c','pd')
      local state=not m.err and m[1] and true or false
      local there,marks={},{}
      for i=2,#KEYS do
        if not state or m[2]~=m[1] or covered(m[3],KEYS[i],ARGV[i-1]) then redis.call('UNLINK',KEYS[i]) end
        there[i-1]=redis.call('EXISTS',KEYS[i])
        local watched=there[i-1]==1 and string.sub(ARGV[#KEYS],i-1,i-1)=='1'
        marks[i-1]=watched and mark(KEYS[i]) or '-'
      end
      if state then redis.call('HSET',M,'x',table.concat(there),'y',table.concat(marks,',')) end
      return table.concat(there)
      """

  /// `mark(key)`: what changes with the key's value or its end. nil: it is long, and reading it whole would hold up
  /// Redis, or the sidecar's user may not.
  static let markFunction = """
    local function mark(key)
      local size=redis.pcall('MEMORY','USAGE',key,'SAMPLES',1)
      if type(size)~='number' or size>65536 then return nil end
      local value,ends=redis.pcall('DUMP',key),redis.pcall('PEXPIRETIME',key)
      if type(value)~='string' or type(ends)~='number' then return nil end
      return redis.sha1hex(value)..string.format('%.0f',ends)
    end

    """

  /// What stands behind such a command. What it has left under a governed key stays only if the key's lease still
  /// counts, as for `fill`, or if it is what was there before, which counted; a key that was there and is gone now is a
  /// removal like any other.
  ///
  /// - KEYS: 1 M, 2… the governed keys, as for `before`.
  /// - ARGV: 1 `StateKeys.journalPrefix`, 2 channel, 3 how long journal entries are kept, in milliseconds, then for each
  ///   key six: what becomes of it (`read`: it was only read; `keep`: it stays under its lease; `drop`: it goes), g of
  ///   the lease, buckets of the key and of its groups with commas between, stamp, how long it may live in milliseconds
  ///   (empty: as it does), tags packed.
  /// - Replies: [a letter for each key: `k` it is there, `n` it is not, `u` it is there and was not written, whatever its
  ///   lease, `r` it was written and not kept; g, V, d, all nil without state].
  public static let after =
    "#!lua flags=allow-oom\n" + journalFunction + publishFunction + fenceFunction + coveredFunction
    + limitFunction + quotedFunction + markFunction + """
      local M=KEYS[1]
      local m=redis.pcall('HMGET',M,'g','V','W','jl','F','c','pd','x','y')
      local state=not m.err
      for i=1,5 do state=state and m[i] and true or false end
      if state then redis.call('HDEL',M,'x','y') end
      local marks={}
      for word in string.gmatch(m[9] or '','[^,]+') do marks[#marks+1]=word end
      local words,gone,buckets={},{},{}
      for i=2,#KEYS do
        local key,a=KEYS[i],6*(i-2)+3
        local mode=ARGV[a+1]
        local there=redis.call('EXISTS',key)==1
        local word=there and 'k' or 'n'
        if there and mode~='read' then
          local open=state and mode=='keep' and m[1]==ARGV[a+2] and ARGV[a+4]>=m[5] and m[6]==m[1]
            and not covered(m[7],key,ARGV[a+6])
          for b in string.gmatch(ARGV[a+3],'%d+') do
            local fence=open and redis.call('HGET',M,'b'..b)
            if fence and fence>ARGV[a+4] then open=false end
          end
          if open then limit(key,ARGV[a+5])
          elseif state and (marks[i-1] or '-')~='-' and mark(key)==marks[i-1] then word='u'
          else
            redis.call('UNLINK',key)
            word='r'
          end
        end
        if word~='k' and word~='u' and mode~='read' and state and (not m[8] or string.sub(m[8],i-1,i-1)=='1') then
          gone[#gone+1]=key
          buckets[#buckets+1]=string.match(ARGV[a+3],'^%d+')
        end
        words[i-1]=word
      end
      if not state then return {table.concat(words),false,false,false} end
      if #gone>0 then
        fence(M,m[2],buckets)
        local k,t={},{}
        for i=1,#gone do
          k[i]=string.char(math.floor(#gone[i]/256),#gone[i]%256)..gone[i]
          t[i]=quoted(gone[i])
        end
        redis.call('HSET',M,'jl',journal(ARGV[1]..m[1],m[4],ARGV[3],m[3],table.concat(k)))
        publish(M,ARGV[2],m[1],m[3],'"table":null,"keys":['..table.concat(t,',')..'],"part":1,"of":1}')
      end
      return {table.concat(words),m[1],m[2],redis.call('HGET',M,'d')}
      """
}
