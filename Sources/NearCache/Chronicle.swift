import Invalidation

/// What became of keys on this host lately: fills that were stored, fills that were refused, and removals. It
/// is for a person who asks why a key is cached, or is not; nothing is decided by it.
///
/// Keys are 64-bit hashes under the owner's random seed, so it holds no key, and its memory is bounded whatever
/// keys are like: three rings of `capacity` records, about 250 bytes for the three.
public struct Chronicle: Sendable {
  /// A value that somebody tried to store.
  public struct Fill: Hashable, Sendable {
    public var key: UInt64
    public var at: Instant
    /// The command that brought it, at most 15 letters.
    public var command: String
    /// What it counted under; nil: nothing.
    public var lease: Lease?
    /// nil: it was stored.
    public var refusal: FillRefusal?
  }

  /// A key, or a group of keys, left the near cache because it no longer counts.
  public struct Removal: Hashable, Sendable {
    public var key: UInt64
    public var at: Instant
    public var cause: KeyInvalidation
  }

  /// A generation that this host began to follow.
  public struct Beginning: Hashable, Sendable {
    public var generation: Generation
    public var at: Instant
  }

  /// What is known of one key.
  public struct Account: Hashable, Sendable {
    public var stored: Fill?
    public var refused: Fill?
    /// How many refusals are remembered.
    public var refusals = 0
    public var removal: Removal?
  }

  private var stored: Ring<Fill>
  private var refused: Ring<Fill>
  private var removals: Ring<Removal>
  /// The last one; nil: none yet.
  public private(set) var beginning: Beginning?

  /// - Parameter capacity: how many records of each kind are kept.
  public init(capacity: Int = 4096) {
    stored = Ring(capacity: capacity)
    refused = Ring(capacity: capacity)
    removals = Ring(capacity: capacity)
  }

  public mutating func filled(
    _ key: UInt64, by command: String, under lease: Lease?, refusal: FillRefusal? = nil, at instant: Instant
  ) {
    let fill = Fill(key: key, at: instant, command: command, lease: lease, refusal: refusal)
    if refusal == nil { stored.append(fill) } else { refused.append(fill) }
  }

  public mutating func removed(_ key: UInt64, _ cause: KeyInvalidation, at instant: Instant) {
    removals.append(Removal(key: key, at: instant, cause: cause))
  }

  public mutating func began(_ generation: Generation, at instant: Instant) {
    guard beginning?.generation != generation else { return }
    beginning = Beginning(generation: generation, at: instant)
  }

  /// What is remembered of `key`; looks at every record. `groups`: what else its removal may have been recorded
  /// under.
  public func account(of key: UInt64, groups: Set<UInt64> = []) -> Account {
    var refusals = 0
    refused.forEach { if $0.key == key { refusals += 1 } }
    return Account(
      stored: stored.newest { $0.key == key }, refused: refused.newest { $0.key == key }, refusals: refusals,
      removal: removals.newest { $0.key == key || groups.contains($0.key) })
  }
}

/// Why a value was not stored. The raw value is the word that is shown.
public enum FillRefusal: String, Hashable, Sendable, CaseIterable {
  // By the rules of plain SETs (`Refusal`).
  case off, late, predecessor, full, bypassed, young
  /// A command that builds on what is there, soon after a refusal.
  case barred
  // By the state, in the words of its scripts.
  case noState, generation, floor, fence, untrusted
  /// The script of a command that guards several keys does not tell which of them.
  case outdated
  /// Redis had lost the scripts; they are being loaded.
  case reloading

  public init(_ refusal: Refusal) {
    self =
      switch refusal {
      case .off: .off
      case .late: .late
      case .predecessor: .predecessor
      case .full: .full
      case .bypassed: .bypassed
      case .young: .young
      }
  }

  public init(_ refusal: LocalState.Refusal) {
    self =
      switch refusal {
      case .noState: .noState
      case .generation: .generation
      case .floor: .floor
      case .fence: .fence
      }
  }

  /// By the word that a script answered.
  public init(script word: String) {
    self =
      switch word {
      case "NOSTATE": .noState
      case "GEN": .generation
      case "FLOOR": .floor
      case "FENCE": .fence
      case "UNTRUSTED": .untrusted
      default: .outdated
      }
  }

  /// What it means, as a sentence without its full stop.
  public var explanation: String {
    switch self {
    case .off: "plainSet is off for this key"
    case .late: "the command waited for longer than plainSetWindow"
    case .predecessor: "a sidecar that ran here before may have answered the miss, and its table is lost"
    case .full: "the table of misses was full, so the miss is not known"
    case .bypassed: "the miss was answered without the right to fill, since the evidence was too old"
    case .young: "there was no miss of this key, and this sidecar has not run for plainSetWindow yet"
    case .barred: "a value of this key was refused a moment ago, and the command builds on what is there"
    case .noState: "there was no state: no generation had begun, or Redis had lost it"
    case .generation: "a new generation had begun since the lease was given"
    case .floor: "the lease is from before the generation's beginning"
    case .fence: "the key, or one that shares its fence, was invalidated after the lease was given"
    case .untrusted: "values of older generations were still being cleared"
    case .outdated: "the key was invalidated, or a generation had begun, after the lease was given"
    case .reloading: "Redis had lost Nearside's scripts"
    }
  }
}

/// The last so many of what was appended. Its memory grows up to its capacity and is then used again.
struct Ring<Element: Sendable>: Sendable {
  private var elements: [Element] = []
  /// The oldest, once the ring is full.
  private var oldest = 0
  let capacity: Int

  init(capacity: Int) { self.capacity = capacity }

  mutating func append(_ element: Element) {
    guard elements.count == capacity else { return elements.append(element) }
    elements[oldest] = element
    oldest = oldest + 1 == capacity ? 0 : oldest + 1
  }

  func newest(_ isWanted: (Element) -> Bool) -> Element? {
    elements[..<oldest].last(where: isWanted) ?? elements[oldest...].last(where: isWanted)
  }

  func forEach(_ body: (Element) -> Void) { elements.forEach(body) }
}
