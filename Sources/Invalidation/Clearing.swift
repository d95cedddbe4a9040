/// The passes over Redis that remove what no longer counts, step by step between the batches: first what older
/// generations left, then the keys of groups, one pass for all that waited when it began.
struct Clearing {
  /// What a request under way is.
  enum Step: Hashable {
    case scan
    /// The pass is over.
    case purged, swept
  }

  /// Pause between steps: they share Redis with the application.
  static let pause: UInt64 = 2_000_000

  /// SCAN's cursor of the next step; nil: nothing is to be cleared.
  private var cursor: String?
  /// The groups whose keys the present pass removes; nil: it clears what older generations left.
  private var groups: PendingGroups?
  /// Whether the step that returned cursor 0 has been answered: nothing of before is left.
  private var isOver = false
  /// Whether a batch has gone since the last step.
  private var mayGo = false
  private var nextStep: Instant

  init(now: Instant) { nextStep = now }

  var isUnderWay: Bool { cursor != nil }
  /// Whether the pass removes what older generations left.
  var isPurge: Bool { groups == nil }
  /// When the next step is due; nil: none is.
  var due: Instant? { cursor == nil ? nil : nextStep }

  /// Begins a pass that removes the keys of `groups`, or, if nil, what older generations left.
  mutating func begin(_ groups: PendingGroups?, now: Instant) {
    self.groups = groups
    cursor = "0"
    isOver = false
    if groups == nil { mayGo = false }
    nextStep = now
  }

  /// Steps and batches take turns, so that steady changes cannot keep anything from being cleared.
  func hasTurn(now: Instant) -> Bool { mayGo && (isOver || cursor != nil && now >= nextStep) }

  mutating func batchWent() { mayGo = true }

  /// The step that is due.
  mutating func next(_ check: WriteCheck, now: Instant) -> StateRequest? {
    mayGo = false
    guard let cursor else { return nil }
    if isOver { return groups.map { .swept(check: check, pending: $0) } ?? .purged(check: check) }
    guard now >= nextStep else { return nil }
    return groups.map { .sweep(check: check, cursor: cursor, groups: $0.groups) }
      ?? .purge(check: check, cursor: cursor)
  }

  /// What the request that `next` has given is.
  var step: Step { !isOver ? .scan : groups == nil ? .purged : .swept }

  /// A step has been answered with the cursor of the next one.
  mutating func went(to next: String, endsEarly: Bool, now: Instant) {
    nextStep = Instant(nanoseconds: now.nanoseconds + Self.pause)
    if next == "0" || endsEarly { isOver = true }
    cursor = next
  }

  mutating func ended() {
    cursor = nil
    groups = nil
    isOver = false
  }
}
