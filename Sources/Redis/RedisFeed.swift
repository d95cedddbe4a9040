import Configuration
import Glibc
import Invalidation

/// What a sidecar hears of the fleet through Redis: the state, and the journal in order.
///
/// One poll is a pipeline of two commands. HMGET answers at once with the state; XREAD answers with the
/// entries behind the last one heard, and waits for them if there are none. So an entry arrives as soon as
/// it is written, and without any the state is asked again after the cadence's period.
///
/// The feed draws no conclusions. A gap in the journal, a state that goes back, evidence that grows old: all
/// that is for the one who hears.
public struct RedisFeed {
  private var generation: Generation?
  private var position = JournalID.zero
  /// When an entry or another generation was last heard of.
  private var quietSince: Instant

  /// Follows until `stop` says so (asked in the cadence while Redis answers); to be called on a
  /// thread of its own. Everything is heard on that thread, in order:
  ///
  /// - `.state` for each poll, with the instant before it was sent;
  /// - then `.entries` of that state's generation, if there are any, at most 1000 at a time. The first poll
  ///   and the first of a generation have none: the journal is read from that state's last entry on;
  /// - `.unreachable` for each attempt that failed. The next one follows after 50 ms, growing to 2 s, less a
  ///   random part so that a fleet does not come back all at once; the position in the journal is kept.
  public static func follow(
    settings: RedisSettings, keys: StateKeys, cadence: SharedCadence = SharedCadence(Cadence()),
    until stop: @Sendable () -> Bool, clock: @Sendable () -> Instant, hear: @Sendable (FeedEvent) -> Void
  ) {
    var feed = RedisFeed(quietSince: clock())
    var pauses = RetryPauses()
    while !stop() {
      do throws(RedisError) {
        var connection = try RedisConnection(settings, name: "nearside-feed", patience: Cadence.longest)
        while !stop() {
          let known = try feed.poll(&connection, keys, cadence.value, clock, hear)
          pauses.worked()
          if !known { RetryPauses.rest(Cadence.busy, until: stop) }
        }
      } catch {
        hear(.unreachable(error.description))
        pauses.rest(until: stop)
      }
    }
  }

  /// One poll. Whether there is a state.
  private mutating func poll(
    _ connection: inout RedisConnection, _ keys: StateKeys, _ cadence: Cadence,
    _ clock: @Sendable () -> Instant, _ hear: @Sendable (FeedEvent) -> Void
  ) throws(RedisError) -> Bool {
    let asked = clock()
    try connection.append(["HMGET", keys.meta] + FleetState.fieldNames)
    let reading = generation
    if let reading {
      let wait = cadence.period(quietSince: quietSince, now: asked) / 1_000_000
      try connection.append([
        "XREAD", "COUNT", "1000", "BLOCK", String(wait), "STREAMS", keys.journal(reading),
        position.description,
      ])
    }
    let state = try state(try connection.receive(), place: connection.place)
    hear(.state(state, asked: asked))
    if state?.generation != generation {
      generation = state?.generation
      position = state?.journal ?? .zero
      quietSince = asked
    }
    guard let reading else { return state != nil }
    let reply = try connection.receive()
    // What was read of a generation that has ended meanwhile no longer matters to anybody.
    guard reading == generation else { return state != nil }
    if case .error(let text) = reply { throw RedisError(answer: text, place: connection.place) }
    let items = try Self.items(reply, place: connection.place)
    if !items.isEmpty { quietSince = clock() }
    if let last = items.last?.elements?.first?.text.flatMap({ JournalID($0) }) { position = last }
    // An entry that nobody of ours wrote is left out; the next one's chain then shows a gap.
    let entries = items.compactMap { Self.entry($0) }
    if !entries.isEmpty { hear(.entries(entries, generation: reading)) }
    // An entry with nothing in it ends a journal: ask for the new generation instead of waiting at the old one.
    if entries.last?.isEmpty == true { generation = nil }
    return true
  }

  private func state(_ reply: RedisReply, place: String) throws(RedisError) -> FleetState? {
    if case .error(let text) = reply {
      // Somebody put another type under the state's name: that is no state, as for the scripts.
      if text.hasPrefix("WRONGTYPE") { return nil }
      throw RedisError(answer: text, place: place)
    }
    guard let fields = reply.elements else { throw RedisError(unexpected: "HMGET", place: place) }
    return FleetState(fields: fields.map(\.text))
  }

  /// The entries in an answer of XREAD about one stream: [[name, [[id, [field, value, …]], …]]], or nil.
  private static func items(_ reply: RedisReply, place: String) throws(RedisError) -> [RedisReply] {
    if reply == .null { return [] }
    guard let stream = reply.elements?.first?.elements, stream.count == 2, let items = stream[1].elements
    else { throw RedisError(unexpected: "XREAD", place: place) }
    return items
  }

  private static func entry(_ item: RedisReply) -> JournalEntry? {
    guard let pair = item.elements, pair.count == 2, let id = pair[0].text.flatMap({ JournalID($0) }),
      let fields = pair[1].elements
    else { return nil }
    var previous: JournalID?
    var position: LSN?
    var keys: PackedKeys? = PackedKeys()
    var groups: PackedKeys? = PackedKeys()
    var origins: PackedOrigins?
    for index in stride(from: 0, to: fields.count - 1, by: 2) {
      switch fields[index].text {
      case "p": previous = fields[index + 1].text.flatMap { JournalID($0) }
      case "l": position = fields[index + 1].text.flatMap { LSN(hex: $0) }
      case "k":
        guard case .bulk(let bytes) = fields[index + 1] else { return nil }
        keys = PackedKeys(bytes: bytes)
      case "q":
        guard case .bulk(let bytes) = fields[index + 1] else { return nil }
        groups = PackedKeys(bytes: bytes)
      case "y":
        if case .bulk(let bytes) = fields[index + 1] { origins = PackedOrigins(bytes: bytes) }
      default: break
      }
    }
    guard let previous, let position, let keys, let groups else { return nil }
    return JournalEntry(
      id: id, previous: previous, position: position, keys: keys, groups: groups, origins: origins)
  }
}
