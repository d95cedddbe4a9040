import Invalidation

/// The twin of `StateScriptsWrite`.
extension ModelRedis {
  struct Written {
    var g: Generation
    /// The entry that clears the key, and its position.
    var entry: JournalID
    var position: LSN
    /// The entry by which the sender itself has removed the key.
    var removal: JournalID?
    var key: String
    var tags: PackedKeys
    /// In milliseconds.
    var life: Int?
    var value: String
    var session: String
  }

  /// How many entries it looks through at most.
  static let mostEntries = 64

  mutating func written(_ order: Written) -> (FillReply, session: String?) {
    guard let m = hash, let g = m.g, m.F != nil, let w = m.W, let jl = m.jl else {
      return (FillReply(word: .noState), nil)
    }
    let found = Found(g: g, h: m.h, W: w, jl: jl)
    let session = m.ep.map { String($0) }
    func answer(_ word: FillWord, _ reply: Answer = .null) -> (FillReply, session: String?) {
      (FillReply(word: word, reply: reply, found: found), session)
    }
    if g != order.g { return answer(.generation) }
    guard session == order.session, w >= order.position else { return answer(.fence) }
    guard isNewest(order, jl) || weakness.contains(.writtenIgnoresLater) else { return answer(.fence) }
    if m.c != g || m.covers(order.key, order.tags) { values[order.key] = nil }
    let life = order.life.map { Command.Life.milliseconds($0) } ?? .none
    return answer(.ok, run(.set(order.value, condition: .ifAbsent, life: life), on: order.key))
  }

  /// Whether nothing in the journal clears the key behind the entry.
  private func isNewest(_ order: Written, _ jl: JournalID) -> Bool {
    guard case .present(let journal) = liveJournal(order.g) else { return false }
    let entries = journal.entries.drop { $0.id < order.entry }.prefix(Self.mostEntries + 1)
    guard entries.count <= Self.mostEntries, let first = entries.first, first.id == order.entry,
      first.position == order.position, first.names(order.key), entries.last?.id == jl
    else { return false }
    if clears(first, order) { return false }
    for (last, entry) in zip(entries, entries.dropFirst()) {
      guard entry.previous == last.id, !entry.names(order.key) || entry.id == order.removal,
        !clears(entry, order)
      else { return false }
    }
    return true
  }

  private func clears(_ entry: Journal.Entry, _ order: Written) -> Bool {
    var all = Meta()
    all.pd = []
    entry.groups.forEach { all.pd?.append(Pending(group: String(decoding: $0, as: UTF8.self), id: .zero)) }
    return all.covers(order.key, order.tags)
  }
}

extension ModelRedis.Journal.Entry {
  func names(_ key: String) -> Bool {
    var isNamed = false
    keys?.forEach { if $0.elementsEqual(key.utf8) { isNamed = true } }
    return isNamed
  }
}

extension ScriptWeakness {
  static let writtenIgnoresLater = ScriptWeakness(rawValue: 1 << 19)
}
