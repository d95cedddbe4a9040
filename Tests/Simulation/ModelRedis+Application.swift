import Invalidation

/// The twins of `StateScriptsApplication`.
extension ModelRedis {
  /// A command of an application on one key. What each answers follows Redis's command reference.
  enum Command: Hashable {
    case set(String, condition: Condition = .always, get: Bool = false, life: Life = .none)
    case getSet(String)
    case append(String)
    case increment
    case getDelete
    /// In milliseconds from now; zero or less deletes.
    case expire(Int)
    case persist
    case getEx(Int)

    enum Condition: Hashable { case always, ifAbsent, ifPresent }
    enum Life: Hashable {
      case none, keep
      case milliseconds(Int)
    }
  }

  mutating func run(_ command: Command, on key: String) -> Answer {
    let old = value(key)
    let isWrong = old != nil && old?.text == nil
    switch command {
    case .set(let text, let condition, let get, let life):
      if get, isWrong { return .error("WRONGTYPE") }
      let previous: Answer = old?.text.map { .bulk($0) } ?? .null
      if condition == .ifAbsent && old != nil || condition == .ifPresent && old == nil {
        return get ? previous : .null
      }
      let expires: UInt64? =
        switch life {
        case .none: nil
        case .keep: old?.expires
        case .milliseconds(let life): clock + UInt64(life)
        }
      values[key] = Value(text: text, expires: expires)
      return get ? previous : .status("OK")
    case .getSet(let text):
      if isWrong { return .error("WRONGTYPE") }
      values[key] = Value(text: text)
      return old?.text.map { .bulk($0) } ?? .null
    case .append(let text):
      if isWrong { return .error("WRONGTYPE") }
      let all = (old?.text ?? "") + text
      values[key] = Value(text: all, expires: old?.expires)
      return .integer(all.utf8.count)
    case .increment:
      if isWrong { return .error("WRONGTYPE") }
      guard let number = Int(old?.text ?? "0") else { return .error("ERR") }
      values[key] = Value(text: String(number + 1), expires: old?.expires)
      return .integer(number + 1)
    case .getDelete:
      if isWrong { return .error("WRONGTYPE") }
      values[key] = nil
      return old?.text.map { .bulk($0) } ?? .null
    case .expire(let milliseconds):
      guard old != nil else { return .integer(0) }
      live(key, milliseconds)
      return .integer(1)
    case .persist:
      guard let old, old.expires != nil else { return .integer(0) }
      values[key] = Value(text: old.text)
      return .integer(1)
    case .getEx(let milliseconds):
      if isWrong { return .error("WRONGTYPE") }
      guard let text = old?.text else { return .null }
      live(key, milliseconds)
      return .bulk(text)
    }
  }

  private mutating func live(_ key: String, _ milliseconds: Int) {
    if milliseconds <= 0 {
      values[key] = nil
    } else {
      values[key]?.expires = clock + UInt64(milliseconds)
    }
  }

  /// What every script of an application's tells of the state that it found; all nil without one.
  struct Found: Hashable {
    var g: Generation?
    var h: UInt64?
    var W: LSN?
    var jl: JournalID?
  }

  enum FillWord: String {
    case ok = "OK", noState = "NOSTATE", generation = "GEN", floor = "FLOOR", fence = "FENCE", untrusted =
      "UNTRUSTED"
  }

  struct FillReply {
    var word: FillWord
    var reply = Answer.null
    var found = Found()
  }

  /// `limit(key, most)`.
  private mutating func limit(_ key: String, _ most: Int?) {
    guard let most, let value = value(key), value.expires.map({ $0 > clock + UInt64(most) }) ?? true else {
      return
    }
    live(key, most)
  }

  /// `replaces`: the mode, `replace` or `merge`. `buckets`: that of the key, and those of its groups. `most`: how
  /// long the key may live, in milliseconds.
  mutating func fill(
    replaces: Bool, _ lease: Lease, buckets: [Int], tags: PackedKeys, key: String, _ command: Command,
    most: Int? = nil
  ) -> FillReply {
    guard let m = hash, let g = m.g, let floor = m.F else { return FillReply(word: .noState) }
    let found = Found(g: g, h: m.h, W: m.W, jl: m.jl)
    if g != lease.generation, !weakness.contains(.anyGeneration) {
      return FillReply(word: .generation, found: found)
    }
    if lease.stamp < floor, !weakness.contains(.noFloor) { return FillReply(word: .floor, found: found) }
    let asked = weakness.contains(.fillsIgnoreGroups) ? buckets.prefix(1) : buckets[...]
    if asked.contains(where: { m.fences[$0].map { $0 > lease.stamp } ?? false }),
      !weakness.contains(.fillUnfenced)
    {
      return FillReply(word: .fence, found: found)
    }
    if m.c != g || m.covers(key, tags), !weakness.contains(.mergeUntrusted) {
      guard replaces else { return FillReply(word: .untrusted, found: found) }
      values[key] = nil
    }
    let reply = run(command, on: key)
    limit(key, most)
    return FillReply(word: .ok, reply: reply, found: found)
  }

  struct Setting {
    var key: String
    /// nil: the key is not governed.
    var lease: Lease?
    /// Of the key and of its groups.
    var buckets: [Int]
    var value: String
    /// How long it lives, in milliseconds; nil: for ever.
    var most: Int?
  }

  /// MSET. `refusals` says of each key why it was not set; nil: it was.
  mutating func fillMany(_ settings: [Setting]) -> (found: Found, refusals: [FillWord?]) {
    let m = hash.flatMap { $0.g != nil && $0.F != nil ? $0 : nil }
    let found = m.map { Found(g: $0.g, h: $0.h, W: $0.W, jl: $0.jl) } ?? Found()
    var refusals: [FillWord?] = []
    for setting in settings {
      let word = setting.lease.flatMap { refusal(of: $0, setting.buckets, m) }
      if word == nil {
        values[setting.key] = Value(
          text: setting.value, expires: setting.most.map { clock + UInt64($0) })
      }
      refusals.append(word)
    }
    return (found, refusals)
  }

  private func refusal(of lease: Lease, _ buckets: [Int], _ m: Meta?) -> FillWord? {
    guard let m, let floor = m.F else { return .noState }
    if m.g != lease.generation { return .generation }
    if lease.stamp < floor { return .floor }
    let isOpen = buckets.allSatisfy { m.fences[$0].map { $0 <= lease.stamp } ?? true }
    return isOpen ? nil : .fence
  }

  enum RemovalWord: String { case ok = "OK", noState = "NOSTATE", untrusted = "UNTRUSTED" }

  struct RemovalReply {
    var word: RemovalWord
    var reply: Answer
    var g: Generation?
    var jl: JournalID?
    /// The script stopped half way with this error.
    var error: String?
  }

  /// DEL and UNLINK; with `getting`, GETDEL of the one key. A key without a bucket is not governed.
  mutating func del(
    _ keys: [(key: String, bucket: Int?, tags: PackedKeys)], getting: Bool, keep: UInt64, message: Bool
  ) -> RemovalReply {
    var usable: (m: Meta, g: Generation, W: LSN, V: LSN, jl: JournalID)?
    if case .present(let m) = meta, let g = m.g, let v = m.V, let w = m.W, let jl = m.jl {
      usable = (m, g, w, v, jl)
    }
    let found = hash
    func covered(_ key: String, _ tags: PackedKeys) -> Bool { found?.covers(key, tags) ?? true }
    let trusted = usable.map { $0.m.c == $0.g } ?? false
    let governed = keys.filter { $0.bucket != nil }
    let fenced = usable != nil && !governed.isEmpty
    if let (m, _, _, v, _) = usable, fenced {
      var m = m
      if !weakness.contains(.removeUnfenced) {
        Self.fence(&m, visible: v, buckets: governed.compactMap(\.bucket))
      }
      meta = .present(m)
      usable?.m = m
    }
    let word: RemovalWord = usable == nil ? .noState : .ok
    var reply = Answer.null
    if getting {
      if !governed.isEmpty, !(trusted && !covered(keys[0].key, keys[0].tags)) {
        values[keys[0].key] = nil
      } else {
        reply = run(.getDelete, on: keys[0].key)
        if case .error = reply {
          return RemovalReply(word: word, reply: reply, g: usable?.g, jl: usable?.jl)
        }
      }
    } else {
      var count = 0
      // Those that count go first.
      let counting = keys.map { $0.bucket == nil || trusted && !covered($0.key, $0.tags) }
      for (key, counts) in zip(keys, counting) where counts { count += unlink(key.key) }
      for (key, counts) in zip(keys, counting) where !counts { _ = unlink(key.key) }
      reply = .integer(count)
    }
    guard let (_, g, w, _, jl) = usable else { return RemovalReply(word: .noState, reply: reply) }
    var last = jl
    if fenced {
      var packed = PackedKeys()
      for (key, _, _) in governed { packed.append(key) }
      guard let id = journal(g, after: jl, keep: keep, position: w, keys: packed) else {
        return RemovalReply(word: .ok, reply: reply, error: "WRONGTYPE")
      }
      last = id
      change {
        $0.jl = id
        if message { $0.s = ($0.s ?? 0) + 1 }
      }
    }
    return RemovalReply(word: .ok, reply: reply, g: g, jl: last)
  }

  mutating func expire(
    _ key: String, bucket: Int, tags: PackedKeys, keep: UInt64, message: Bool, _ command: Command,
    most: Int? = nil
  ) -> RemovalReply {
    guard case .present(let m) = meta, let g = m.g, let v = m.V, let w = m.W, let jl = m.jl else {
      return RemovalReply(word: .untrusted, reply: .null)
    }
    guard m.c == g, !m.covers(key, tags) else {
      return RemovalReply(word: .untrusted, reply: .null, g: g, jl: jl)
    }
    let existed = value(key) != nil
    let reply = run(command, on: key)
    limit(key, most)
    if case .error = reply { return RemovalReply(word: .ok, reply: reply, g: g, jl: jl) }
    guard existed else { return RemovalReply(word: .ok, reply: reply, g: g, jl: jl) }
    let gone = value(key) == nil
    if gone { change { Self.fence(&$0, visible: v, buckets: [bucket]) } }
    var packed = PackedKeys()
    packed.append(key)
    guard let id = journal(g, after: jl, keep: keep, position: w, keys: packed) else {
      return RemovalReply(word: .ok, reply: reply, error: "WRONGTYPE")
    }
    change {
      $0.jl = id
      if gone, message { $0.s = ($0.s ?? 0) + 1 }
    }
    return RemovalReply(word: .ok, reply: reply, g: g, jl: id)
  }

  /// `raisesFloor`: it is a prefix that no rule gives.
  mutating func invalidateGroup(
    _ group: String, bucket: Int, raisesFloor: Bool, keep: UInt64
  ) -> RemovalReply {
    guard case .present(let m) = meta, let g = m.g, let v = m.V, let w = m.W, let jl = m.jl, let f = m.F
    else { return RemovalReply(word: .noState, reply: .null) }
    let weakness = weakness
    change {
      Self.fence(&$0, visible: v, buckets: weakness.contains(.groupsUnfenced) ? [] : [bucket])
      if raisesFloor, !weakness.contains(.groupsUnfenced) {
        $0.F = max(f, Stamp(visible: v, deletions: $0.d ?? 0))
      }
    }
    var packed = PackedKeys()
    if !weakness.contains(.noGroupsInJournal) { packed.append(group) }
    guard let id = journal(g, after: jl, keep: keep, position: w, keys: PackedKeys(), groups: packed) else {
      return RemovalReply(word: .ok, reply: .null, error: "WRONGTYPE")
    }
    change {
      $0.jl = id
      if !weakness.contains(.nothingPending) { $0.pd = Self.enter(m.pd, [group], id) }
      $0.s = ($0.s ?? 0) + 1
    }
    return RemovalReply(word: .ok, reply: .null, g: g, jl: id)
  }

  /// True if there was a state to ask.
  mutating func ask() -> Bool {
    guard hash?.g != nil else { return false }
    change { $0.req = 1 }
    return true
  }

  mutating func change(_ body: (inout Meta) -> Void) {
    guard case .present(var m) = meta else { return }
    meta = .missing
    body(&m)
    meta = .present(m)
  }
}

extension PackedKeys {
  mutating func append(_ key: String) {
    var key = key
    key.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }
}

extension ScriptWeakness {
  static let anyGeneration = ScriptWeakness(rawValue: 1 << 8)
  static let noFloor = ScriptWeakness(rawValue: 1 << 9)
  static let fillUnfenced = ScriptWeakness(rawValue: 1 << 10)
  static let mergeUntrusted = ScriptWeakness(rawValue: 1 << 11)
  static let removeUnfenced = ScriptWeakness(rawValue: 1 << 12)
  static let fillsIgnoreGroups = ScriptWeakness(rawValue: 1 << 18)
}
