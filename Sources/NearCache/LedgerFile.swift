import Invalidation

/// The file beside the socket, by which a process learns what its predecessor may have answered. It begins
/// with three lines that a person can read, the version, the boot it belongs to and the instant of the last
/// touch; after a clean stop the ledger's table follows.
///
/// Write it to a temporary name and rename it, every `FillLedger.touchPeriod`, so that it is never half.
public struct LedgerFile: Hashable, Sendable {
  /// The content of /proc/sys/kernel/random/boot_id: instants of another boot mean nothing. Source: random(4).
  public var boot: String
  /// When the process that wrote it was last alive.
  public var touched: Instant
  /// What `FillLedger.serialise` made at a clean stop; nil while the process runs.
  public var table: [UInt8]?

  public init(boot: String, touched: Instant, table: [UInt8]? = nil) {
    self.boot = boot
    self.touched = touched
    self.table = table
  }

  private static let title = "nearside ledger 1"

  public var bytes: [UInt8] {
    Array("\(Self.title)\n\(boot)\n\(touched.nanoseconds)\n".utf8) + (table ?? [])
  }

  /// nil if this is not such a file: then what the predecessor did is unknown, and nothing is adopted.
  public init?(bytes: [UInt8]) {
    let parts = bytes.split(separator: UInt8(ascii: "\n"), maxSplits: 3, omittingEmptySubsequences: false)
    guard parts.count == 4, String(decoding: parts[0], as: UTF8.self) == Self.title,
      let touched = UInt64(String(decoding: parts[2], as: UTF8.self))
    else { return nil }
    boot = String(decoding: parts[1], as: UTF8.self)
    self.touched = Instant(nanoseconds: touched)
    table = parts[3].isEmpty ? nil : Array(parts[3])
  }
}

extension FillLedger {
  /// Takes over from the process that served this socket before.
  ///
  /// - Parameters:
  ///   - file: what stood beside the socket; nil only if there was no file at all. For a file that cannot be
  ///     read or understood do not call this: plain SETs are then refused for a window.
  ///   - boot: the boot that this process runs in.
  public mutating func adopt(_ file: LedgerFile?, boot: String) {
    guard let file, file.boot == boot else { return predecessor(lastTouched: nil) }
    if let table = file.table, restore(from: table) { return }
    predecessor(lastTouched: file.touched)
  }
}

/// Numbers of eight bytes, least significant first; what may be absent has a 0 or 1 before it.
struct LedgerWriter {
  static let format: UInt64 = 1
  private(set) var bytes: [UInt8] = []

  mutating func number(_ value: UInt64) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }

  mutating func optional(_ instant: Instant?) {
    number(instant == nil ? 0 : 1)
    if let instant { number(instant.nanoseconds) }
  }

  mutating func optional(_ lease: Lease?) {
    number(lease == nil ? 0 : 1)
    guard let lease else { return }
    number(lease.generation.rawValue)
    number(lease.stamp.visible.rawValue)
    number(lease.stamp.deletions)
  }
}

/// Reads what `LedgerWriter` wrote; each call is nil where the bytes end or make no sense.
struct LedgerReader {
  let bytes: [UInt8]
  private var at = 0

  init(bytes: [UInt8]) { self.bytes = bytes }

  var isAtEnd: Bool { at == bytes.count }

  mutating func number() -> UInt64? {
    guard bytes.count - at >= 8 else { return nil }
    let value = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: UInt64.self) }
    at += 8
    return UInt64(littleEndian: value)
  }

  mutating func instant() -> Instant? { number().map(Instant.init(nanoseconds:)) }

  mutating func optionalInstant() -> Instant?? {
    switch number() {
    case 0: return .some(nil)
    case 1: return instant().map(Optional.some)
    default: return nil
    }
  }

  mutating func optionalLease() -> Lease?? {
    switch number() {
    case 0: return .some(nil)
    case 1:
      guard let generation = number(), let visible = number(), let deletions = number() else { return nil }
      let stamp = Stamp(visible: LSN(visible), deletions: deletions)
      return .some(Lease(generation: Generation(generation), stamp: stamp))
    default: return nil
    }
  }
}
