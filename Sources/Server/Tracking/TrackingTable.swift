import Invalidation

/// Which client has read which key, and what clients are to be told: Redis's tracking table, for clients of this
/// socket.
///
/// A key is entered when its read is sent, not when it is answered, so that no change in between is missed. The number
/// of the reply that is owed for it stands beside the client: a change that comes while that reply is still owed is
/// told twice, at once and again behind the reply, because the reply may carry the value of before. Once told, the
/// client is no longer entered under the key; it is again when it reads again.
///
/// The table is bounded by the number of its entries, one for each key and each client that has read it. Where one
/// more would be too many a key drawn at random leaves, and its clients are told as if it had changed.
struct TrackingTable {
  /// As epoll names a client.
  typealias Client = UInt64

  struct Holder: Equatable {
    var client: Client
    /// The number of the reply in which the client was, or will be, given the key.
    var reply: Int
  }

  struct Message: Equatable {
    enum Content: Equatable {
      case keys([[UInt8]])
      case everything
    }

    var client: Client
    var content: Content
    /// Where the reply with this number is still owed, the message is repeated behind it.
    var reply: Int
    /// Only then: the key was read and cannot be watched, so what the client was given must not be kept.
    var isBehind = false
  }

  private struct Key {
    var bytes: [UInt8]
    var holders: TrackedHolders
    /// The fence buckets of its groups.
    var groups: [Int32]
    var isGoverned: Bool
    /// When its value ends, in nanoseconds.
    var end: UInt64?
  }

  /// How many entries there may be.
  var limit: Int
  private(set) var states: [Client: TrackingState] = [:]
  private(set) var count = 0
  /// How many keys left for want of room.
  private(set) var evicted = 0
  /// How many keys are not governed: Redis itself must tell of them.
  private(set) var foreign = 0
  private var keys: [Key] = []
  private var places: [[UInt8]: Int] = [:]
  private var groups: [Int32: Set<[UInt8]>] = [:]
  /// Which clients broadcast, by their prefixes.
  private(set) var prefixes: [[UInt8]: [Client]] = [:]
  private var pending: [Message] = []
  /// Clients that are to be told to forget everything, which is enough to be told once.
  private var forgetting: Set<Client> = []
  /// What broadcasting clients are to be told, by prefix, and which of them are not, having written it.
  private var broadcasts: [[UInt8]: [[UInt8]: Set<Client>]] = [:]
  private var sweep = 0
  private var ends = TrackingEnds()
  private var writes = OwnWrites()

  init(limit: Int) { self.limit = limit }

  var isEmpty: Bool { states.isEmpty }
  var keyCount: Int { keys.count }
  /// As INFO of Redis names them.
  var numbers: [(name: String, number: Int)] {
    [
      ("tracking_clients", states.count), ("tracking_total_keys", keys.count),
      ("tracking_total_items", count),
      ("tracking_total_prefixes", prefixes.count),
    ]
  }
  var hasMessages: Bool { !pending.isEmpty || !broadcasts.isEmpty }
  var hasBroadcasts: Bool { !prefixes.isEmpty }
  /// Whether some client may keep a governed key.
  var knowsGoverned: Bool { keys.count > foreign || hasBroadcasts }

  // MARK: Clients

  /// `state`: nil: CLIENT TRACKING OFF, or the client has gone. What it has read stays until it changes, as in Redis;
  /// nobody is told then.
  mutating func set(_ client: Client, _ state: TrackingState?) {
    for prefix in states[client]?.prefixes ?? [] {
      prefixes[prefix]?.removeAll { $0 == client }
      if prefixes[prefix]?.isEmpty == true { prefixes[prefix] = nil }
    }
    states[client] = state
    for prefix in state?.prefixes ?? [] { prefixes[prefix, default: []].append(client) }
    if state == nil { writes.forget(client) }
    if states.isEmpty { removeAll() }
  }

  mutating func setCaching(_ client: Client, _ isCaching: Bool) { states[client]?.isCaching = isCaching }
  mutating func setBroken(_ client: Client) { states[client]?.isBroken = true }

  // MARK: Reading

  /// A client reads a key.
  /// - Parameters:
  ///   - reply: the number of the reply that it is owed for that.
  ///   - groups: the fence buckets of the key's groups.
  ///   - end: when the value ends, in nanoseconds, if that is known.
  mutating func read(
    _ key: [UInt8], by client: Client, reply: Int, groups: [Int32] = [], isGoverned: Bool = true,
    end: UInt64? = nil
  ) {
    let holder = Holder(client: client, reply: reply)
    if let place = places[key] {
      if keys[place].holders.set(holder) { count += 1 }
    } else {
      places[key] = keys.count
      keys.append(
        Key(bytes: key, holders: TrackedHolders(holder), groups: groups, isGoverned: isGoverned))
      for group in groups { self.groups[group, default: []].insert(key) }
      if !isGoverned { foreign += 1 }
      count += 1
    }
    if let end { setEnd(of: key, end) }
    while count > limit, keys.count > 1 { evict(but: key) }
  }

  /// A client reads a key of whose changes nothing would tell: what it is given must not be kept.
  mutating func readUnwatched(_ key: [UInt8], by client: Client, reply: Int) {
    pending.append(Message(client: client, content: .keys([key]), reply: reply, isBehind: true))
  }

  private mutating func evict(but key: [UInt8]) {
    var place = Int.random(in: keys.indices)
    if keys[place].bytes == key { place = (place + 1) % keys.count }
    evicted += 1
    tell(remove(at: place))
  }

  /// When the value of a key that was read ends, in nanoseconds.
  mutating func setEnd(of key: [UInt8], _ end: UInt64) {
    guard let place = places[key], keys[place].end != end else { return }
    keys[place].end = end
    ends.add(key, end)
    guard ends.count > 2 * keys.count + 1024 else { return }
    ends.removeAll()
    for key in keys { if let end = key.end { ends.add(key.bytes, end) } }
  }

  // MARK: Writing

  /// A client sends a write of these keys to Redis. Result: those that it had read; with NOLOOP it is entered under
  /// them no longer.
  mutating func writes(_ keys: [[UInt8]], by client: Client) -> [[UInt8]] {
    guard let state = states[client], state.hasNoLoop else { return [] }
    if state.broadcasts {
      writes.began(keys, by: client)
      return keys
    }
    return keys.filter { leave($0, client) }
  }

  /// Redis has answered: whether the keys have changed for certain. `keys`: what `writes` returned.
  mutating func wrote(_ keys: [[UInt8]], by client: Client, isCertain: Bool, reply: Int, now: UInt64) {
    guard let state = states[client] else { return }
    if state.broadcasts {
      for key in writes.ended(keys, by: client, isCertain: isCertain, now: now) {
        pending.append(Message(client: client, content: .keys([key]), reply: reply))
      }
    } else if !isCertain {
      for key in keys { readUnwatched(key, by: client, reply: reply) }
    }
  }

  /// A write of governed keys has been carried out. Its client is told of it only without NOLOOP, or if it broadcasts:
  /// Redis's message may have come already, and the next would be somebody else's.
  mutating func wroteGoverned(_ keys: [[UInt8]], by client: Client) {
    guard let state = states[client], state.hasNoLoop, !state.broadcasts else { return }
    for key in keys { _ = leave(key, client) }
  }

  /// Whether the client was entered under the key.
  private mutating func leave(_ key: [UInt8], _ client: Client) -> Bool {
    guard let place = places[key] else { return false }
    switch keys[place].holders.leave(client) {
    case .unknown: return false
    case .left: count -= 1
    case .last: _ = remove(at: place)
    }
    return true
  }

  // MARK: Changing

  /// A key has changed.
  /// - Parameters:
  ///   - broadcasts: whether clients that broadcast are told; false where Redis tells of the same change.
  ///   - now: nanoseconds, where Redis tells: the one that stands for a client's own write is not told to it.
  mutating func changed(_ key: [UInt8], broadcasts tellsAll: Bool = true, now: UInt64? = nil) {
    if tellsAll, !prefixes.isEmpty { broadcast(key, now: now) }
    guard let place = places[key] else { return }
    tell(remove(at: place))
  }

  /// A group of keys has changed: a prefix or a tag, its kind before it.
  /// - Parameter namespace: what every governed key begins with.
  mutating func changed(group: [UInt8], bucket: Int32, namespace: [UInt8]) {
    for key in groups[bucket] ?? [] { changed(key, broadcasts: false) }
    // Which keys these are, nobody knows, so whoever watches some of them by prefix is told to forget everything.
    let start = group.first == KeyGroup.prefix ? Array(group.dropFirst()) : namespace
    var told: Set<Client> = []
    for (prefix, clients) in prefixes where prefix.starts(with: start) || start.starts(with: prefix) {
      told.formUnion(clients)
    }
    for client in told.sorted() { tellAll(client) }
  }

  /// Everything may have changed.
  mutating func flush() {
    guard !states.isEmpty else { return }
    removeAll()
    for client in states.keys.sorted() { tellAll(client) }
  }

  private mutating func removeAll() {
    keys = []
    places = [:]
    groups = [:]
    ends.removeAll()
    count = 0
    foreign = 0
    sweep = 0
  }

  /// Any governed key may have changed, and whoever broadcasts has been told.
  mutating func flushGoverned() { if keys.count > foreign { flush() } }

  private mutating func tellAll(_ client: Client) {
    guard forgetting.insert(client).inserted else { return }
    pending.append(Message(client: client, content: .everything, reply: .max))
  }

  private mutating func tell(_ key: Key) {
    key.holders.forEach { tell($0, key.bytes) }
  }

  private mutating func tell(_ holder: Holder, _ key: [UInt8]) {
    guard let state = states[holder.client], !state.broadcasts else { return }
    pending.append(Message(client: holder.client, content: .keys([key]), reply: holder.reply))
  }

  private mutating func broadcast(_ key: [UInt8], now: UInt64?) {
    for (prefix, clients) in prefixes where key.starts(with: prefix) {
      var own: Set<Client> = []
      if let now, !writes.isEmpty {
        for client in clients where writes.isEcho(key, client, now: now) { own.insert(client) }
      }
      if let before = broadcasts[prefix]?[key] { own.formIntersection(before) }
      broadcasts[prefix, default: [:]][key] = own
    }
  }

  private mutating func remove(at place: Int) -> Key {
    let key = keys[place]
    let last = keys.removeLast()
    if place < keys.count {
      keys[place] = last
      places[last.bytes] = place
    }
    places[key.bytes] = nil
    for group in key.groups {
      self.groups[group]?.remove(key.bytes)
      if groups[group]?.isEmpty == true { groups[group] = nil }
    }
    count -= key.holders.count
    if !key.isGoverned { foreign -= 1 }
    return key
  }

  // MARK: Messages

  /// What clients are to be told by now, each client's in order.
  mutating func takeMessages() -> [Message] {
    endBroadcast()
    defer {
      pending = []
      forgetting.removeAll(keepingCapacity: true)
    }
    return pending
  }

  /// What has changed so far and what changes later is not told together.
  mutating func endBroadcast() {
    guard !broadcasts.isEmpty else { return }
    for (prefix, keys) in broadcasts.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
      let sorted = keys.sorted { $0.key.lexicographicallyPrecedes($1.key) }
      for client in prefixes[prefix] ?? [] {
        let told = sorted.filter { !$0.value.contains(client) }.map(\.key)
        if told.isEmpty { continue }
        pending.append(Message(client: client, content: .keys(told), reply: .max))
      }
    }
    broadcasts = [:]
  }

  // MARK: Time

  /// Tells of values that have ended, and forgets clients that have gone, some keys' at a time.
  mutating func tick(now: UInt64) {
    for key in ends.due(now) {
      guard let place = places[key], let end = keys[place].end, end <= now else { continue }
      changed(key)
    }
    writes.purge(now: now)
    var (left, keysLeft) = (1000, keys.count)
    while left > 0, keysLeft > 0 {
      keysLeft -= 1
      if sweep >= keys.count { sweep = 0 }
      let (key, before) = (keys[sweep].bytes, keys.count)
      // A hot key counts for as many as have read it, so that no tick takes long.
      left -= keys[sweep].holders.count
      for client in gone(at: sweep) { _ = leave(key, client) }
      if keys.count == before { sweep += 1 }
    }
  }

  private func gone(at place: Int) -> [Client] {
    var gone: [Client] = []
    keys[place].holders.forEach { if states[$0.client] == nil { gone.append($0.client) } }
    return gone
  }
}
