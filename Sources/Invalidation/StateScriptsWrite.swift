extension StateScripts {
  /// Stores a value that a transaction has written, once the log's own invalidation of that transaction stands in
  /// the journal and nothing about the key has come after it.
  ///
  /// Why the value is not stale: 1. The sender has heard from the journal that entry J clears the key and that its
  /// own transaction X is the *last* one of J's batch that named it (`KeyOrigin`), and that no lookup found it for
  /// this batch: what lookups find names no transaction, and counts as later than all. 2. A batch holds whole
  /// transactions in the order of their commits, then what lookups found for these and earlier ones, and names a key
  /// once; so nothing of J's batch that came after X changed the key. 3. Whatever changes the key afterwards, or is asked to forget it, is told of by a later
  /// entry: a batch of the tailer, an application's DEL, a change of expiry, a prefix or a tag. So what the journal
  /// holds from J on is all there is to know, and if none of it speaks of the key, the newest change that Redis has
  /// been told of is X. 4. A change that Redis has not been told of yet clears the key when it is applied, as it
  /// does with every value. Stamps and fences could not tell as much: a batch raises its fences to its own end, and
  /// an application's DEL raises none that stands above V already.
  ///
  /// All of this is about the first delivery of X. After a takeover the log may be delivered again from before X, cut
  /// into other batches: then X may stand last in a batch though a later change was told of long before. So the
  /// sender says which `ep` it knew before it began its transaction, and another one refuses: within one session
  /// of a tailer nothing is delivered twice.
  ///
  /// V may lie below X here. The sender's COMMIT has returned, so X is visible, and older values are kept out
  /// by X's fence.
  ///
  /// A value that is there already was filled after J and is no older, so it stays.
  ///
  /// - KEYS: 1 M, 2 J of the generation, 3 the key.
  /// - ARGV: 1 g, 2 id of the entry that clears the key, 3 its position (sixteen digits), 4 id of the entry by which
  ///   the sender itself has removed the key (empty: none), 5 the key's tags packed, 6 time to live in milliseconds
  ///   (empty: none), 7 the value, 8 `ep`.
  /// - Replies: as those of `fill`, and behind them `ep`; the command's own reply is OK, or nil if there is a
  ///   value already.
  public static let written =
    coveredFunction + """
      local M,J,key=KEYS[1],KEYS[2],KEYS[3]
      local m=redis.pcall('HMGET',M,'g','F','c','h','W','jl','pd','ep')
      if m.err or not (m[1] and m[2] and m[5] and m[6]) then return {'NOSTATE',false,false,false,false,false,false} end
      local function answer(word,reply) return {word,reply,m[1],m[4],m[5],m[6],m[8]} end
      if m[1]~=ARGV[1] then return answer('GEN',false) end
      if m[8]~=ARGV[8] or m[5]<ARGV[3] then return answer('FENCE',false) end
      local entries=redis.pcall('XRANGE',J,ARGV[2],'+','COUNT',65)
      if entries.err or #entries==0 or #entries>64 or entries[#entries][1]~=m[6] then return answer('FENCE',false) end
      local packed=string.char(math.floor(#key/256),#key%256)..key
      local function clears(q)
        local i=1
        while i<=#q do
          local e=i+2+length(q,i)
          if string.byte(q,i+2)==112 then
            if string.sub(key,1,e-i-3)==string.sub(q,i+3,e-1) then return true end
          elseif string.find(ARGV[5],string.sub(q,i,e-1),1,true) then
            return true
          end
          i=e
        end
        return false
      end
      for i=1,#entries do
        local id,list,fields=entries[i][1],entries[i][2],{}
        for f=1,#list,2 do fields[list[f]]=list[f+1] end
        local named=fields['k'] and string.find(fields['k'],packed,1,true)
        if i==1 then
          if id~=ARGV[2] or fields['l']~=ARGV[3] or not named then return answer('FENCE',false) end
        elseif fields['p']~=entries[i-1][1] or named and id~=ARGV[4] then
          return answer('FENCE',false)
        end
        if fields['q'] and clears(fields['q']) then return answer('FENCE',false) end
      end
      if m[3]~=m[1] or covered(m[7],key,ARGV[5]) then redis.call('UNLINK',key) end
      local reply
      if ARGV[6]=='' then reply=redis.pcall('SET',key,ARGV[7],'NX')
      else reply=redis.pcall('SET',key,ARGV[7],'NX','PX',ARGV[6]) end
      return answer('OK',reply)
      """
}
