import CLinux
import Invalidation
import NearCache
import Synchronization

/// What the event loop and one reader tell each other without messages, and what a reader needs to answer.
///
/// The order is what matters. The event loop takes out of the near cache what was invalidated, and only then publishes
/// the certificate that says so. A reader loads the certificate first, looks up behind it, and last, when all is
/// copied, asks the clock how old the certificate is: so nothing is answered that is older than the certificate says,
/// and no certificate that is older than the bound. `Tests/Model/readers.pml` goes through the interleavings.
///
/// A certificate is about one line of evidence. When that is given up (another generation, a state that went back),
/// entries that come afterwards may know less than it promised. So the number of the line is raised before any of them
/// is there, and whoever sees another number behind its look-ups than before answers nothing.
final class ReaderBoard: Sendable {
  /// Nanoseconds since boot; 0: there is none.
  private let certificate = Atomic<UInt64>(0)
  private let line = Atomic<UInt64>(0)
  /// How long before its end a value may at most be due for a refresh (`EarlyRefresh`), in nanoseconds.
  private let lead = Atomic<UInt64>(0)

  // MARK: The event loop

  /// To be called after everything that the evidence tells of has left the near cache, and before anything enters it
  /// that it does not tell of.
  func publish(_ new: Instant?, earlyLead: UInt64) {
    if lead.load(ordering: .relaxed) != earlyLead { lead.store(earlyLead, ordering: .relaxed) }
    let old = certificate.load(ordering: .relaxed)
    let new = new?.nanoseconds ?? 0
    guard old != new else { return }
    if new < old {
      certificate.store(0, ordering: .releasing)
      line.wrappingAdd(1, ordering: .releasing)
      // What enters the near cache from here on is not seen before the number is.
      atomicMemoryFence(ordering: .releasing)
    }
    if new > 0 { certificate.store(new, ordering: .releasing) }
  }

  // MARK: A reader

  var earlyLead: UInt64 { lead.load(ordering: .relaxed) }

  /// What look-ups that begin now may claim.
  struct Evidence {
    var line: UInt64
    var certificate: Instant
  }

  var evidence: Evidence? {
    let line = line.load(ordering: .acquiring)
    let certificate = certificate.load(ordering: .acquiring)
    return certificate == 0
      ? nil : Evidence(line: line, certificate: Instant(nanoseconds: certificate))
  }

  /// Whether look-ups that have ended by now may claim it.
  func holds(_ evidence: Evidence) -> Bool {
    atomicMemoryFence(ordering: .acquiring)
    return line.load(ordering: .relaxed) == evidence.line
  }
}

/// What one reader has done; only it writes.
///
/// `@unchecked Sendable`: numbers that are loaded and stored whole, in memory of this object's own.
final class ReaderCounters: @unchecked Sendable {
  private let commands = Atomic<Int>(0)
  private let mgets = Atomic<Int>(0)
  /// Hits by the number of their template.
  private let hits: UnsafeMutablePointer<UInt64>
  private let templates: Int

  /// Numbers of templates are below `templates`.
  init(templates: Int) {
    self.templates = templates
    hits = .allocate(capacity: templates)
    hits.initialize(repeating: 0, count: templates)
  }

  deinit { hits.deallocate() }

  /// A run that is taken back has been counted, as in `Tally`.
  func hit(_ template: Int) { clinux_store64(hits + template, clinux_load64(hits + template) &+ 1) }

  func add(commands more: Int, mgets: Int) {
    commands.store(commands.load(ordering: .relaxed) + more, ordering: .relaxed)
    if mgets > 0 {
      self.mgets.store(self.mgets.load(ordering: .relaxed) + mgets, ordering: .relaxed)
    }
  }

  struct Totals {
    var commands = 0
    var mgets = 0
    var hits: [Int] = []
  }

  var totals: Totals {
    Totals(
      commands: commands.load(ordering: .relaxed), mgets: mgets.load(ordering: .relaxed),
      hits: (0..<templates).map { Int(clinux_load64(hits + $0)) })
  }
}

/// When each client that is lent was heard last, by its slot.
///
/// `@unchecked Sendable`: numbers that are loaded and stored whole, in memory of this object's own. A slot's is written
/// by the one loop that has the client.
final class HeardTimes: @unchecked Sendable {
  private let times: UnsafeMutablePointer<UInt64>

  init(slots: Int) {
    times = .allocate(capacity: slots)
    times.initialize(repeating: 0, count: slots)
  }

  deinit { times.deallocate() }

  func note(_ slot: Int32, _ instant: Instant) { clinux_store64(times + Int(slot), instant.nanoseconds) }
  func at(_ slot: Int) -> Instant { Instant(nanoseconds: clinux_load64(times + slot)) }
}
