import Invalidation
import NearCache

/// Replies about a part of a value, and about values that are no strings, kept near: HGET, SMEMBERS, ZRANGE.
///
/// How it works. What the near cache holds under such a key is its *anchor*: it says that Redis has something
/// there, and bears a number that no other anchor of this process has. Each reply is an entry of its own, under
/// that number and the command (`PartName`). Whatever takes a value away takes the anchor away, and a value or a
/// new anchor takes its place; then no reply under the old number is ever found again. They go when room is needed.
///
/// So everything that holds for a value holds for the anchor, and a reply joins it only as a value would be kept:
/// nothing has happened to the key, as far as is known here, since it was asked for. What is not known here yet
/// may have happened all the same; for that the anchor remembers how much the newest reply knew.
extension EventLoop {
  /// Whether a read of one key was answered from near: by a part, or by the value, of which some commands tell.
  mutating func answersNear(
    _ request: Request, _ name: String, _ key: GovernedKey, _ part: inout PartName?, _ slot: Int
  ) -> Bool {
    let (certificate, instant) = (certificate, clock())
    guard let until = showsNear(key, certificate, at: instant),
      let entry = findAnswer(to: name, request[1], hash: key.hash, &part),
      let answer = EntryMark.isValue(entry.tag)
        ? NearTelling(name, request, of: entry.value) : .reply(entry.value)
    else {
      counters.nearMisses += 1
      return false
    }
    if entry.tag & EntryMark.early != 0 {
      considerEarly(request[1], hash: key.hash, expires: entry.expires)
    }
    noteNearHit(key, certificate, at: instant)
    if entry.tag & EntryMark.tellsAbsence != 0 || answer.isEmpty {
      // What is stored for it must be stored under a lease as old as this answer.
      noteMiss(key, lease: givesLease(key, certificate, at: instant) ? follower.state?.lease : nil)
    }
    replyNear(slot, until: until) { answer.append(to: &$0) }
    return true
  }

  /// The entry that answers a read of this key: the part that `part` names, which is given the anchor's number, or
  /// the value.
  mutating func findAnswer(
    to name: String, _ key: UnsafeRawBufferPointer, hash: UInt64, _ part: inout PartName?
  ) -> NearEntry? {
    guard let entry = near.find(key, hash: hash, now: now), isCurrent(entry, key) else { return nil }
    if EntryMark.isValue(entry.tag) { return NearTelling.isTold(name) ? entry : nil }
    guard EntryMark.isAnchor(entry.tag) else { return nil }
    let anchor = Anchor(entry.value)
    guard anchor.newest <= follower.position else { return nil }
    part?.belong(to: anchor)
    return part?.bytes.withUnsafeBytes { name in
      let hash = near.hash(name)
      guard let found = near.find(name, hash: hash, now: now), EntryMark.isPart(found.tag) else { return nil }
      return found
    }
  }

  /// The value or the anchor under a key: whether the key exists.
  mutating func findHeld(_ key: UnsafeRawBufferPointer, hash: UInt64) -> NearEntry? {
    guard let entry = near.find(key, hash: hash, now: now), isCurrent(entry, key),
      EntryMark.isValue(entry.tag) || EntryMark.isAnchor(entry.tag)
    else { return nil }
    return entry
  }

  // MARK: Keeping

  /// Keeps the reply to a read. `times`: of its key, as Redis told them around it; `isAbsent`: the reply may tell
  /// that something does not exist.
  mutating func keepPart(
    _ read: GovernedRead, _ reply: UnsafeRawBufferPointer, isAbsent: Bool, _ times: KeyTimes,
    _ judgement: Judgement, _ journal: JournalID?
  ) {
    let key = read.keys[0]
    // Of a key that does not exist nothing is kept.
    guard var part = read.part, times.isThere, !isAbsent || times.wasThere,
      let (anchor, expires) = keepAnchor(key, times, asked: read.asked, judgement, journal)
    else { return }
    part.belong(to: anchor)
    let mark = key.rule.mark | EntryMark.part | (isAbsent ? EntryMark.tellsAbsence : 0)
    part.bytes.withUnsafeBytes { name in
      let hash = near.hash(name)
      _ = near.insert(name, hash: hash, value: reply, expires: expires, tag: mark)
    }
  }

  /// Notes near that a key exists. The result is its anchor, and until when what is read of it now may be kept; nil:
  /// nothing may be kept, or its value is near and tells more.
  @discardableResult
  mutating func keepAnchor(
    _ key: GovernedKey, _ times: KeyTimes, asked: Instant, _ judgement: Judgement, _ journal: JournalID?
  ) -> (Anchor, expires: Instant?)? {
    guard let milliseconds = times.after, times.isThere else { return nil }
    // PTTL counted from a moment after `asked`, so what is near goes no later than what Redis has.
    let end = milliseconds < 0 ? nil : asked.after(milliseconds: milliseconds)
    if tracking.isActive, let end { tracking.table.setEnd(of: key.bytes, end.nanoseconds) }
    guard judgement.mayKeep, let journal, mayKeepNear(key) else { return nil }
    let expires = nearEnd(key, end)
    var anchor: Anchor?
    let isKept = key.bytes.withUnsafeBytes { bytes in
      guard isCurrent(key.serial, bytes) else { return false }
      if let entry = near.find(bytes, hash: key.hash, now: now), isCurrent(entry, bytes) {
        if EntryMark.isValue(entry.tag) { return false }
        if EntryMark.isAnchor(entry.tag) { anchor = Anchor(entry.value) }
      }
      if let anchor, journal <= max(anchor.newest, follower.position) {
        return near.setExpiry(bytes, hash: key.hash, expires: expires)
      }
      let renewed = Anchor(
        number: anchor?.number ?? newAnchorNumber(), newest: max(anchor?.newest ?? .zero, journal))
      anchor = renewed
      return insert(renewed, bytes, key, expires: expires, serial: key.nearSerial)
    }
    guard isKept, let anchor else { return nil }
    if key.rule.load != nil {
      key.bytes.withUnsafeBytes { considerEarly($0, hash: key.hash, expires: end) }
    }
    return (anchor, expires)
  }

  /// A client is shown replies about these keys. Parts of them that are near wait until this host has heard of
  /// everything that Redis knew then.
  mutating func noteShown(_ keys: [GovernedKey], _ journal: JournalID?) {
    guard let journal, journal > follower.position else { return }
    for key in keys {
      key.bytes.withUnsafeBytes { bytes in
        guard let entry = near.find(bytes, hash: key.hash, now: now), EntryMark.isAnchor(entry.tag),
          isCurrent(entry, bytes)
        else { return }
        var anchor = Anchor(entry.value)
        anchor.newest = max(anchor.newest, journal)
        _ = insert(anchor, bytes, key, expires: entry.expires, serial: entry.serial)
      }
    }
  }

  private mutating func insert(
    _ anchor: Anchor, _ bytes: UnsafeRawBufferPointer, _ key: GovernedKey, expires: Instant?, serial: UInt32?
  ) -> Bool {
    withUnsafeBytes(of: anchor) {
      near.insert(
        bytes, hash: key.hash, value: $0, expires: expires, tag: key.rule.mark | EntryMark.anchor,
        serial: serial)
    }
  }

  private mutating func newAnchorNumber() -> UInt64 {
    lastAnchor += 1
    return lastAnchor
  }
}

/// What lies near under a key whose parts are near; kept as the bytes of this struct.
struct Anchor {
  /// No other anchor of this process has it.
  var number: UInt64
  /// The end of the journal as the newest reply about the key knew it. While this host has not heard up to there,
  /// an older part may be from before a change that the newer reply shows.
  var newest: JournalID

  init(number: UInt64, newest: JournalID) {
    self.number = number
    self.newest = newest
  }

  init(_ bytes: UnsafeRawBufferPointer) { self = bytes.loadUnaligned(as: Anchor.self) }
}

/// Under what a reply lies near: the anchor's number, the protocol version, the command's name in lower case and its
/// arguments but for the key, each after its length. Nothing that a client calls a key is taken for one, nor the
/// other way round: entries of parts are marked.
struct PartName: Sendable {
  private(set) var bytes: [UInt8]

  private static let numberLength = MemoryLayout<UInt64>.size

  /// nil: the command is longer than what the near cache takes for a key.
  init?(_ request: Request, _ name: String, resp3: Bool) {
    var count = Self.numberLength + 2 + name.utf8.count
    for index in 2..<request.count { count += 4 + request[index].count }
    guard count <= PackedKeys.longestKey else { return nil }
    bytes = []
    bytes.reserveCapacity(count)
    bytes.append(contentsOf: repeatElement(0, count: Self.numberLength))
    bytes.append(resp3 ? 3 : 2)
    bytes.append(UInt8(name.utf8.count))
    bytes.append(contentsOf: name.utf8)
    for index in 2..<request.count {
      let argument = request[index]
      withUnsafeBytes(of: UInt32(argument.count)) { bytes.append(contentsOf: $0) }
      bytes.append(contentsOf: argument)
    }
  }

  mutating func belong(to anchor: Anchor) {
    bytes.withUnsafeMutableBytes { $0.storeBytes(of: anchor.number, as: UInt64.self) }
  }
}

/// How long a key lives, in milliseconds as PTTL tells it, before a command and after it.
struct KeyTimes {
  /// nil: it was not asked, or is not known.
  var before: Int?
  var after: Int?

  /// Whether the key existed after the command.
  var isThere: Bool { after.map { $0 != -2 } ?? false }

  /// Whether it existed all the while: one that ended in between, and was stored again, has more time than was left
  /// then.
  var wasThere: Bool {
    guard let before, let after, before != -2 else { return false }
    return before == -1 ? after == -1 : after >= 0 && after <= before
  }
}

/// A near answer to a read that is no GET.
enum NearTelling {
  case reply(UnsafeRawBufferPointer)
  case value(UnsafeRawBufferPointer)
  case length(Int)
  case isString

  /// Whether a value tells the answer.
  static func isTold(_ name: String) -> Bool {
    switch name {
    case "strlen", "getrange", "substr", "type": true
    default: false
    }
  }

  /// nil: Redis has to say what is wrong with the command.
  init?(_ name: String, _ request: Request, of value: UnsafeRawBufferPointer) {
    switch name {
    case "strlen": self = .length(value.count)
    case "type": self = .isString
    case "getrange", "substr":
      guard let first = request.integer(2), let last = request.integer(3) else { return nil }
      self = .value(Self.range(of: value, first, last))
    default: return nil
    }
  }

  /// Source: Redis's t_string.c, `getrangeCommand`.
  private static func range(
    of value: UnsafeRawBufferPointer, _ first: Int, _ last: Int
  ) -> UnsafeRawBufferPointer {
    let none = UnsafeRawBufferPointer(start: nil, count: 0)
    if first < 0, last < 0, first > last { return none }
    let from = max(0, first < 0 ? value.count + first : first)
    let to = min(value.count - 1, max(0, last < 0 ? value.count + last : last))
    return from <= to ? UnsafeRawBufferPointer(rebasing: value[from...to]) : none
  }

  /// Whether a value tells what a key that does not exist would.
  var isEmpty: Bool {
    switch self {
    case .reply, .isString: false
    case .value(let bytes): bytes.isEmpty
    case .length(let count): count == 0
    }
  }

  func append(to output: inout IOBuffer) {
    switch self {
    case .reply(let bytes): output.append(bytes)
    case .value(let bytes): output.bulk(bytes)
    case .length(let count): output.integer(count)
    case .isString: output.status("string")
    }
  }
}
